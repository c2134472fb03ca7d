"""Both variants against the published loss differentiated in the clear; what a run leaves and how it scores."""

import subprocess
import sys
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch
from neural_transfer_parties import SMALL, Run, clear_of, exchanged, parties, run

from ftl.errors import ConsortiumError, ProtocolError, RegistryError
from ftl.features import Frame
from ftl.protocols import Task, combine
from ftl.protocols.neural_transfer import RECIPE
from ftl.protocols.neural_transfer import passive as passive_program
from ftl.protocols.neural_transfer.calibration import calibrate
from ftl.protocols.neural_transfer.gradients import PassiveTerms

SHARED = 160
VARIANTS = ("encrypted", "shared")


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return parties()


@pytest.fixture(scope="module", params=VARIANTS)
def finished(request, frames) -> Run:
    return run(frames, SHARED, {**SMALL, "protection": request.param}, payloads=True)


@pytest.mark.parametrize("protection", VARIANTS)
@pytest.mark.parametrize("hidden", [3, 40])
def test_released_gradients_are_those_of_the_published_loss(frames, protection, hidden):
    clear, random = clear_of(frames, 60), np.random.default_rng(1)
    own, other = (random.normal(size=(x.shape[1], hidden)) for x in (clear.bank, clear.shop))
    tensors = [torch.from_numpy(weights).requires_grad_() for weights in (own, other)]
    clear.loss(*tensors, task_weight=20.0).backward()
    released = exchanged(protection, clear, own, other, task_weight=20.0)
    for mine, exact in zip(released, tensors, strict=True):
        assert mine == pytest.approx(exact.grad.numpy(), abs=0.02 * float(exact.grad.abs().max()) / np.sqrt(hidden))


@pytest.mark.parametrize("protection", VARIANTS)
def test_protected_training_ends_where_training_in_the_clear_does(frames, protection):
    result = run(frames, SHARED, {**SMALL, "protection": protection, "calibration": 0.0})
    clear = clear_of(frames, SHARED)
    centre, weights = clear.train(SMALL["hidden"], SMALL["epochs"], SMALL["task_weight"])
    stored = np.array(msgspec.json.decode(result.outcomes["shop"].part)["weights"])
    assert stored == pytest.approx(weights, abs=0.02)
    (layer,) = result.active.combiner.network
    assert np.array(layer.weights)[:, 0] == pytest.approx(centre, abs=0.005)


def test_the_people_of_the_holdout_get_what_the_parts_and_the_combiner_say(frames, finished):
    test = np.flatnonzero(frames[0].holdout)
    scores = {
        frame.party: RECIPE.load(finished.outcomes[frame.party].part, {}).sub_scores(frame.values[test])
        for frame in frames
    }
    answer = combine.answer(finished.active.combiner, "bank", scores)
    assert answer == pytest.approx(finished.active.probability, abs=1e-4)
    base = 1 / (1 + np.exp(-scores["bank"].log_odds))
    assert finished.active.baseline == pytest.approx(base)
    stranger = msgspec.structs.replace(
        scores["bank"],
        known=np.zeros(len(test), dtype=bool),
        log_odds=np.zeros(len(test)),
        share=np.zeros((len(test), 1)),
    )
    alone = combine.answer(finished.active.combiner, "bank", {**scores, "bank": stranger})
    assert alone == pytest.approx(finished.active.alone["shop"], abs=1e-4)
    assert combine.answered_rows(finished.active.combiner, "bank", {**scores, "bank": stranger}).all()


def test_people_whom_the_partner_does_not_know_get_the_active_partys_own_answer(frames, finished):
    part = RECIPE.load(finished.active.part, {})
    own = part.sub_scores(frames[0].values[:5])
    hidden = np.zeros((5, SMALL["hidden"]))
    leaves = np.zeros((5, 0), dtype=np.uint64)
    unknown = type(own)(np.zeros(5, dtype=bool), np.zeros(5), leaves, hidden=hidden)
    odds = combine.log_odds(finished.active.combiner, "bank", {"bank": own, "shop": unknown})
    assert odds.tolist() == own.log_odds.tolist()


def test_one_row_scores_like_a_batch_and_a_missing_value_like_no_other(frames, finished):
    part = RECIPE.load(finished.outcomes["shop"].part, {})
    rows = frames[1].values[:20]
    batch = part.sub_scores(rows).hidden
    for number, row in enumerate(rows):
        assert part.sub_scores(row[None]).hidden[0] == pytest.approx(batch[number])
    gaps = np.full((1, 3), np.nan)
    assert np.isfinite(part.sub_scores(gaps).hidden).all()


def test_the_partner_helps_and_progress_is_told(frames, finished):
    label = frames[0].label[frames[0].holdout]

    def loss(chance: np.ndarray) -> float:
        return float(-np.mean(label * np.log(chance) + (1 - label) * np.log(1 - chance)))

    assert loss(finished.active.probability) < loss(finished.active.baseline)
    steps = [step.round for step in finished.steps if step.phase == "train"]
    assert steps == list(range(1, SMALL["epochs"] + 1))


