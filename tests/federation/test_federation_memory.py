"""Runs over the in-memory channel: what comes out, what is kept, and how a failure ends them."""

import hashlib
import threading
import time

import numpy as np
import pytest
from conftest import make_consortium, simulate

from ftl.errors import ChannelTimeout as FtlTimeout
from ftl.errors import ConsortiumError, FederationError, ProtocolError, RegistryError
from ftl.federation import MemoryEngine, Request, read_part
from ftl.protocols import Step


def ask(run_id, *, seed=0, max_shared=None, recipe="clear_logistic", timeout=20.0, **settings):
    return Request(run_id, recipe, seed, settings, max_shared, timeout)


def run(folder, run_id="r1", **options):
    engine = MemoryEngine(folder)
    engine.submit(ask(run_id, **options))
    progress = list(engine.watch(run_id))
    return engine.result(run_id), progress


@pytest.fixture
def pair(tmp_path):
    return make_consortium(tmp_path, simulate(("bank", "partner")))


def test_the_federated_model_beats_the_active_party_alone(pair):
    result, progress = run(pair)
    assert result.aligned == {"train": 300, "test": 100}
    assert result.metrics["federated"].auc > result.metrics["active_only"].auc + 0.03
    assert result.gain["auc"][0] == result.metrics["federated"].auc - result.metrics["active_only"].auc
    assert result.rows == {"bank": 400, "partner": 400}
    assert result.columns == {"bank": 3, "partner": 3}
    assert set(result.seconds) == {"align", "train", "evaluate"}
    assert [line.number for line in progress] == list(range(1, len(progress) + 1))
    assert {line.party for line in progress} == {"bank", "partner"}
    assert Step("train", 3, 0, {"loss": 1 / 3}) in [line.step for line in progress]


def test_bytes_and_messages_are_counted_at_their_sender(pair):
    few, _ = run(pair, "few", rounds=1)
    many, _ = run(pair, "many", rounds=11, large=1000)
    assert many.messages["bank"] - few.messages["bank"] == 10
    assert many.bytes_sent["bank"] - few.bytes_sent["bank"] == 10 * 100
    assert many.messages["partner"] - few.messages["partner"] == 11
    assert many.bytes_sent["partner"] - few.bytes_sent["partner"] == 10 * 100 + 1000


def test_the_same_seed_gives_the_same_figures_and_another_draws_others(pair):
    first, second, third = (
        run(pair, name, seed=seed, max_shared=80)[0] for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first.metrics == second.metrics
    assert [part.sha256 for part in first.parts] == [part.sha256 for part in second.parts]
    assert first.aligned == {"train": 80, "test": 100}
    assert third.metrics["federated"].auc != first.metrics["federated"].auc


def test_only_people_known_to_all_three_parties_are_used(tmp_path):
    rows = {"partner": np.arange(0, 300), "shop": np.arange(100, 400)}
    folder = make_consortium(tmp_path, simulate(("bank", "partner", "shop")), rows)
    result, _ = run(folder)
    assert result.aligned == {"train": 150, "test": 50}
    assert result.rows == {"bank": 400, "partner": 300, "shop": 300}
    assert [part.party for part in result.parts] == ["bank", "partner", "shop"]


def test_a_party_that_is_left_out_takes_no_part(tmp_path):
    folder = make_consortium(tmp_path, simulate(("bank", "partner", "shop")), {"shop": np.arange(100, 200)})
    engine = MemoryEngine(folder)
    engine.submit(Request("r1", "clear_logistic", 0, parties=["bank", "partner"]))
    list(engine.watch("r1"))
    result = engine.result("r1")
    assert result.aligned == {"train": 300, "test": 100}
    assert [part.party for part in result.parts] == ["bank", "partner"]
    assert not folder.node("shop").model("r1").exists()


@pytest.mark.parametrize(
    ("parties", "message"),
    [
        (["partner", "shop"], "A run needs bank, which has the label"),
        (["bank"], "and at least one other party"),
        (["bank", "shpo"], "There is no party 'shpo'"),
    ],
)
def test_parties_that_cannot_train_together_are_refused(tmp_path, parties, message):
    folder = make_consortium(tmp_path, simulate(("bank", "partner", "shop")))
    with pytest.raises(FederationError, match=message):
        MemoryEngine(folder).submit(Request("r1", "clear_logistic", 0, parties=parties))


def test_every_party_keeps_its_part_and_the_coordinator_only_its_hash(pair):
    result, _ = run(pair)
    for pointer in result.parts:
        node = pair.node(pointer.party)
        stored = read_part(node, "r1", pointer.sha256)
        assert hashlib.sha256(stored.part + stored.encoder).hexdigest() == pointer.sha256
        assert stored.manifest.columns == ["x0", "x1", "x2"]
        assert {path.name for path in node.model("r1").iterdir()} == {"part.json", "encoder.json", "manifest.json"}
    part = (pair.node("bank").model("r1") / "part.json").read_text()
    written = "".join(path.read_text() for path in pair.run("r1").iterdir())
    assert part.strip("[]").split(",")[0] not in written


def test_a_changed_part_is_refused(pair):
    run(pair)
    (pair.node("bank").model("r1") / "part.json").write_text("[1, 2, 3]")
    with pytest.raises(RegistryError, match="model part of run r1 at bank has sha256"):
        read_part(pair.node("bank"), "r1")


def test_a_run_is_started_once_and_found_again_by_another_engine(pair):
    first, progress = run(pair)
    other = MemoryEngine(pair)
    other.submit(ask("r1"))
    assert list(other.watch("r1")) == progress
    assert list(other.watch("r1", after=3)) == progress[3:]
    assert other.result("r1") == first


def test_an_id_cannot_be_used_for_another_request(pair):
    run(pair)
    with pytest.raises(FederationError, match="Run r1 was already submitted with another recipe, seed or setting"):
        MemoryEngine(pair).submit(ask("r1", seed=5))


def test_an_id_cannot_name_a_path(pair):
    with pytest.raises(FederationError, match=r"'\.\./elsewhere' cannot name a run"):
        MemoryEngine(pair).submit(ask("../elsewhere"))


@pytest.mark.parametrize("party", ["bank", "partner"])
def test_a_failing_party_ends_the_run_quickly_and_by_its_name(pair, party):
    engine = MemoryEngine(pair)
    start = time.monotonic()
    engine.submit(ask("r1", fail_at=party, timeout=60.0))
    with pytest.raises(ProtocolError, match=f"^{party}: the recipe was told to fail here") as caught:
        list(engine.watch("r1"))
    assert time.monotonic() - start < 15
    assert caught.value.cure == "Do not tell it to."
    with pytest.raises(ProtocolError, match=f"^{party}: "):
        engine.result("r1")
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("r1-") for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("r1-")]


