"""Quantile bins of a party's columns. Missing has a bin of its own; a category is its own bin."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BinEdges:
    """Where a party's columns are cut.

    Attributes:
        edges: per column float64, shape (b-1,), ascending: value x is in bin i when edges[i-1] < x <= edges[i].
            A categorical column has edges 0.5, 1.5 …, so that bin and code agree.
        categorical: bool, shape (p,).
    """

    edges: tuple[NDArray[np.float64], ...]
    categorical: NDArray[np.bool_]

    @classmethod
    def fit(cls, values: NDArray[np.float64], categorical: NDArray[np.bool_], max_bins: int = 32) -> "BinEdges":
        """Cut every column at quantiles of all the party's rows.

        A numeric column with few distinct values is cut between them; a bin then holds at least 1 / (4 · max_bins) of
        the rows, because rarer values only add candidates that no node could split off.

        Args:
            values: float64, shape (n, p); NaN is missing.
            categorical: bool, shape (p,): columns of codes.
            max_bins: most bins of a numeric column, at least 2.
        """
        edges = tuple(
            _codes_apart(column) if is_code else _quantiles(column, max_bins)
            for column, is_code in zip(values.T, categorical, strict=True)
        )
        return cls(edges, categorical)

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64, shape (p,): bins per column, the one for missing (always the last) included."""
        return np.array([len(edge) + 2 for edge in self.edges], dtype=np.int64)

    def codes(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """int64, shape (n, p): bin of every value; the column's last bin where it is missing."""
        codes = np.empty(values.shape, dtype=np.int64)
        for j, edge in enumerate(self.edges):
            codes[:, j] = np.where(
                np.isnan(values[:, j]), len(edge) + 1, np.searchsorted(edge, values[:, j], side="left")
            )
        return codes


def _codes_apart(column: NDArray[np.float64]) -> NDArray[np.float64]:
    known = column[~np.isnan(column)]
    return np.arange(known.max() if len(known) else 0, dtype=np.float64) + 0.5


def _quantiles(column: NDArray[np.float64], max_bins: int) -> NDArray[np.float64]:
    known = np.sort(column[~np.isnan(column)])
    if not len(known):
        return np.empty(0)
    distinct, counts = np.unique(known, return_counts=True)
    if len(distinct) <= max_bins:
        return _between(distinct, counts, len(known) / (4 * max_bins))
    cuts = np.quantile(known, np.arange(1, max_bins) / max_bins, method="inverted_cdf")
    above = np.searchsorted(distinct, cuts, side="right")
    above = np.unique(above[above < len(distinct)])
    return np.asarray((distinct[above - 1] + distinct[above]) / 2)


def _between(distinct: NDArray[np.float64], counts: NDArray[np.int64], least: float) -> NDArray[np.float64]:
    """Midpoints of neighbouring values, so chosen that every bin holds at least `least` rows."""
    edges, held, left = [], 0, int(counts.sum())
    for i in range(len(distinct) - 1):
        held, left = held + int(counts[i]), left - int(counts[i])
        if held >= least and left >= least:
            edges.append((distinct[i] + distinct[i + 1]) / 2)
            held = 0
    return np.array(edges, dtype=np.float64)
