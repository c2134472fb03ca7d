"""The protocol against an independent clear computation, over real and clear ciphers, and where it must not learn."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import pytest
from clear_cipher import ClearCipher, ClearScheme
from sklearn.ensemble import HistGradientBoostingRegressor
from transfer_boost_parties import SMALL, Memory, Run, parties, relabel, run

from ftl.crypto import Ciphertexts, Plaintexts
from ftl.errors import ChannelError, ConsortiumError, ProtocolError, RegistryError
from ftl.features import BinEdges, Frame
from ftl.protocols.boosting import Candidates, LogLoss, columns_of
from ftl.protocols.boosting import passive as core
from ftl.protocols.boosting.messages import Sides, Sums
from ftl.protocols.combine import Combination, log_odds
from ftl.protocols.recipe import Combiner
from ftl.protocols.transfer_boost import RECIPE
from ftl.protocols.transfer_boost import active as active_program
from ftl.protocols.transfer_boost import start as start_module
from ftl.protocols.transfer_boost.blend import Opinion, fit_blend
from ftl.protocols.transfer_boost.messages import Kept
from ftl.protocols.transfer_boost.start import Start
from ftl.protocols.transfer_boost.validation import draw_training

SHARED = 200
SEED = 11


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return parties()


@pytest.fixture(scope="module")
def clear(frames: list[Frame]) -> Run:
    return run(frames, SHARED, ClearScheme())


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def log_loss(label: np.ndarray, chance: np.ndarray) -> float:
    return float(-np.mean(label * np.log(chance) + (1 - label) * np.log(1 - chance)))


class Reference:
    """Stumps in plain floats on sets of rows: nothing encrypted, packed, merged or subtracted.

    Args:
        frames: partners' frames.
        training: bool, shape (ensembles, SHARED).
        start: float64, shape (SHARED,).
    """

    def __init__(self, frames: list[Frame], training: np.ndarray, start: np.ndarray) -> None:
        self.frames, self.training = frames, training
        self.margins = np.repeat(start[None], len(training), axis=0)
        self.start, self.test = start, np.flatnonzero(np.arange(len(frames[0].ids)) >= 300)
        self.answers = np.zeros(len(self.test))
        self.candidates = {
            frame.party: Candidates(
                frame.values[:SHARED],
                BinEdges.fit(frame.values, frame.categorical, SMALL["max_bins"]),
                SMALL["min_bucket"],
            )
            for frame in frames
        }

    def round(self, number: int, gradient: np.ndarray, hessian: np.ndarray, l2: float, share: float) -> None:
        trees = len(self.training)
        usable = {
            party: columns_of(SEED, party, number, trees, len(own.columns), share)
            for party, own in self.candidates.items()
        }
        for tree, trained in enumerate(self.training):
            best, chosen = 1e-6, None
            for frame in self.frames:
                own = self.candidates[frame.party]
                released = own.releasable([own.counts(trained)], usable[frame.party][tree][own.place])
                for candidate in np.flatnonzero(released):
                    left = own.goes_left(candidate)
                    sides = [trained & left, trained & ~left, trained]
                    if min(side.sum() for side in sides) < SMALL["min_bucket"]:
                        continue
                    score = [gradient[tree, s].sum() ** 2 / (hessian[tree, s].sum() + l2) for s in sides]
                    if score[0] + score[1] - score[2] > best + 1e-12:
                        best, chosen = score[0] + score[1] - score[2], (frame, own, candidate, sides)
            assert chosen is not None
            frame, own, candidate, sides = chosen
            steps = [-0.3 * gradient[tree, s].sum() / (hessian[tree, s].sum() + l2) for s in sides[:2]]
            self.margins[tree] += np.where(own.goes_left(candidate), *steps)
            self.answers += np.where(self._left(frame, own, candidate), *steps) / trees

    def _left(self, frame: Frame, own: Candidates, candidate: int) -> np.ndarray:
        column, threshold, codes, missing_left = own.describe(candidate)
        values = frame.values[self.test, column.number]
        if threshold is None:
            return np.isin(values, codes)
        assert own.is_missing(column).any() or not np.isnan(values).any()
        return np.where(np.isnan(values), missing_left, values <= threshold)

    def held_out(self) -> np.ndarray:
        unseen = ~self.training
        return np.array([self.margins[unseen[:, i], i].mean() for i in range(SHARED)]) - self.start


starts: list[Start] = []
"""What the active party of the run under test began with, seen by `remember`."""


@pytest.fixture
def remember(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fit = start_module.fit_start

    def seen(task):
        starts.append(fit(task))
        return starts[-1]

    monkeypatch.setattr(start_module, "fit_start", seen)
    yield
    starts.clear()


@pytest.mark.usefixtures("remember")
@pytest.mark.parametrize("partners", [("partner",), ("shop", "telecom")])
def test_the_protocol_answers_like_a_clear_float_computation(partners: tuple[str, ...]) -> None:
    bank, *others = parties(partners=partners, common=0.8)
    settings = {**SMALL, "partner_only": False, "rounds": 2}
    result = run([bank, *others], SHARED, ClearScheme(), settings)
    record, [start] = result.active.settings, starts
    label, base = bank.label[:SHARED], start.honest[:SHARED]
    training = draw_training(SHARED, SMALL["folds"], 2, SEED)
    honest = sigmoid(start.honest[:300])
    opinion = (honest[:SHARED] - honest[:SHARED].mean()) / honest.var()
    first = Reference(others, training, np.zeros(SHARED))
    for number in range(SMALL["opinion_rounds"]):
        first.round(number, first.margins - opinion, np.ones_like(first.margins), 2.0, 0.15)
    second = Reference(others, training, base)
    for number in range(record["rounds_kept"]):
        chance = sigmoid(second.margins)
        second.round(number, chance - label, chance * (1 - chance), SMALL["l2"], 1.0)
    parts = base, first.held_out(), second.held_out()
    trust = Opinion(opinion, np.ones(SHARED)).trust(parts[1])
    blend = fit_blend(LogLoss(), label, np.ones(SHARED), parts, trust)
    assert blend.opinion > 0
    added = blend.opinion * first.margins.mean(axis=0) + blend.label * (second.margins.mean(axis=0) - base)
    common = HistGradientBoostingRegressor(
        max_iter=60, learning_rate=0.05, max_leaf_nodes=6, l2_regularization=5, min_samples_leaf=5, random_state=SEED
    ).fit(np.column_stack([bank.values[:SHARED], base]), added)
    own = start.base.log_odds(bank.values[300:])
    factor = (1 + blend.base) / 2
    expected = blend.margin(own, first.answers, second.answers) + (factor - blend.base) * (own - base.mean())
    taken = common.predict(np.column_stack([bank.values[300:], own]))
    mean = common.predict(np.column_stack([bank.values[:SHARED], base])).mean()
    np.testing.assert_allclose(result.active.probability, sigmoid(expected - (taken - mean) / 2), atol=1e-6)


def test_encrypted_and_clear_runs_agree_exactly(frames: list[Frame], clear: Run) -> None:
    encrypted = run(frames, SHARED, None)
    assert encrypted.active.combiner == clear.active.combiner
    assert np.array_equal(encrypted.active.probability, clear.active.probability)
    assert np.array_equal(encrypted.active.alone["partner"], clear.active.alone["partner"])
    assert encrypted.outcomes["partner"].part == clear.outcomes["partner"].part
    assert encrypted.active.part == clear.active.part


def test_a_useful_partner_improves_the_holdout_and_progress_is_aggregated(frames: list[Frame], clear: Run) -> None:
    label = frames[0].label[frames[0].holdout]
    assert log_loss(label, clear.active.probability) < log_loss(label, clear.active.baseline) - 0.01
    rounds = [step for step in clear.steps if step.phase == "train"]
    assert [step.round for step in rounds] == list(range(1, len(rounds) + 1))
    assert {name for step in rounds for name in step.metrics} == {"validation_auc", "validation_loss"}
    assert clear.active.combiner.parties == ["bank", "partner"]


def test_probabilities_are_what_the_loaded_parts_combine_to(frames: list[Frame], clear: Run) -> None:
    scores = {
        frame.party: RECIPE.load(clear.outcomes[frame.party].part, {}).sub_scores(frame.values[frames[0].holdout])
        for frame in frames
    }
    combined = log_odds(clear.active.combiner, "bank", scores)
    np.testing.assert_allclose(sigmoid(combined), clear.active.probability, rtol=1e-12)


def test_people_whom_only_the_partner_knows_are_scored_by_its_part_alone(frames: list[Frame], clear: Run) -> None:
    bank, partner = frames
    label, strangers = bank.label[bank.holdout], partner.values[bank.holdout]
    said = RECIPE.load(clear.outcomes["partner"].part, {}).sub_scores(strangers)
    combination = Combination(clear.active.combiner, "bank")
    chance = combination.answer({"partner": said})
    np.testing.assert_allclose(chance, clear.active.alone["partner"], rtol=1e-12)
    shared = bank.label[:SHARED].mean()
    assert log_loss(label, chance) < log_loss(label, np.full(len(label), shared)) - 0.01


def test_every_partner_answers_alone_from_its_own_columns() -> None:
    frames = parties(partners=("shop", "telecom"))
    result = run(frames, SHARED, ClearScheme(), {**SMALL, "alone_depth": 1})
    assert set(result.active.combiner.alone) == {"shop", "telecom"}
    combination = Combination(result.active.combiner, "bank")
    for frame in frames[1:]:
        said = RECIPE.load(result.outcomes[frame.party].part, {}).sub_scores(frame.values[frames[0].holdout])
        expected = sigmoid(combination.own_margin(frame.party, said))
        np.testing.assert_allclose(result.active.alone[frame.party], expected, rtol=1e-12)
    assert not np.allclose(result.active.alone["shop"], result.active.alone["telecom"])


class Broken(Exception):
    """A node dies."""

    def __init__(self) -> None:
        super().__init__("the node died")


@pytest.mark.parametrize("rounds", [0, 1, 3, 6])
def test_a_run_that_was_broken_off_goes_on_as_if_nothing_had_happened(
    frames: list[Frame], clear: Run, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    left, step = [rounds], core.Summing.round

    def dying(self, number):
        if not left[0]:
            raise Broken
        left[0] -= 1
        return step(self, number)

    memory = Memory(["bank", "partner"])
    with monkeypatch.context() as patch:
        patch.setattr(core.Summing, "round", dying)
        with pytest.raises((Broken, ChannelError), match="died"):
            run(frames, SHARED, ClearScheme(), memory=memory)
    done = 1 + (rounds > 2) + (rounds > 5)
    assert {max(kept) for kept in memory.kept.values()} == {done}
    again = run(frames, SHARED, ClearScheme(), memory=memory)
    assert not any(step.phase == "base" for step in again.steps)
    assert again.active.combiner == clear.active.combiner
    assert np.array_equal(again.active.probability, clear.active.probability)
    assert again.outcomes["partner"].part == clear.outcomes["partner"].part


def test_partner_only_can_be_left_out(frames: list[Frame], clear: Run) -> None:
    result = run(frames, SHARED, ClearScheme(), {**SMALL, "partner_only": False})
    assert result.active.combiner.alone == {}
    assert np.array_equal(result.active.probability, clear.active.probability)
    part = RECIPE.load(result.outcomes["partner"].part, {})
    assert part.sub_scores(frames[1].values[:3]).own_leaves is None


def number_of(bank: Frame) -> Frame:
    """A number that grows with what the label's log-odds are made of, and with noise."""
    income = 1000 + 300 * bank.label + 40 * bank.values[:, 0] + np.random.default_rng(0).normal(size=len(bank.ids)) * 20
    return replace(bank, label=income, kind="number")


