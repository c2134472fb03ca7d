"""The protocol against an independent clear computation, over real and clear ciphers, and where it must not learn."""

import numpy as np
import pytest
from clear_cipher import ClearScheme
from transfer_boost_parties import SMALL, Run, parties, relabel, run

from ftl.errors import ConsortiumError, ProtocolError, RegistryError
from ftl.features import BinEdges, Frame
from ftl.protocols.combine import log_odds
from ftl.protocols.transfer_boost import RECIPE
from ftl.protocols.transfer_boost import active as active_program
from ftl.protocols.transfer_boost import passive as passive_program
from ftl.protocols.transfer_boost.candidates import Candidates
from ftl.protocols.transfer_boost.messages import Sides, Sums
from ftl.protocols.transfer_boost.partition import fold_of

SHARED = 200


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return parties()


@pytest.fixture(scope="module")
def clear(frames: list[Frame]) -> Run:
    return run(frames, SHARED, ClearScheme(), payloads=True)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


class Reference:
    """The same trees in plain floats, row sets instead of histograms, nothing encrypted, nothing subtracted."""

    def __init__(self, frames: list[Frame], start: np.ndarray, depth: int, rounds: int) -> None:
        self.frames, self.depth = frames, depth
        self.label = frames[0].label[:SHARED]
        self.fold = fold_of(SHARED, SMALL["folds"], 11)
        self.odds = np.repeat(start[None], SMALL["folds"], axis=0)
        self.candidates = {}
        for frame in frames:
            values, codes = frame.values, frame.categorical
            if frame.party == "bank":
                labelled = ~frame.holdout
                values, codes = np.full((len(start_of[0]), 4), np.nan), np.append(codes, False)
                values[:, 3] = start_of[0]
                edges = BinEdges.fit(values[labelled], codes, SMALL["max_bins"])
            else:
                edges = BinEdges.fit(values, codes, SMALL["max_bins"])
            self.candidates[frame.party] = Candidates(values[:SHARED], edges, SMALL["min_bucket"])
        self.leaves: list[np.ndarray] = []
        self.values: list[list[float]] = []
        for _ in range(rounds):
            self.grow_round()

    def grow_round(self) -> None:
        chance = sigmoid(self.odds)
        for tree in range(SMALL["folds"]):
            gradient, hessian = chance[tree] - self.label, chance[tree] * (1 - chance[tree])
            trained = self.fold != tree
            leaf = np.zeros(SHARED, dtype=int)
            self.split(np.ones(SHARED, dtype=bool), {}, 0, 0, leaf, gradient, hessian, trained)
            steps = [
                -0.3 * gradient[trained & (leaf == n)].sum() / (hessian[trained & (leaf == n)].sum() + SMALL["l2"])
                for n in range(2**self.depth)
            ]
            self.leaves.append(leaf)
            self.values.append(steps)
            self.odds[tree] += np.array(steps)[leaf]

    def split(self, node, allowed, number, level, leaf, gradient, hessian, trained, sibling=None) -> None:
        if level == self.depth:
            leaf[node] = number
            return
        best, left, passed = 1e-6, None, {}
        for party, candidates in self.candidates.items():
            shown = [node & trained] if sibling is None else [node & trained, sibling & trained]
            before = allowed.get(party, np.ones(candidates.count, dtype=bool))
            released = before
            if party != "bank":
                released = candidates.releasable([candidates.counts(people) for people in shown], before)
            passed[party] = released
            for candidate in np.flatnonzero(released):
                people = candidates.goes_left(candidate)
                sides = [node & trained & people, node & trained & ~people]
                if min(side.sum() for side in sides) < SMALL["min_bucket"]:
                    continue
                score = [gradient[s].sum() ** 2 / (hessian[s].sum() + SMALL["l2"]) for s in (*sides, node & trained)]
                gain = score[0] + score[1] - score[2]
                if gain > best + 1e-12:
                    best, left = gain, node & people
        if left is None:
            leaf[node] = number << (self.depth - level)
            return
        right = node & ~left
        arguments = (leaf, gradient, hessian, trained)
        self.split(left, passed, 2 * number, level + 1, *arguments, sibling=right)
        self.split(right, passed, 2 * number + 1, level + 1, *arguments, sibling=left)


start_of: list[np.ndarray] = []
"""Out-of-fold log-odds of the run under test, seen by `remember`."""


