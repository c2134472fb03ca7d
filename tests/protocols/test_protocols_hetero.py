"""`hetero_logistic` and `hetero_linear`: the coefficients, errors and answers of the pooled regression, from parts."""

from dataclasses import replace

import numpy as np
import pytest
from hetero_parties import SHARED, Kept, Run, answered, parties, run, standardised
from scipy import special
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from ftl.channel import Channel
from ftl.errors import ChannelError, ConsortiumError, FeatureError, ProtocolError, RegistryError
from ftl.features import Frame
from ftl.protocols.hetero_linear import LINEAR, LOGISTIC

CLOSE = 1e-3
"""By which a coefficient of a standardised column may differ from the pooled fit's."""


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return parties()


@pytest.fixture(scope="module")
def logistic(frames: list[Frame]) -> Run:
    return run(frames, LOGISTIC)


def pooled(frames: list[Frame], weight: np.ndarray | None = None, l2: float = 1e-7) -> np.ndarray:
    """Intercept and coefficients of scikit-learn on everybody's standardised columns."""
    matrix, label = standardised(frames, SHARED)[:, 1:], frames[0].label[:SHARED]
    model = LogisticRegression(C=1 / (l2 * SHARED), tol=1e-8, max_iter=5000).fit(matrix, label, sample_weight=weight)
    return np.concatenate([model.intercept_, model.coef_[0]])


