"""Weight of evidence, information value, and what else the counts of a column's bins tell.

All functions take the numbers of bad people and of people by bin and never a value of a person. Sums are exactly
rounded (``math.fsum``), so that they do not depend on the order of the bins.

References:
    Siddiqi (2006), Credit Risk Scorecards, chapters 6 and 8.
"""

import math

import numpy as np
from numpy.typing import NDArray

EMPTY = 0.5
"""Stands for no people of a class in a bin, whose logarithm would be infinite."""

LEAST_SHARE = 1e-4
"""Stands for an empty bin in the stability index."""


def weight_of_evidence(
    bad: NDArray[np.int64], total: NDArray[np.int64], all_bad: int, everybody: int
) -> NDArray[np.float64]:
    """ln(share of all good people / share of all bad people) of each bin: above 0 where a bin is better than average.

    Args:
        bad: int64, any shape: bad people.
        total: int64, the same shape: people.
        all_bad: bad people in all bins, at least 1.
        everybody: people in all bins, more than `all_bad`.
    """
    good_share, bad_share = _class_shares(bad, total, all_bad, everybody)
    return np.asarray(np.log(good_share / bad_share))


def shares_of_value(
    bad: NDArray[np.int64], total: NDArray[np.int64], all_bad: int, everybody: int
) -> NDArray[np.float64]:
    """What each bin adds to the information value; the arguments are those of :func:`weight_of_evidence`.

    Entries without people, or that are no counts, are 0.
    """
    possible = (total > 0) & (bad >= 0) & (bad <= total)
    bad, total = np.where(possible, bad, 0), np.where(possible, total, 0)
    good_share, bad_share = _class_shares(bad, total, all_bad, everybody)
    return np.where(possible, (good_share - bad_share) * np.log(good_share / bad_share), 0.0)


def information_value(bad: NDArray[np.int64], total: NDArray[np.int64]) -> float:
    """Σ (share of good - share of bad) · WoE over the bins of a column; 0 for a single one."""
    all_bad, everybody = int(bad.sum()), int(total.sum())
    return math.fsum(shares_of_value(bad, total, all_bad, everybody)) if len(bad) > 1 else 0.0


def stump_gain(bad: NDArray[np.int64], total: NDArray[np.int64]) -> float:
    """Share of the label's deviance that the best two-way split of the bins explains, 0 to 1.

    The best split of all is one between bins in the order of their share of bad people (Breiman et al. 1984,
    theorem 4.5), so the order of the bins does not matter.
    """
    order = np.lexsort((total, bad / np.maximum(total, 1)))
    left = [np.cumsum(each[order])[:-1] for each in (bad, total)]
    right = [int(each.sum()) - part for each, part in zip((bad, total), left, strict=True)]
    whole = float(_deviance(np.array([bad.sum()]), np.array([total.sum()]))[0])
    if not len(left[0]) or not whole:
        return 0.0
    return max(float(1 - (_deviance(*left) + _deviance(*right)).min() / whole), 0.0)


def chance(bad: NDArray[np.int64], total: NDArray[np.int64]) -> float:
    """Probability that a column which has nothing to do with the label parts the classes as much (Pearson's χ² test).

    Args:
        bad: int64, shape (k,): bad people by *fine* bin; merged ones were chosen with the labels and would flatter.
        total: int64, shape (k,): people by fine bin.
    """
    from scipy.special import chdtrc

    if len(bad) < 2:
        return 1.0
    rate = float(bad.sum() / total.sum())
    statistic = math.fsum((bad - total * rate) ** 2 / (total * rate * (1 - rate)))
    return float(chdtrc(len(bad) - 1, statistic))


def stability_index(then: NDArray[np.int64], now: NDArray[np.int64]) -> float | None:
    """Population stability index Σ (a - e)·ln(a/e) between two groups of people, or None where one has nobody.

    Args:
        then: int64, shape (k,): people by bin.
        now: int64, shape (k,): likewise.
    """
    if not then.sum() or not now.sum():
        return None
    expected, actual = (np.maximum(each / each.sum(), LEAST_SHARE) for each in (then, now))
    return math.fsum((actual - expected) * np.log(actual / expected))


def _class_shares(
    bad: NDArray[np.int64], total: NDArray[np.int64], all_bad: int, everybody: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    good_share = np.maximum(total - bad, EMPTY) / (everybody - all_bad)
    return good_share, np.maximum(bad, EMPTY) / all_bad


def _deviance(bad: NDArray[np.int64], total: NDArray[np.int64]) -> NDArray[np.float64]:
    """Minus the log-likelihood of each group at its own share of bad."""
    from scipy.special import xlogy

    rate = bad / total
    return np.asarray(-(xlogy(bad, rate) + xlogy(total - bad, 1 - rate)))
