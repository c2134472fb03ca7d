"""A run whose process was killed goes on from the last round that all parties have kept."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PLUGIN, make_consortium, simulate, write_validated
from deltalake import DeltaTable

from ftl.channel import connect
from ftl.errors import ChannelTimeout, EngineUnavailable, ProtocolError
from ftl.federation import MemoryEngine, Request
from ftl.federation.failure import Failure
from ftl.federation.link import Link
from ftl.federation.record import Ledger, RunRecord
from ftl.federation.resume import Kept, Resume, RunState, common
from ftl.protocols import Step

CARRY = """
import sys
from pathlib import Path
import msgspec
from ftl.consortium import load
from ftl.federation import MemoryEngine, Request

engine = MemoryEngine(load(sys.argv[1]))
engine.submit(msgspec.json.decode(sys.argv[2], type=Request))
list(engine.watch("r1"))
"""


def ask(run_id="r1", **options):
    return Request(run_id, "clear_rounds", 5, {"rounds": 8, **options}, timeout=20.0)


def carried(folder, request):
    engine = MemoryEngine(folder)
    engine.submit(request)
    lines = list(engine.watch(request.run_id))
    return engine.result(request.run_id), lines


def killed_at(folder, place, request):
    import msgspec

    environment = {**os.environ, "FTL_TEST_KILL": place, "PYTHONPATH": str(PLUGIN)}
    command = [sys.executable, "-c", CARRY, str(folder.root), msgspec.json.encode(request).decode()]
    return subprocess.run(command, env=environment, timeout=120, check=False, capture_output=True).returncode


@pytest.fixture
def pair(tmp_path):
    return make_consortium(tmp_path / "pair", simulate(("bank", "partner"), 200))


@pytest.mark.parametrize(("place", "after"), [("partner:5", 4), ("bank:8", 7), ("bank:1", None)])
def test_a_killed_run_goes_on_after_the_last_common_round_and_ends_as_if_undisturbed(pair, place, after):
    assert killed_at(pair, place, ask()) == -signal.SIGKILL
    engine = MemoryEngine(pair)
    with pytest.raises(EngineUnavailable, match="process that carried run r1 has ended"):
        list(engine.watch("r1"))
    resumed, lines = carried(pair, ask())
    undisturbed, _ = carried(pair, ask("undisturbed"))
    assert resumed.metrics == undisturbed.metrics
    assert [part.sha256 for part in resumed.parts] == [part.sha256 for part in undisturbed.parts]
    told = [line.step.round for line in lines if line.step.phase == "resume"]
    assert told == ([after] * 2 if after else [])
    rounds = [line.step.round for line in lines if line.party == "bank" and line.step.phase == "train"]
    assert rounds[-8 + (after or 0) :] == list(range((after or 0) + 1, 9))
    assert resumed.notes == ([f"resumed after round {after}"] if after else [])
    assert lines[-1].elapsed >= lines[0].elapsed


def test_the_alignment_is_not_repeated_and_nothing_stays_when_the_run_has_ended(pair):
    killed_at(pair, "partner:5", ask())
    node = pair.node("partner")
    kept = {path.name: path for path in node.run("r1").iterdir()}
    assert set(kept) == {"mark", "rows", "round-3", "round-4"}
    assert {path.stat().st_mode & 0o777 for path in kept.values()} == {0o600}
    assert node.run("r1").stat().st_mode & 0o777 == 0o700
    _, lines = carried(pair, ask())
    second = [line.step for line in lines[[line.step.phase for line in lines].index("resume") :]]
    assert not [step for step in second if step.phase == "align" and step.round]
    assert not node.run("r1").exists()
    assert not pair.node("bank").run("r1").exists()


def test_a_run_whose_data_have_changed_meanwhile_begins_anew(pair):
    killed_at(pair, "bank:5", ask())
    table = DeltaTable(str(pair.node("partner").validated("people"))).to_pyarrow_table()
    write_validated(pair, "partner", table.slice(0, 190))
    result, lines = carried(pair, ask())
    assert result.aligned["train"] + result.aligned["test"] == 190
    assert "resume" not in {line.step.phase for line in lines}


def test_a_run_that_fails_for_good_leaves_no_state_and_one_that_may_pass_keeps_it(pair):
    with pytest.raises(ProtocolError, match=r"bank: 'partner' sent under 'round/3' what is not"):
        carried(pair, ask(nonsense_at=3))
    assert not pair.node("bank").run("r1").exists()
    assert not pair.node("partner").run("r1").exists()
    slow = Request("slow", "clear_rounds", 5, {"rounds": 3, "pause": 1.5}, timeout=1.0)
    with pytest.raises(ChannelTimeout, match=r"waited 1 s for \w+ to send 'round/1'"):
        carried(pair, slow)
    assert pair.node("bank").run("slow").exists()


def test_only_what_all_parties_have_kept_of_one_attempt_counts():
    first, other = b"a" * 16, b"b" * 16
    ahead, behind = Kept(first, True, [4, 5]), Kept(first, True, [3, 4])
    assert common([ahead, behind]) == Resume(first, True, 4)
    assert common([ahead, Kept(first, True, [])]) == Resume(first, True, 0)
    assert common([ahead, Kept(first, False, [])]) == Resume(first, False, 0)
    assert common([ahead, Kept(other, True, [4, 5])]) is None
    assert common([Kept(), Kept()]) is None


@pytest.mark.parametrize(
    "decision",
    [
        Resume(b"short"),
        Resume(b"c" * 16, True, 0),
        Resume(b"a" * 16, True, 9),
        Resume(b"a" * 16, False, 4),
    ],
)
def test_a_decision_that_a_party_cannot_follow_is_refused_by_the_name_of_the_active_one(tmp_path, decision):
    import msgspec

    ends = connect(["bank", "partner"])
    state = RunState(tmp_path / "r1")
    with state.held(1.0):
        ends["bank"].send("partner", "resume", msgspec.msgpack.encode(Resume(b"a" * 16)))
        state.agree(Link(ends["partner"]), "bank", 1.0, b"f")
        for number in (3, 4):
            state.save(number, b"state")
        ends["bank"].send("partner", "resume", msgspec.msgpack.encode(decision))
        with pytest.raises(ProtocolError, match="bank decided to go on from what partner has not kept"):
            RunState(tmp_path / "r1").agree(Link(ends["partner"]), "bank", 1.0, b"f")


def test_two_attempts_of_one_run_never_work_on_the_same_folder(tmp_path):
    with (
        RunState(tmp_path / "r1").held(1.0),
        pytest.raises(EngineUnavailable, match="former attempt of run r1 still works"),
        RunState(tmp_path / "r1").held(0.3),
    ):
        pass
    with RunState(tmp_path / "r1").held(0.3), RunState(tmp_path / "r2").held(0.3):
        assert (tmp_path / "r2").exists()


def test_what_nobody_has_resumed_for_a_week_is_removed(tmp_path):
    for run, days in (("old", 8), ("recent", 6)):
        with RunState(tmp_path / run).held(0.3):
            pass
        lock = tmp_path / f"{run}.lock"
        os.utime(lock, (lock.stat().st_mtime - days * 86_400,) * 2)
    with RunState(tmp_path / "new").held(0.3):
        assert sorted(path.name for path in Path(tmp_path).iterdir()) == ["new", "new.lock", "recent", "recent.lock"]


def test_a_late_word_of_a_failed_attempt_does_not_touch_the_next_one(tmp_path):
    record = RunRecord(tmp_path / "r1")
    record.begin(ask())
    first = Ledger(record, ("bank", "partner"))
    first.failed(Failure("engine_unavailable", "partner: its part of the run has ended without a word."))
    assert record.begin(ask())
    first.step("bank", Step("train", 7))
    first.failed(Failure("protocol", "bank: too late."))
    assert not record.ended
    second = Ledger(record, ("bank", "partner"))
    second.step("bank", Step("resume", 4))
    assert [(line.number, line.step.phase) for line in record.progress()] == [(1, "resume")]
    second.failed(Failure("protocol", "bank: in time."))
    assert record.failure().message == "bank: in time."