def test_a_number_is_predicted_better_with_a_partner(frames: list[Frame]) -> None:
    bank = number_of(frames[0])
    result = run([bank, frames[1]], SHARED, ClearScheme(), {**SMALL, "rounds": 8})
    combiner, actual = result.active.combiner, bank.label[bank.holdout]
    assert combiner.link == "identity"
    errors = [np.mean((said - actual) ** 2) for said in (result.active.probability, result.active.baseline)]
    assert errors[0] < 0.95 * errors[1]
    assert np.mean((result.active.alone["partner"] - actual) ** 2) < np.var(actual)


def test_only_the_proportions_of_weights_matter_and_they_do_matter(frames: list[Frame], clear: Run) -> None:
    bank, weight = frames[0], np.where(frames[0].label == 1, 3.0, 1.0)
    heavy, heavier = (
        run([replace(bank, weight=factor * weight), frames[1]], SHARED, ClearScheme()).active for factor in (1, 4)
    )
    np.testing.assert_allclose(heavy.probability, heavier.probability, rtol=1e-6)
    assert heavy.probability.mean() > clear.active.probability.mean() + 0.1


def test_a_monotone_column_never_lowers_the_answer(frames: list[Frame]) -> None:
    partner = replace(frames[1], monotone=np.array([-1, 0, 0, 0], dtype=np.int8))
    result = run([frames[0], partner], SHARED, ClearScheme(), {**SMALL, "rounds": 6})
    part = RECIPE.load(result.outcomes["partner"].part, {})
    rows = np.repeat(partner.values[[5]], 60, axis=0)
    rows[:, 0] = np.linspace(-3, 3, 60)
    own = RECIPE.load(result.active.part, {}).sub_scores(np.repeat(frames[0].values[[5]], 60, axis=0))
    combination = Combination(result.active.combiner, "bank")
    said = part.sub_scores(rows)
    assert (np.diff(combination.margin({"bank": own, "partner": said})[:, 0]) <= 1e-12).all()
    assert (np.diff(combination.own_margin("partner", said)) <= 1e-12).all()