@pytest.fixture
def remember(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = active_program._fit_start

    def seen(task):
        start = fit(task)
        start_of[:] = [start.honest]
        return start

    monkeypatch.setattr(active_program, "_fit_start", seen)


@pytest.mark.usefixtures("remember")
@pytest.mark.parametrize(("partners", "depth"), [(("partner",), 1), (("partner",), 2), (("shop", "telecom"), 3)])
def test_the_protocol_grows_the_trees_of_a_clear_float_computation(partners: tuple[str, ...], depth: int) -> None:
    frames = parties(partners=partners)
    result = run(frames, SHARED, ClearScheme(), {**SMALL, "depth": depth})
    combiner = result.active.combiner
    kept = len(combiner.trees)
    assert kept >= SMALL["folds"]
    reference = Reference(frames, start_of[0][:SHARED], depth, kept // SMALL["folds"])
    expected = np.array(reference.values) / SMALL["folds"]
    np.testing.assert_allclose(np.array(combiner.trees), expected, atol=1e-7)
    scores = {}
    for frame in frames:
        part = RECIPE.load(result.outcomes[frame.party].part, {})
        scores[frame.party] = part.sub_scores(frame.values[:SHARED])
    for (
        party
    ) in partners:  # who goes where by the partners' splits; the base's log-odds differ from the out-of-fold ones
        masks = scores[party].leaves
        for tree, leaf in enumerate(reference.leaves):
            assert (masks[np.arange(SHARED), tree] >> leaf.astype(np.uint64) & np.uint64(1)).all()


def test_encrypted_and_clear_runs_agree_exactly(frames: list[Frame], clear: Run) -> None:
    encrypted = run(frames, SHARED, None)
    assert encrypted.active.combiner == clear.active.combiner
    assert np.array_equal(encrypted.active.probability, clear.active.probability)
    assert encrypted.outcomes["partner"].part == clear.outcomes["partner"].part
    assert encrypted.active.part == clear.active.part


def test_a_useful_partner_improves_the_holdout_and_progress_is_aggregated(frames: list[Frame], clear: Run) -> None:
    label = frames[0].label[frames[0].holdout]

    def loss(chance: np.ndarray) -> float:
        return float(-np.mean(label * np.log(chance) + (1 - label) * np.log(1 - chance)))

    assert loss(clear.active.probability) < loss(clear.active.baseline) - 0.01
    rounds = [step for step in clear.steps if step.phase == "train"]
    assert [step.round for step in rounds] == list(range(1, len(rounds) + 1))
    assert all(set(step.metrics) == {"validation_auc", "validation_loss"} for step in rounds)
    assert clear.active.combiner.parties == ["bank", "partner"]


def test_probabilities_are_what_the_loaded_parts_combine_to(frames: list[Frame], clear: Run) -> None:
    scores = {
        frame.party: RECIPE.load(clear.outcomes[frame.party].part, {}).sub_scores(frame.values[frames[0].holdout])
        for frame in frames
    }
    combined = log_odds(clear.active.combiner, "bank", scores)
    np.testing.assert_allclose(sigmoid(combined), clear.active.probability, rtol=1e-12)


def test_a_row_alone_gets_the_sub_scores_it_gets_in_a_batch(frames: list[Frame], clear: Run) -> None:
    reasons = {"hidden": "H1", "coarse": "C1", "again": "C1", "income": "I1", "debt": "D1"}
    for frame in frames:
        part = RECIPE.load(clear.outcomes[frame.party].part, reasons)
        batch = part.sub_scores(frame.values[:50], reasons=True)
        for row in (0, 7, 49):
            one = part.sub_scores(frame.values[[row]], reasons=True)
            assert one.log_odds[0] == batch.log_odds[row]
            assert np.array_equal(one.leaves[0], batch.leaves[row])
            assert {code: lost[0] for code, lost in one.lost.items()} == {c: v[row] for c, v in batch.lost.items()}
            for code, (trees, masks) in one.relaxed.items():
                assert np.array_equal(trees, batch.relaxed[code][0])
                assert np.array_equal(masks[0], batch.relaxed[code][1][row])


def test_reasons_cost_nothing_or_something_and_only_widen_what_can_be_reached(frames: list[Frame], clear: Run) -> None:
    reasons = {"hidden": "H1", "coarse": "C1", "again": "C1", "income": "I1", "noise": "N1"}
    bank, partner = (
        RECIPE.load(clear.outcomes[frame.party].part, reasons).sub_scores(frame.values, reasons=True)
        for frame in frames
    )
    assert set(bank.lost) == {"I1", "N1"}
    assert all((lost >= 0).all() for lost in bank.lost.values())
    assert bank.lost["I1"].max() > bank.lost["N1"].max()
    assert partner.lost == {}
    assert "H1" in partner.relaxed
    for scores in (bank, partner):
        for trees, masks in scores.relaxed.values():
            assert len(trees)
            assert np.array_equal(masks & scores.leaves[:, trees], scores.leaves[:, trees])


def test_parts_hold_nothing_of_the_other_party_and_no_leaf_value(frames: list[Frame], clear: Run) -> None:
    values = {repr(value) for tree in clear.active.combiner.trees for value in tree if value}
    partner, bank = (clear.outcomes[name].part.decode() for name in ("partner", "bank"))
    assert not any(value in partner for value in values)
    assert not any(value in bank for value in values)
    edges = BinEdges.fit(frames[1].values, frames[1].categorical, SMALL["max_bins"]).edges[0]
    assert any(repr(float(edge)) in partner for edge in edges)
    assert not any(repr(float(edge)) in bank for edge in edges)
    for frame in frames:
        assert frame.ids[0] not in partner + bank


@pytest.mark.parametrize("shared", [0, 20])
def test_with_nobody_or_too_few_shared_the_active_party_stands_alone(frames: list[Frame], shared: int) -> None:
    result = run(frames, shared, ClearScheme())
    combiner = result.active.combiner
    assert combiner.trees == []
    assert combiner.parties == []
    assert combiner.fell_back == f"{shared} shared training people are fewer than 40"
    assert np.array_equal(result.active.probability, result.active.baseline)
    assert "fell back to bank alone" in result.active.notes[0]
    part = RECIPE.load(result.outcomes["partner"].part, {})
    assert part.sub_scores(frames[1].values[:3]).leaves.shape == (3, 0)


def test_shared_people_of_one_class_teach_nothing(frames: list[Frame]) -> None:
    label = np.where(np.arange(400) < SHARED, 0.0, frames[0].label)
    result = run([relabel(frames[0], label), frames[1]], SHARED, ClearScheme())
    assert "fewer than 5 of one class" in result.active.combiner.fell_back


def test_a_partner_without_a_usable_column_ends_in_the_active_party_alone(frames: list[Frame]) -> None:
    empty = Frame("partner", ("flat", "gone"), np.column_stack([np.ones(400), np.full(400, np.nan)]), {}, frames[1].ids)
    result = run([frames[0], empty], SHARED, ClearScheme())
    assert result.active.combiner.fell_back == "no other party has a column that splits the shared people"
    both = run([*frames, Frame("shop", empty.columns, empty.values, {}, empty.ids)], SHARED, ClearScheme())
    assert both.active.combiner.parties == ["bank", "partner"]
    assert np.array_equal(both.active.probability, run(frames, SHARED, ClearScheme()).active.probability)


def test_a_partner_of_noise_is_not_trusted() -> None:
    frames = parties(people=800, partners=("partner",))
    random = np.random.default_rng(5)
    noise = Frame("partner", ("a", "b"), random.normal(size=(800, 2)), {}, frames[1].ids)
    settings = {**SMALL, "rounds": 20, "l2": 0.5}
    result = run([frames[0], noise], 300, ClearScheme(), settings)
    assert result.active.combiner.fell_back is not None or result.active.combiner.scale < 0.9


@pytest.mark.parametrize(
    ("name", "broken", "match"),
    [
        ("Sums", lambda m: Sums(m.ciphertexts, m.sent[:, :-1]), r"'partner' sent an array of shape .* under 'round/0"),
        ("Sums", lambda m: Sums(m.ciphertexts[:-1], m.sent), r"'partner' sent sums of \d nodes"),
        ("Sums", lambda m: Sums([b"[1, 2]"] * len(m.ciphertexts), m.sent), "'partner' sent sums that cannot be read"),
        ("Sides", lambda m: Sides(m.left ^ np.uint8(255)), "'partner' sent people to the left"),
    ],
)
def test_a_partner_that_sends_nonsense_is_named(
    frames: list[Frame], monkeypatch: pytest.MonkeyPatch, name: str, broken, match: str
) -> None:
    send = passive_program.send

    def tampered(task, to, topic, message):
        send(task, to, topic, broken(message) if type(message).__name__ == name else message)

    monkeypatch.setattr(passive_program, "send", tampered)
    with pytest.raises(ProtocolError, match=match):
        run(frames, SHARED, ClearScheme())


def test_settings_name_the_wrong_key_and_the_nearest_right_one() -> None:
    with pytest.raises(ConsortiumError, match=r"no setting 'learning_rat'. Did you mean 'learning_rate'"):
        RECIPE.settings({"learning_rat": 0.1})
    with pytest.raises(ConsortiumError, match=r"'rounds' is 0: .*default is None"):
        RECIPE.settings({"rounds": 0})
    with pytest.raises(ConsortiumError, match=r"'cipher' is 'clear'"):
        RECIPE.settings({"cipher": "clear"})


def test_bytes_that_are_no_part_are_refused() -> None:
    with pytest.raises(RegistryError, match="none of transfer_boost"):
        RECIPE.load(b'{"type": "other"}', {})