def test_the_text_of_a_foreign_exception_stays_at_the_party(pair):
    engine = MemoryEngine(pair)
    engine.submit(ask("r1", crash_at="partner"))
    with pytest.raises(FederationError, match=r"^partner: ValueError in ") as caught:
        list(engine.watch("r1"))
    assert "A123" not in str(caught.value)
    assert "A123" not in (pair.run("r1") / "error.json").read_text()


def test_a_silent_peer_is_named_with_the_topic_that_was_awaited(pair):
    engine = MemoryEngine(pair)
    engine.submit(ask("r1", pause=5.0, timeout=1.0))
    with pytest.raises(FtlTimeout, match=r"bank.* 1 s .*partner.*round/0"):
        list(engine.watch("r1"))


def test_a_transient_failure_may_be_tried_again_under_the_same_id(pair):
    engine = MemoryEngine(pair)
    engine.submit(ask("r1", pause=1.0, timeout=0.2, rounds=1))
    with pytest.raises(FtlTimeout):
        list(engine.watch("r1"))
    seen = len(list(pair.run("r1").glob("error*.json")))
    time.sleep(1.5)  # until the slow party has ended too
    engine.submit(ask("r1", pause=1.0, timeout=0.2, rounds=1))
    with pytest.raises(FtlTimeout):
        list(engine.watch("r1"))
    assert (seen, len(list(pair.run("r1").glob("error*.json")))) == (1, 2)


def test_nobody_in_common_is_evaluated_on_the_active_partys_own_holdout(tmp_path):
    rows = {"bank": np.arange(0, 200), "partner": np.arange(200, 400)}
    folder = make_consortium(tmp_path, simulate(("bank", "partner")), rows)
    result, _ = run(folder)
    assert result.aligned == {"train": 0, "test": 0}
    assert result.metrics["federated"] == result.metrics["active_only"]
    assert result.metrics["federated"].people == 50
    assert result.gain["auc"] == (0.0, 0.0, 0.0)
    assert "No person is known to every party; the figures are of the active party's own holdout." in result.notes


def test_a_holdout_of_one_class_is_refused_before_anything_is_trained(tmp_path):
    people = simulate(("bank", "partner"))
    one_class = np.flatnonzero(~people.holdout | (people.label == 0))
    folder = make_consortium(tmp_path, people, {"partner": one_class})
    engine = MemoryEngine(folder)
    engine.submit(ask("r1"))
    phases = []
    with pytest.raises(FederationError, match=r"bank: The holdout has \d+ people of one class"):
        phases.extend(line.step.phase for line in engine.watch("r1"))
    assert set(phases) <= {"align"}


def test_an_unknown_recipe_and_an_unknown_run_are_named(pair):
    engine = MemoryEngine(pair)
    engine.submit(ask("r1", recipe="clear_logistics"))
    with pytest.raises(ConsortiumError, match=r"no recipe 'clear_logistics'\. Did you mean 'clear_logistic'"):
        list(engine.watch("r1"))
    with pytest.raises(FederationError, match="There is no run r9"):
        engine.result("r9")
    with pytest.raises(FederationError, match="There is no run r9"):
        list(engine.watch("r9"))


def test_two_runs_at_once_do_not_mix(pair):
    engine = MemoryEngine(pair)
    alone = run(pair, "alone", seed=1, max_shared=60)[0]
    for name, seed in (("x", 1), ("y", 2)):
        engine.submit(ask(name, seed=seed, max_shared=60, rounds=20, pause=0.01))
    for name in ("x", "y"):
        list(engine.watch(name))
    assert engine.result("x").metrics == alone.metrics
    assert engine.result("y").metrics != alone.metrics


def test_a_run_whose_process_has_ended_is_found_out_and_can_be_started_again(pair):
    from ftl.federation.record import Attempt, RunRecord

    record = RunRecord(pair.run("r1"))
    record.begin(ask("r1"))
    record.carried_by(Attempt("memory", "999999999@1.0", time.time()))
    engine = MemoryEngine(pair)
    with pytest.raises(FederationError, match="process that carried run r1 has ended"):
        list(engine.watch("r1"))
    engine.submit(ask("r1"))
    assert list(engine.watch("r1"))
    assert engine.result("r1").aligned["train"] == 300
