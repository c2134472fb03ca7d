"""Two models on the same people with known outcomes: who ranks better, by how much, and how sure that is."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.registry.competition.observations import Observations

Floats = NDArray[np.float64]
PROFIT_OF_GOOD, LOSS_OF_BAD = 0.1, 0.6
"""Per unit lent: margin earned on a loan that is repaid, and loss given default of one that is not."""
LEAST_OF_A_GROUP = 30
LEVELS = 40


class Figures(msgspec.Struct, frozen=True):
    """One model on the people with a known outcome.

    Attributes:
        auc, ks: discrimination.
        calibration: mean predicted probability over the observed bad rate.
        approval: share of everybody at or below the cut-off.
        bad_rate: of the approved.
        profit: per applicant, for a loan of 1.
        milliseconds_p99: of the answers it gave; None without any, as in shadow mode.
        degraded: share of its scores without a party that it needs.
        disparity: lowest approval rate of a group over the highest; 1 without groups.
        errors: share of the requests that it failed to answer.
    """

    auc: float
    ks: float
    calibration: float
    approval: float
    bad_rate: float
    profit: float
    milliseconds_p99: float | None
    degraded: float
    disparity: float
    errors: float = 0.0


class Comparison(msgspec.Struct, frozen=True):
    """Challenger against champion.

    Attributes:
        people, bad: with a known outcome.
        champion, challenger: figures.
        difference: of AUC, challenger minus champion.
        variance: of that difference, by DeLong's method.
        stability: population stability index of the challenger's probabilities against the champion's.
    """

    people: int
    bad: int
    champion: Figures
    challenger: Figures
    difference: float
    variance: float
    stability: float


def compare(seen: Observations, champion: str, challenger: str, cutoff: float) -> Comparison:
    """Compare two versions.

    Args:
        seen: what was observed; at least one bad and one good outcome.
        champion: version.
        challenger: version.
        cutoff: probability of default up to which an application counts as approved.
    """
    areas, covariance = delong(seen.label, np.array([seen.champion, seen.challenger]))
    contrast = np.array([-1.0, 1.0])
    return Comparison(
        people=len(seen.label),
        bad=int(seen.label.sum()),
        champion=_figures(seen, champion, seen.champion, seen.all_champion, areas[0], cutoff),
        challenger=_figures(seen, challenger, seen.challenger, seen.all_challenger, areas[1], cutoff),
        difference=float(areas[1] - areas[0]),
        variance=float(contrast @ covariance @ contrast),
        stability=_stability(seen.all_champion, seen.all_challenger),
    )


def delong(label: Floats, models: Floats) -> tuple[Floats, Floats]:
    """Areas under the ROC curves of several models on the same people, and their covariance.

    DeLong, DeLong and Clarke-Pearson (1988), with the mid-ranks of Sun and Xu (2014): O(n log n).

    Args:
        label: float64, shape (n,), 1 is bad; both classes occur.
        models: float64, shape (k, n).

    Returns:
        float64, shape (k,), and float64, shape (k, k).
    """
    from scipy.stats import rankdata

    bad, good = models[:, label == 1], models[:, label == 0]
    m, n = bad.shape[1], good.shape[1]
    together = rankdata(np.concatenate([bad, good], axis=1), axis=1)
    above = (together[:, :m] - rankdata(bad, axis=1)) / n
    below = 1 - (together[:, m:] - rankdata(good, axis=1)) / m
    areas = above.mean(axis=1)
    covariance = _covariance(above) / m + _covariance(below) / n
    return np.asarray(areas), np.asarray(covariance)


def _covariance(placements: Floats) -> Floats:
    if placements.shape[1] < 2:
        return np.zeros((len(placements), len(placements)))
    return np.atleast_2d(np.cov(placements))


def roc(label: Floats, probability: Floats) -> tuple[Floats, Floats]:
    """False and true positive rate on a fixed grid, float64, shape (41,) each: no person can be read from it."""
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(label, probability)
    grid = np.linspace(0, 1, LEVELS + 1)
    return grid, np.interp(grid, false, true)


def _figures(
    seen: Observations, version: str, probability: Floats, everybody: Floats, area: float, cutoff: float
) -> Figures:
    approved = probability <= cutoff
    bad_rate = float(seen.label[approved].mean()) if approved.any() else 0.0
    gain = np.where(seen.label == 1, -LOSS_OF_BAD, PROFIT_OF_GOOD)
    times = seen.milliseconds.get(version, np.empty(0))
    return Figures(
        auc=float(area),
        ks=_ks(seen.label, probability),
        calibration=float(probability.mean() / max(seen.label.mean(), 1e-12)),
        approval=float((everybody <= cutoff).mean()),
        bad_rate=bad_rate,
        profit=float((gain * approved).mean()),
        milliseconds_p99=float(np.quantile(times, 0.99)) if len(times) else None,
        degraded=seen.degraded.get(version, 0.0),
        disparity=_disparity(seen.group, approved),
        errors=seen.errors.get(version, 0.0),
    )


def _ks(label: Floats, probability: Floats) -> float:
    from scipy.stats import ks_2samp

    return float(ks_2samp(probability[label == 1], probability[label == 0]).statistic)


def _disparity(groups: tuple[str, ...], approved: NDArray[np.bool_]) -> float:
    """Lowest approval rate over the highest, among groups that are large enough to have one."""
    names = np.array(groups)
    rates = [
        float(approved[names == name].mean())
        for name in sorted(set(groups) - {""})
        if np.count_nonzero(names == name) >= LEAST_OF_A_GROUP
    ]
    return min(rates) / max(rates) if len(rates) > 1 and max(rates) > 0 else 1.0


def _stability(then: Floats, now: Floats) -> float:
    """Population stability index over ten equally filled bins (Siddiqi 2006, ch. 8)."""
    edges = np.unique(np.quantile(then, np.linspace(0, 1, 11)[1:-1]))
    shares = [
        np.maximum(np.bincount(np.searchsorted(edges, part, side="right"), minlength=len(edges) + 1) / len(part), 1e-4)
        for part in (then, now)
    ]
    return float(np.sum((shares[1] - shares[0]) * np.log(shares[1] / shares[0])))