def constrained(matrix: np.ndarray, label: np.ndarray, l1: float, *, non_negative: bool) -> np.ndarray:
    """The penalised fit by a bounded optimiser, on positive and negative parts of the coefficients."""
    width = matrix.shape[1]
    penalty = np.r_[0.0, np.full(width - 1, l1)]

    def objective(parts: np.ndarray) -> tuple[float, np.ndarray]:
        margin = matrix @ (parts[:width] - parts[width:])
        gradient = matrix.T @ (special.expit(margin) - label) / len(label)
        loss = np.mean(np.logaddexp(0, margin) - label * margin) + penalty @ (parts[:width] + parts[width:])
        return float(loss), np.r_[gradient + penalty, penalty - gradient]

    bounds = [(0, None)] * (width + 1) + [(0, 0 if non_negative else None)] * (width - 1)
    options = {"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-9}
    found = minimize(objective, np.zeros(2 * width), jac=True, bounds=bounds, method="L-BFGS-B", options=options).x
    return np.asarray(found[:width] - found[width:])


def test_coefficients_are_those_of_the_pooled_fit(frames: list[Frame], logistic: Run) -> None:
    assert np.abs(logistic.column("coefficient") - pooled(frames)).max() < CLOSE
    assert logistic.active.settings["rounds_run"] <= 12


def test_standard_errors_and_p_values_are_those_of_the_pooled_information_matrix(
    frames: list[Frame], logistic: Run
) -> None:
    matrix, found = standardised(frames, SHARED), pooled(frames)
    chance = special.expit(matrix @ found)
    errors = np.sqrt(np.diag(np.linalg.inv((matrix * (chance * (1 - chance))[:, None]).T @ matrix)))
    assert logistic.column("standard_error") == pytest.approx(errors, rel=5e-3)
    p_values = 2 * special.ndtr(-np.abs(found / errors))
    assert logistic.column("p_value") == pytest.approx(p_values, abs=5e-3)
    assert logistic.table("bank").distribution == "normal"


def test_coefficients_per_unit_undo_the_standardisation(frames: list[Frame], logistic: Run) -> None:
    row = logistic.table("partner").rows[1]
    assert row.term == "other"
    assert row.per_unit * frames[1].values[:SHARED, 1].std() == pytest.approx(row.coefficient)


def test_loaded_parts_answer_as_the_run_did(frames: list[Frame], logistic: Run) -> None:
    rows = np.flatnonzero(frames[0].holdout)
    assert answered(logistic, frames, LOGISTIC, rows) == pytest.approx(logistic.active.probability, abs=1e-12)
    one = answered(logistic, frames, LOGISTIC, rows[:1])
    assert one[0] == pytest.approx(logistic.active.probability[0], abs=1e-12)
    values = np.hstack([frame.values for frame in frames])
    train = values[:SHARED]
    matrix = np.column_stack([np.ones(len(values)), (values - train.mean(axis=0)) / train.std(axis=0)])
    expected = special.expit(matrix[rows] @ pooled(frames))
    assert np.abs(logistic.active.probability - expected).max() < CLOSE


def test_linear_regression_gives_least_squares_with_its_errors() -> None:
    frames = parties("number")
    result = run(frames, LINEAR)
    matrix, label = standardised(frames, SHARED), frames[0].label[:SHARED]
    expected = np.linalg.lstsq(matrix, label)[0]
    freedom = SHARED - matrix.shape[1]
    variance = ((label - matrix @ expected) ** 2).sum() / freedom
    errors = np.sqrt(variance * np.diag(np.linalg.inv(matrix.T @ matrix)))
    assert np.abs(result.column("coefficient") - expected).max() < CLOSE * label.std()
    assert result.column("standard_error") == pytest.approx(errors, rel=5e-3)
    assert result.table("partner").freedom == freedom
    assert result.active.combiner.link == "identity"
    assert np.abs(result.active.baseline - result.active.probability).max() > 10


def test_two_passive_parties_give_the_pooled_fit_too() -> None:
    frames = parties(partners=("partner", "shop"))
    result = run(frames, LOGISTIC)
    matrix, found = standardised(frames, SHARED), pooled(frames)
    chance = special.expit(matrix @ found)
    errors = np.sqrt(np.diag(np.linalg.inv((matrix * (chance * (1 - chance))[:, None]).T @ matrix)))
    assert np.abs(result.column("coefficient") - found).max() < CLOSE
    assert result.column("standard_error") == pytest.approx(errors, rel=1e-2)


@pytest.mark.parametrize("kind", ["binary", "number"])
def test_sample_weights_count_as_in_the_pooled_fit(kind: str) -> None:
    frames = parties(kind, partners=("partner", "shop"))
    weight = np.random.default_rng(0).uniform(0.2, 3.0, len(frames[0].ids))
    frames[0] = replace(frames[0], weight=weight)
    result = run(frames, LOGISTIC if kind == "binary" else LINEAR, {"standard_errors": kind == "number"})
    part = weight[:SHARED] / weight[:SHARED].mean()
    matrix, label = standardised(frames, SHARED), frames[0].label[:SHARED]
    root = np.sqrt(part)[:, None]
    expected = pooled(frames, part) if kind == "binary" else np.linalg.lstsq(matrix * root, label * root[:, 0])[0]
    scale = 1.0 if kind == "binary" else label.std()
    assert np.abs(result.column("coefficient") - expected).max() < CLOSE * scale
    if kind == "number":
        variance = (part * (label - matrix @ expected) ** 2).sum() / (SHARED - matrix.shape[1])
        errors = np.sqrt(variance * np.diag(np.linalg.inv((matrix * part[:, None]).T @ matrix)))
        assert result.column("standard_error") == pytest.approx(errors, rel=1e-2)


def test_an_l2_penalty_is_scikit_learns(frames: list[Frame]) -> None:
    result = run(frames, LOGISTIC, {"l2": 0.05, "standard_errors": False})
    assert np.abs(result.column("coefficient") - pooled(frames, l2=0.05)).max() < CLOSE


@pytest.mark.parametrize(("l1", "non_negative"), [(0.03, False), (0.0, True)])
def test_held_coefficients_are_exactly_zero(frames: list[Frame], l1: float, non_negative: bool) -> None:
    result = run(frames, LOGISTIC, {"l1": l1, "non_negative": non_negative})
    matrix, label = standardised(frames, SHARED), frames[0].label[:SHARED]
    expected = constrained(matrix, label, l1, non_negative=non_negative)
    found = result.column("coefficient")
    assert np.abs(found - expected).max() < CLOSE
    assert np.array_equal(found == 0, np.abs(expected) < 1e-6)
    assert (found == 0).any()
    assert np.array_equal(np.isnan(result.column("standard_error")), found == 0)
    assert "p-values are too small" in result.active.notes[0]


def test_a_declared_direction_is_kept(frames: list[Frame]) -> None:
    against = replace(frames[1], monotone=np.array([-1, 0], dtype=np.int8))
    result = run([frames[0], against], LOGISTIC, {"standard_errors": False})
    assert result.table("partner").rows[0].coefficient == 0.0
    assert result.table("partner").rows[1].coefficient < -0.1


def test_missing_values_and_categories_are_columns_of_their_own() -> None:
    frames = parties(gaps=True)
    result = run(frames, LOGISTIC)
    names = [row.term for row in result.table("partner").rows]
    assert names[:3] == ["hidden", "other", "other is missing"]
    assert [name.split(" = ")[0] for name in names[3:]] == ["region"] * 3
    partner, rows = frames[1], slice(0, SHARED)
    counts = np.bincount(partner.values[rows, 2].astype(int), minlength=4)
    reference = int(counts.argmax())
    other = partner.values[rows, 1]
    by_hand = [partner.values[rows, 0], np.where(np.isnan(other), np.nanmean(other), other), np.isnan(other)]
    by_hand += [partner.values[rows, 2] == code for code in range(4) if code != reference]
    matrix = np.column_stack([frames[0].values[rows], *by_hand]).astype(float)
    matrix = (matrix - matrix.mean(axis=0)) / matrix.std(axis=0)
    model = LogisticRegression(C=1e4, tol=1e-8, max_iter=5000).fit(matrix, frames[0].label[rows])
    assert np.abs(result.column("coefficient")[1:] - model.coef_[0]).max() < CLOSE


def test_lost_log_odds_add_up_to_the_distance_from_the_best(frames: list[Frame], logistic: Run) -> None:
    reasons = {"hidden": "R1", "other": "R2"}
    part = LOGISTIC.load(logistic.outcomes["partner"].part, reasons)
    scores = part.sub_scores(frames[1].values, reasons=True)
    assert set(scores.lost) == {"R1", "R2"}
    assert min(lost.min() for lost in scores.lost.values()) == 0.0
    worse = scores.lost["R1"] + scores.lost["R2"]
    ordinary = (scores.lost["R1"] > 0) & (scores.lost["R2"] > 0)
    distance = (scores.share[:, 0] - worse)[ordinary]
    assert np.ptp(distance) < 1e-9
    assert part.sub_scores(frames[1].values).lost == {}


def test_too_few_shared_people_fall_back_and_say_so(frames: list[Frame]) -> None:
    result = run(frames, LOGISTIC, shared=99)
    assert result.active.combiner.fell_back == "99 shared training people are fewer than 100"
    assert np.array_equal(result.active.baseline, result.active.probability)
    assert result.outcomes["partner"].private == {}
    rows = np.flatnonzero(frames[0].holdout)
    assert answered(result, frames, LOGISTIC, rows) == pytest.approx(result.active.probability)


def test_a_partner_without_a_column_that_tells_people_apart_takes_no_part(frames: list[Frame]) -> None:
    dull = Frame("dull", ("same",), np.ones((len(frames[0].ids), 1)), {}, frames[0].ids)
    alone = run([frames[0], dull], LOGISTIC)
    assert alone.active.combiner.fell_back == "no other party has a column that tells people apart"
    both = run([*frames, dull], LOGISTIC, {"standard_errors": False})
    assert both.active.combiner.parties == ["bank", "partner"]
    assert np.abs(np.r_[both.column_of("bank"), both.column_of("partner")] - pooled(frames)).max() < CLOSE


def test_trees_answer_for_people_whom_the_partner_does_not_know(frames: list[Frame]) -> None:
    result = run(frames, LOGISTIC, {"own_model": "boosting", "standard_errors": False})
    scores = LOGISTIC.load(result.active.part, {}).sub_scores(frames[0].values[frames[0].holdout])
    assert special.expit(scores.log_odds) == pytest.approx(result.active.baseline)
    assert len(np.unique(scores.log_odds)) < len(scores.log_odds)  # leaves, not a line


def test_a_broken_run_goes_on_to_the_same_coefficients(frames: list[Frame], logistic: Run) -> None:
    class Cut:
        def __init__(self, channel: Channel) -> None:
            self.inner, self.me, self.peers = channel, channel.me, channel.peers

        def send(self, to: str, topic: str, payload: bytes) -> None:
            if topic == "round/3/report":
                raise ChannelError("the line is cut.")
            self.inner.send(to, topic, payload)

        def receive(self, sender: str, topic: str, timeout: float) -> bytes:
            return self.inner.receive(sender, topic, timeout)

    kept = {frame.party: Kept() for frame in frames}
    with pytest.raises(ChannelError, match="the line is cut"):
        run(frames, LOGISTIC, checkpoints=kept, through=Cut)
    assert {max(one.states) for one in kept.values()} == {3}
    again = run(frames, LOGISTIC, checkpoints=kept)
    assert next(step.round for step in again.steps if step.phase == "train") == 4
    assert np.array_equal(again.column("coefficient"), logistic.column("coefficient"))


def test_the_same_seed_gives_the_same_coefficients(frames: list[Frame], logistic: Run) -> None:
    again = run(frames, LOGISTIC, {"standard_errors": False})
    assert np.array_equal(again.column("coefficient"), logistic.column("coefficient"))


def test_a_label_of_another_kind_is_refused(frames: list[Frame]) -> None:
    with pytest.raises(ConsortiumError, match="is of kind 'binary'; this recipe needs 'number'"):
        run(frames, LINEAR)


def test_people_of_one_class_are_refused_or_fall_back(frames: list[Frame]) -> None:
    one = replace(frames[0], label=np.zeros(len(frames[0].ids)))
    with pytest.raises(FeatureError, match="All labelled people are of one class"):
        run([one, frames[1]], LOGISTIC)


def test_shared_people_of_the_holdout_are_refused(frames: list[Frame]) -> None:
    unlabelled = frames[0].label.copy()
    unlabelled[5] = np.nan
    with pytest.raises(ProtocolError, match="shared training people without a label"):
        run([replace(frames[0], label=unlabelled), frames[1]], LOGISTIC)


@pytest.mark.parametrize("bound", [{"people_per_column": 50}, {"min_rows": 21}, {"min_shared": 701}])
def test_a_partner_refuses_sums_over_fewer_people_than_it_allows(frames: list[Frame], bound: dict[str, int]) -> None:
    strict = LOGISTIC.settings(bound)
    recipe = PerParty({"partner": strict})
    with pytest.raises(ProtocolError, match="'bank' plans sums over too few people"):
        run(frames, recipe)


class PerParty:
    """Runs some parties with settings of their own."""

    name = "hetero_logistic"

    def __init__(self, own: dict) -> None:
        self.own = own

    def settings(self, given: dict) -> object:
        return LOGISTIC.settings(given)

    def run(self, task, settings) -> object:
        return LOGISTIC.run(task, self.own.get(task.frame.party, settings))

    def load(self, part: bytes, reasons: dict) -> object:
        return LOGISTIC.load(part, reasons)


def test_a_wrong_setting_is_named_with_the_nearest_right_one() -> None:
    with pytest.raises(
        ConsortiumError, match=r"hetero_linear has no setting 'nonnegative'. Did you mean 'non_negative'"
    ):
        LINEAR.settings({"nonnegative": True})
    with pytest.raises(ConsortiumError, match="hetero_logistic setting 'l1' is -1"):
        LOGISTIC.settings({"l1": -1})


def test_bytes_that_are_no_part_are_refused() -> None:
    with pytest.raises(RegistryError, match="none of hetero_logistic or hetero_linear"):
        LOGISTIC.load(b"{}", {})
