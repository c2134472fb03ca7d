"""How columns hang together: correlation and variance inflation, from vectors that need not be in one place.

Every column becomes a few *vectors* over the same people: a numeric column one (its values or ranks, the mean where
missing), a categorical one an indicator for each fine bin but the fullest. Each vector has mean 0 and mean square 1, so
that the mean product of two vectors is their Pearson correlation.

References:
    Hotelling (1936), canonical correlation. Fox and Monette (1992), generalised variance inflation.
"""

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ftl.features.binning import FineBins

Measure = Literal["pearson", "spearman", "none"]

MOST_WEIGHT = 0.1
"""Greatest share of a vector's sum of squares that one person may carry. Above it, the product with another's vector
would tell that vector's value for this person."""

ROUNDING = 1e-12
"""Spread, relative to the greatest value, below which a column is constant."""

FLOOR = 1e-5
"""Least eigenvalue of a correlation matrix; below it, as far as fixed point can tell, columns copy each other."""

MOST_INFLATION = 1e4
"""Stands for more: a column that others determine."""


def vectors(
    values: NDArray[np.float64], bins: FineBins, measure: Measure, least: int
) -> tuple[NDArray[np.float64], int]:
    """The vectors of one column.

    Args:
        values: float64, shape (n,); NaN is missing.
        bins: the column's fine bins.
        measure: of a numeric column: by value or by rank.
        least: people that may be drawn in on either side of a numeric column, see below.

    Returns:
        float64, shape (n, k), k = 0 where the column cannot be used; and how many of the most extreme values on either
        side were drawn in to the next one, so that no person carries more than MOST_WEIGHT. Mostly 0.
    """
    if bins.groups:
        kept = np.delete(np.arange(len(bins.counts)), bins.counts.argmax())
        columns = [standardised((bins.codes(values) == number).astype(float)) for number in kept]
        usable = [column for column in columns if _weight(column) <= MOST_WEIGHT]
        return np.column_stack([np.empty((len(values), 0)), *usable]), 0
    known = ~np.isnan(values)
    filled = np.array(values)
    if measure == "spearman":
        filled[known] = _ranks(values[known])
    for drawn_in in range(min(least, max(int(known.sum()) // 4, 1))):
        column = standardised(_drawn_in(filled, known, drawn_in))
        if column.any() and _weight(column) <= MOST_WEIGHT:
            return column[:, None], drawn_in
    return np.empty((len(values), 0)), 0


def standardised(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean 0 and mean square 1, NaN at the mean; all 0 for a constant column."""
    if np.isnan(column).all():
        return np.zeros(len(column))
    scaled = column / (np.nanmax(np.abs(column)) or 1.0)
    centred = np.nan_to_num(scaled - np.nanmean(scaled))
    spread = np.sqrt(np.mean(centred**2))
    return np.asarray(centred / spread) if spread > ROUNDING else np.zeros(len(column))


def strongest(joint: NDArray[np.float64], sizes: Sequence[int]) -> NDArray[np.float64]:
    """First canonical correlation of every two columns; of two numeric ones |Pearson's|.

    Args:
        joint: float64, shape (v, v): correlation of all vectors.
        sizes: vectors of each of the p columns, in order; they add up to v.

    Returns:
        float64, shape (p, p), 0 on the diagonal; NaN for a column without a vector.
    """
    parts = _parts(sizes)
    roots = [_inverse_root(joint[part, part]) for part in parts]
    result = np.full((len(sizes), len(sizes)), np.nan)
    for i, left in enumerate(parts):
        for j, right in enumerate(parts[:i]):
            if sizes[i] and sizes[j]:
                between = roots[i] @ joint[left, right] @ roots[j]
                result[i, j] = result[j, i] = min(float(np.linalg.norm(between, 2)), 1.0)
        if sizes[i]:
            result[i, i] = 0.0
    return result


def inflation(joint: NDArray[np.float64], sizes: Sequence[int]) -> NDArray[np.float64]:
    """Variance inflation of each column given all others; the arguments are those of :func:`strongest`.

    Of a column with k vectors the generalised factor det(R11)·det(R22)/det(R), to the power 1/k, so that it compares
    with the factor 1/(1 - R²) of a numeric column. At most MOST_INFLATION.

    Returns:
        float64, shape (p,); NaN for a column without a vector.
    """
    values, sides = np.linalg.eigh((joint + joint.T) / 2)
    inverse = (sides / np.maximum(values, FLOOR)) @ sides.T
    result = np.full(len(sizes), np.nan)
    for i, part in enumerate(_parts(sizes)):
        if sizes[i]:
            own, given = np.linalg.det(joint[part, part]), np.linalg.det(inverse[part, part])
            result[i] = min(max(own * given, 1.0) ** (1 / sizes[i]), MOST_INFLATION)
    return result


def _parts(sizes: Sequence[int]) -> list[slice]:
    ends = np.cumsum([0, *sizes]).tolist()
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def _inverse_root(block: NDArray[np.float64]) -> NDArray[np.float64]:
    values, sides = np.linalg.eigh((block + block.T) / 2)
    return np.asarray((sides / np.sqrt(np.maximum(values, FLOOR))) @ sides.T)


def _weight(column: NDArray[np.float64]) -> float:
    return float(np.max(column**2)) / max(len(column), 1)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])


def _drawn_in(values: NDArray[np.float64], known: NDArray[np.bool_], number: int) -> NDArray[np.float64]:
    """The `number` least and greatest known values replaced by the next ones."""
    if not number:
        return values
    ordered = np.sort(values[known])
    return np.where(known, np.clip(values, ordered[number], ordered[-1 - number]), np.nan)
