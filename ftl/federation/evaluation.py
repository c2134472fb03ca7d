"""How good a model is on the holdout: discrimination, calibration, and how sure one may be of it.

Figures and curves are aggregates. The curves lie on fixed grids, so that no person's label can be read from a step of
the ROC curve.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftl.errors import FederationError
from ftl.federation.run import METRICS, Curves, Evaluated, Evaluation

RESAMPLES = 1000
CHUNK = 64
"""Resamples drawn at once; bounds memory to a few times CHUNK × people numbers."""
CONFIDENCE = 0.95
CLIP = 1e-9
"""Probabilities are kept this far from 0 and 1 before log-odds are taken."""
ROC_GRID = np.linspace(0.0, 1.0, 101)

Floats = NDArray[np.float64]
Gain = dict[str, tuple[float, float, float]]


def evaluate(label: Floats, probability: Floats, seed: int = 0, *, resamples: int = RESAMPLES) -> Evaluation:
    """Figures of one model.

    Args:
        label: float64, shape (n,), 1 is bad, 0 is good.
        probability: float64, shape (n,), probability of being bad.
        seed: of the bootstrap.
        resamples: bootstrap resamples; one with a single class is left out.

    Returns:
        the figures with percentile intervals.

    Raises:
        FederationError: nobody to evaluate on, one class only, or a probability outside [0, 1].
    """
    _check(label, probability)
    draws = _Draws(label, [probability]).metrics(seed, resamples)[0]
    return _evaluation(label, probability, draws)


def compare(
    label: Floats, baseline: Floats, probability: Floats, seed: int = 0, *, resamples: int = RESAMPLES
) -> tuple[Evaluation, Evaluation, Gain]:
    """Figures of two models on the same people and of their difference, resampled together (paired).

    Args:
        label: float64, shape (n,), 1 is bad, 0 is good.
        baseline: float64, shape (n,), probability by the model to compare with.
        probability: float64, shape (n,), probability by the model of interest.
        seed: of the bootstrap.
        resamples: bootstrap resamples.

    Returns:
        the figures of `baseline`, those of `probability`, and per metric the second minus the first with its interval.

    Raises:
        FederationError: as `evaluate`.
    """
    _check(label, baseline)
    _check(label, probability)
    draws = _Draws(label, [baseline, probability]).metrics(seed, resamples)
    before = _evaluation(label, baseline, draws[0])
    after = _evaluation(label, probability, draws[1])
    return before, after, gain_of(before, after, draws[0], draws[1])


def gain_of(before: Evaluated, after: Evaluated, draws_before: Floats, draws_after: Floats) -> Gain:
    """Per metric the second model's figure minus the first one's, with the interval of the paired difference.

    Args:
        before: figures of the model to compare with.
        after: figures of the model of interest.
        draws_before: float64, shape (resamples, metrics): its metrics on each resample.
        draws_after: likewise, on the same resamples.
    """
    gain: Gain = {}
    for index, name in enumerate(before.intervals):
        low, high = interval(draws_after[:, index] - draws_before[:, index])
        gain[name] = (after.figures[name] - before.figures[name], low, high)
    return gain


def resample(generator: np.random.Generator, count: int, people: int) -> Floats:
    """How often each person is drawn in each bootstrap resample, float64, shape (count, people)."""
    drawn = generator.integers(0, people, size=(count, people))
    drawn += np.arange(count)[:, None] * people
    return np.bincount(drawn.ravel(), minlength=count * people).reshape(count, people).astype(np.float64)


def calibration_line(label: Floats, probability: Floats, *, steps: int = 50) -> tuple[float, float]:
    """Slope and intercept of the logistic regression of the label on the predicted log-odds (Cox 1958).

    Fitted without penalty by Newton's method; a vanishing ridge keeps it defined where all log-odds are equal.
    """
    clipped = np.clip(probability, CLIP, 1 - CLIP)
    design = np.column_stack([np.log(clipped) - np.log1p(-clipped), np.ones(len(label))])
    line = np.array([1.0, 0.0])
    for _ in range(steps):
        fitted = 1 / (1 + np.exp(-np.clip(design @ line, -35, 35)))
        hessian = (design * (fitted * (1 - fitted))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, design.T @ (label - fitted))
        line = line + np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-10:
            break
    return float(line[0]), float(line[1])


def check_people(label: Floats) -> None:
    """Refuse a holdout on which no figure can be computed.

    Raises:
        FederationError: nobody in it, or one class only.
    """
    if len(label) == 0 or label.min() == label.max():
        found = "nobody" if len(label) == 0 else f"{len(label)} people of one class"
        raise FederationError(
            f"The holdout has {found} that every party knows, so no figure can be computed.",
            cure="Make training.holdout.fraction larger, or check that the parties' identifiers are mapped alike.",
        )


@dataclass(frozen=True)
class Ranking:
    """A model's people in falling order of probability, ties put together.

    Attributes:
        order: int64, shape (n,), people by falling probability.
        ends: int64, shape (k,), last position of each group of equal probabilities.
    """

    order: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, probability: Floats) -> "Ranking":
        """Rank by falling probability, float64, shape (n,)."""
        order = np.argsort(-probability, kind="stable")
        ends = np.flatnonzero(np.append(np.diff(probability[order]) != 0, True))
        return cls(order, ends)

    def roc(self, bad: Floats, good: Floats) -> tuple[Floats, Floats]:
        """True and false positive counts at every threshold, shape (resamples, k + 1), from weights (resamples, n)."""
        true = np.cumsum(bad[:, self.order], axis=1)[:, self.ends]
        false = np.cumsum(good[:, self.order], axis=1)[:, self.ends]
        return np.pad(true, ((0, 0), (1, 0))), np.pad(false, ((0, 0), (1, 0)))


class _Draws:
    """Metrics of several models under the same bootstrap weights.

    Args:
        label: float64, shape (n,).
        models: their probabilities, each float64, shape (n,).
    """

    def __init__(self, label: Floats, models: list[Floats]) -> None:
        self.label = label
        self.rankings = [Ranking.of(model) for model in models]
        self.errors = np.column_stack([(model - label) ** 2 for model in models])

    def metrics(self, seed: int, resamples: int) -> list[Floats]:
        """Per model float64, shape (resamples kept, 3): AUC, KS, Brier of each resample."""
        generator = np.random.default_rng(seed)
        kept: list[list[Floats]] = [[] for _ in self.rankings]
        for start in range(0, resamples, CHUNK):
            weights = self._weights(generator, min(CHUNK, resamples - start))
            for model, rows in enumerate(kept):
                rows.append(self._weighted(model, weights))
        return [np.vstack(rows) for rows in kept]

    def _weights(self, generator: np.random.Generator, count: int) -> Floats:
        """float64, shape (≤ count, n): how often each person is drawn; resamples with one class are dropped."""
        weights, people = resample(generator, count, len(self.label)), len(self.label)
        bad = weights @ self.label
        return weights[(bad > 0) & (bad < people)]

    def _weighted(self, model: int, weights: Floats) -> Floats:
        true, false = self.rankings[model].roc(weights * self.label, weights * (1 - self.label))
        true /= true[:, -1:]
        false /= false[:, -1:]
        area = (np.diff(false, axis=1) * (true[:, 1:] + true[:, :-1])).sum(axis=1) / 2
        distance = np.abs(true - false).max(axis=1)
        brier = weights @ self.errors[:, model] / weights.sum(axis=1)
        return np.column_stack([area, distance, brier])


def _evaluation(label: Floats, probability: Floats, draws: Floats) -> Evaluation:
    from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

    false, true, _ = roc_curve(label, probability, drop_intermediate=False)
    slope, intercept = calibration_line(label, probability)
    return Evaluation(
        auc=float(roc_auc_score(label, probability)),
        ks=float(np.abs(true - false).max()),
        brier=float(brier_score_loss(label, probability)),
        calibration_slope=slope,
        calibration_intercept=intercept,
        intervals={name: interval(draws[:, index]) for index, name in enumerate(METRICS["binary"])},
        people=len(label),
        bad=int(label.sum()),
        curves=_curves(label, probability, false, true),
    )


def _curves(label: Floats, probability: Floats, false: Floats, true: Floats) -> Curves:
    tenths = np.array_split(np.argsort(probability, kind="stable"), 10)
    return Curves(
        false_positive_rate=[float(rate) for rate in ROC_GRID],
        true_positive_rate=[float(rate) for rate in np.interp(ROC_GRID, false, true)],
        calibration=[
            (float(probability[rows].mean()), float(label[rows].mean()), len(rows)) for rows in tenths if len(rows)
        ],
    )


def interval(draws: Floats) -> tuple[float, float]:
    """Percentile interval of one metric's resamples, float64, shape (resamples,)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def _check(label: Floats, probability: Floats) -> None:
    if len(label) != len(probability):
        raise FederationError(
            f"There are {len(label)} labels but {len(probability)} probabilities to evaluate.",
            cure="The recipe must answer one probability per holdout person.",
        )
    check_people(label)
    if not ((probability >= 0) & (probability <= 1)).all():
        raise FederationError(
            "A predicted probability is outside [0, 1] or not a number.", cure="The recipe must answer probabilities."
        )