def test_trees_of_two_levels_also_split_on_the_base(frames: list[Frame]) -> None:
    result = run(frames, SHARED, ClearScheme(), {**SMALL, "depth": 2, "rounds": 4})
    assert b'"splits":[]' not in result.active.part
    assert result.active.combiner.parties == ["bank", "partner"]
    scores = {
        frame.party: RECIPE.load(result.outcomes[frame.party].part, {}).sub_scores(frame.values[frames[0].holdout])
        for frame in frames
    }
    combined = log_odds(result.active.combiner, "bank", scores)
    np.testing.assert_allclose(sigmoid(combined), result.active.probability, rtol=1e-12)


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
    combiner = clear.active.combiner
    assert msgspec.json.decode(msgspec.json.encode(combiner), type=Combiner) == combiner
    trees = [*combiner.trees, *combiner.alone["partner"].trees]
    values = {repr(value) for tree in trees for value in tree if value}
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


class Counted(ClearCipher):
    """How many encryptions it was told to expect, and how many it made, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, int]] = []

    def ahead(self, count: int) -> None:
        self.calls.append(("ahead", count))

    def encrypt(self, plaintexts: Plaintexts) -> Ciphertexts:
        self.calls.append(("encrypt", len(plaintexts)))
        return super().encrypt(plaintexts)


@dataclass(frozen=True)
class CountedScheme(ClearScheme):
    cipher: Counted = field(default_factory=Counted)

    def generate(self) -> ClearCipher:
        return self.cipher


@pytest.mark.parametrize("depth", [1, 2])
def test_randomness_of_all_rounds_is_asked_for_at_once_and_none_when_no_tree_can_grow(
    frames: list[Frame], depth: int
) -> None:
    scheme = CountedScheme()
    run(frames, SHARED, scheme, SMALL | {"depth": depth})
    made = sum(count for call, count in scheme.cipher.calls if call == "encrypt")
    assert scheme.cipher.calls[0][0] == "ahead"
    assert made <= scheme.cipher.calls[0][1] <= 2 * made
    alone = CountedScheme()
    run(frames, 20, alone)
    assert alone.cipher.calls == []


def test_shared_people_of_one_class_teach_nothing(frames: list[Frame]) -> None:
    label = np.where(np.arange(400) < SHARED, 0.0, frames[0].label)
    result = run([relabel(frames[0], label), frames[1]], SHARED, ClearScheme())
    assert "fewer than 5 of one class" in result.active.combiner.fell_back


def test_a_partner_without_a_usable_column_ends_in_the_active_party_alone(frames: list[Frame], clear: Run) -> None:
    empty = Frame("partner", ("flat", "gone"), np.column_stack([np.ones(400), np.full(400, np.nan)]), {}, frames[1].ids)
    result = run([frames[0], empty], SHARED, ClearScheme())
    assert result.active.combiner.fell_back == "no other party has a column that splits the shared people"
    both = run([*frames, Frame("shop", empty.columns, empty.values, {}, empty.ids)], SHARED, ClearScheme())
    assert both.active.combiner.parties == ["bank", "partner"]
    assert np.array_equal(both.active.probability, clear.active.probability)


def test_a_partner_of_noise_is_not_trusted() -> None:
    frames = parties(people=800, partners=("partner",))
    random = np.random.default_rng(5)
    noise = Frame("partner", ("a", "b"), random.normal(size=(800, 2)), {}, frames[1].ids)
    result = run([frames[0], noise], 300, ClearScheme(), {**SMALL, "rounds": 20, "l2": 0.5}).active
    label = frames[0].label[frames[0].holdout]
    assert result.combiner.fell_back is not None or result.settings["opinion_weight"] < 0.05
    assert log_loss(label, result.probability) < log_loss(label, result.baseline) + 0.01


@pytest.mark.parametrize(
    ("name", "broken", "match"),
    [
        (
            "Sums",
            lambda m: Sums(m.ciphertexts, m.offered[:, :-1]),
            r"'partner' sent an array of shape .* under 'round/0",
        ),
        ("Sums", lambda m: Sums(m.ciphertexts[:-1], m.offered), r"'partner' sent 0 lists of sums; 1 were"),
        (
            "Sums",
            lambda m: Sums([b"[1, 2]"] * len(m.ciphertexts), m.offered),
            "'partner' sent sums that cannot be read",
        ),
        ("Sides", lambda m: Sides(m.left ^ np.uint8(255)), "'partner' sent people to the left"),
    ],
)
def test_a_partner_that_sends_nonsense_is_named(
    frames: list[Frame], monkeypatch: pytest.MonkeyPatch, name: str, broken, match: str
) -> None:
    send = core.send

    def tampered(task, to, topic, message):
        send(task, to, topic, broken(message) if type(message).__name__ == name else message)

    monkeypatch.setattr(core, "send", tampered)
    with pytest.raises(ProtocolError, match=match):
        run(frames, SHARED, ClearScheme())


@pytest.mark.parametrize("numbers", [[0, 0], [99], [-1]])
def test_an_active_party_that_keeps_trees_that_were_not_grown_is_named(
    frames: list[Frame], monkeypatch: pytest.MonkeyPatch, numbers: list[int]
) -> None:
    send = active_program.send

    def tampered(task, to, topic, message):
        send(task, to, topic, Kept(numbers) if isinstance(message, Kept) else message)

    monkeypatch.setattr(active_program, "send", tampered)
    with pytest.raises(ProtocolError, match="'bank' keeps trees that were not grown, or one of them twice"):
        run(frames, SHARED, ClearScheme())


def test_a_label_of_several_classes_is_refused(frames: list[Frame]) -> None:
    classes = replace(frames[0], kind="classes", classes=("a", "b"))
    with pytest.raises(ProtocolError, match="the label of 'bank' has several classes"):
        run([classes, frames[1]], SHARED, ClearScheme())


def test_settings_name_the_wrong_key_and_the_nearest_right_one() -> None:
    with pytest.raises(ConsortiumError, match=r"no setting 'learning_rat'. Did you mean 'learning_rate'"):
        RECIPE.settings({"learning_rat": 0.1})
    with pytest.raises(ConsortiumError, match=r"'rounds' is -1: .*default is None"):
        RECIPE.settings({"rounds": -1})
    with pytest.raises(ConsortiumError, match=r"'cipher' is 'clear'"):
        RECIPE.settings({"cipher": "clear"})


def test_bytes_that_are_no_part_are_refused() -> None:
    with pytest.raises(RegistryError, match="none of transfer_boost"):
        RECIPE.load(b'{"type": "other"}', {})