def test_reasons_are_what_a_columns_value_costs_in_the_own_model(frames, finished):
    part = RECIPE.load(finished.active.part, {"income": "R1", "debt": "R2"})
    said = part.sub_scores(frames[0].values[:30], reasons=True)
    assert set(said.lost) == {"R1", "R2"}
    assert (said.lost["R1"] >= 0).all()
    assert said.lost["R1"].max() > said.lost["R2"].max()


class Kept:
    """Checkpoints in memory, as of a node that lost its run after `last`."""

    def __init__(self, last: int) -> None:
        self.states: dict[int, bytes] = {}
        self.last = last

    def latest(self) -> tuple[int, bytes] | None:
        return (self.last, self.states[self.last]) if self.last in self.states else None

    def save(self, number: int, state: bytes) -> None:
        self.states[number] = state


@pytest.mark.parametrize("protection", VARIANTS)
def test_a_run_resumed_from_a_checkpoint_equals_the_undisturbed_one(frames, protection):
    given = {**SMALL, "epochs": 4, "checkpoint_every": 2, "protection": protection}
    kept = {"bank": Kept(2), "shop": Kept(2)}
    whole = run(frames, SHARED, given, checkpoints=kept.__getitem__)
    assert set(kept["shop"].states) == {2, 4}
    again = run(frames, SHARED, given, checkpoints=kept.__getitem__)
    assert [step.round for step in again.steps if step.phase == "train"] == [3, 4]
    assert again.outcomes["shop"].part == whole.outcomes["shop"].part
    assert again.active.combiner == whole.active.combiner


def test_with_too_few_shared_people_the_run_falls_back_and_says_so(frames):
    result = run(frames, 20)
    assert "20 shared training people are fewer than 40" in result.active.combiner.fell_back
    assert result.active.probability.tolist() == result.active.baseline.tolist()
    assert any("fell back to bank alone" in note for note in result.active.notes)


def test_labels_of_one_class_among_the_shared_people_fall_back_too(frames):
    label = frames[0].label.copy()
    label[:60] = 0
    result = run([replace(frames[0], label=label), frames[1]], 60)
    assert "fewer than 5 of one class" in result.active.combiner.fell_back


def test_a_partner_without_a_column_that_tells_people_apart_falls_back(frames):
    flat = replace(frames[1], columns=("same",), values=np.ones((len(frames[1].ids), 1)), categories={})
    result = run([frames[0], flat], SHARED)
    assert "shop has no column" in result.active.combiner.fell_back


def test_a_margin_that_ranks_the_wrong_way_round_counts_nothing():
    random = np.random.default_rng(0)
    label = (np.arange(200) % 2).astype(float)
    margin, own = random.normal(size=200) - 2 * label, random.normal(size=200) + 2 * label
    fit = calibrate(margin, own, label)
    assert fit.slope == 0
    assert fit.own > 0.5
    both = calibrate(-margin, own, label)
    assert both.slope > 0.5


def test_a_third_party_is_refused(frames):
    other = replace(frames[1], party="telecom")
    with pytest.raises(ConsortiumError, match="two parties, not 3"):
        run([*frames, other], SHARED)


def test_settings_name_the_nearest_right_key():
    with pytest.raises(ConsortiumError, match="Did you mean 'hidden'"):
        RECIPE.settings({"hiden": 3})
    with pytest.raises(ConsortiumError, match="'hidden' is 0"):
        RECIPE.settings({"hidden": 0})


def test_a_part_of_something_else_is_refused():
    with pytest.raises(RegistryError, match="none of neural_transfer"):
        RECIPE.load(b'{"type": "transfer_boost/active"}', {})


def test_scoring_needs_neither_torch_nor_seal():
    program = (
        "import sys\nfrom ftl.protocols.neural_transfer import RECIPE\n"
        "assert not {'torch', 'tenseal'} & set(sys.modules), 'loaded'"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("protection", VARIANTS)
def test_a_peer_that_sends_nonsense_is_named(frames, protection, monkeypatch):
    def nonsense(task: Task, *_rest: object) -> object:
        class Side:
            def gradient(self, _epoch: int, _terms: PassiveTerms) -> np.ndarray:
                for topic in ("epoch/0/operands", "epoch/0/prepare/operands"):
                    task.channel.send("bank", topic, msgspec.msgpack.encode({"items": [[b"x"] * 9] * 2}))
                return task.channel.receive("bank", "never", 30.0)

        return Side()

    monkeypatch.setattr(passive_program, "passive_exchange", nonsense)
    with pytest.raises(ProtocolError, match="'shop' sent what cannot be read"):
        run(frames, SHARED, {**SMALL, "protection": protection}, timeout=30.0)


def test_noise_moves_the_weights_and_no_noise_repeats_them(frames):
    given = {**SMALL, "epochs": 2, "protection": "encrypted"}
    plain, again = run(frames, SHARED, given), run(frames, SHARED, given)
    noisy = run(frames, SHARED, {**given, "noise": 5.0})
    assert plain.outcomes["shop"].part == again.outcomes["shop"].part
    assert noisy.outcomes["shop"].part != plain.outcomes["shop"].part
