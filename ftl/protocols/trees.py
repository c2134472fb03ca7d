"""Trees as sets of splits: which leaves of each tree a person can still reach, as far as some columns say.

Every split names the leaves under its left and its right child as bits of a 64-bit word. A split that sends a person to
the left rules out the leaves on the right, and the other way round; a person's leaves are the AND over all splits.
Who knows all columns is left with one leaf per tree; who knows some of them, with the leaves that they allow. So the
same arrays serve a whole tree (the base model) and one party's share of a federated one. For speed all splits on one
column are laid out by the column's sorted thresholds (as in QuickScorer, Lucchese et al. 2015): a value needs one
binary search, and then one row of words holds its effect on all trees.
"""

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

MOST_LEAVES = 64
"""Per tree; one bit of a word each."""

CHUNK = 4096
"""Rows scored at once, so that a chunk of words stays in the processor's cache."""


class Split(msgspec.Struct, frozen=True, array_like=True):
    """One split of one tree, without any leaf value.

    Attributes:
        tree: number of the tree.
        column: number of the column.
        threshold: a number goes left when it is at most this; None at a split on categories.
        categories: codes that go left; empty at a split on numbers.
        missing_left: where a missing value (or an unseen category) goes.
        left: bits of the leaves under the left child.
        right: bits of the leaves under the right child.
    """

    tree: int
    column: int
    threshold: float | None
    categories: tuple[int, ...]
    missing_left: bool
    left: int
    right: int


class Reach:
    """The leaves that people can still reach, from splits laid out by column.

    Args:
        splits: of all trees, on the columns that this party has.
        columns: how many columns there are.
        trees: how many trees there are; a tree without a split keeps all its leaves.
    """

    def __init__(self, splits: Iterable[Split], columns: int, trees: int) -> None:
        self.trees = trees
        by_column: list[list[Split]] = [[] for _ in range(columns)]
        for split in splits:
            by_column[split.column].append(split)
        self._tables = {j: _Table.of(found, trees) for j, found in enumerate(by_column) if found}
        self._users = {j: frozenset(split.tree for split in found) for j, found in enumerate(by_column) if found}

    def leaves(self, values: NDArray[np.float64], without: frozenset[int] = frozenset()) -> NDArray[np.uint64]:
        """Leaves that the columns allow.

        Args:
            values: float64, shape (m, columns); NaN is missing.
            without: columns that are free: their splits rule out nothing.

        Returns:
            uint64, shape (m, trees).
        """
        reached = np.full((len(values), self.trees), ~np.uint64(0))
        for column, table in self._tables.items():
            if column not in without:
                reached &= table.words[table.rows(values[:, column])]
        return reached

    def of(self, trees: NDArray[np.int64], columns: frozenset[int]) -> "Reach":
        """The same for some trees only, as far as some columns say; tree i is the i-th of `trees`."""
        part = Reach((), 0, len(trees))
        chosen = columns & self._tables.keys()
        part._tables = {j: _Table(self._tables[j].points, self._tables[j].words[:, trees]) for j in chosen}
        return part

    def trees_using(self, columns: frozenset[int]) -> NDArray[np.int64]:
        """int64: numbers of the trees that split on one of `columns`, ascending."""
        used = frozenset[int]().union(*(self._users[column] for column in columns if column in self._users))
        return np.array(sorted(used), dtype=np.int64)


class _Table:
    """All splits on one column: `words[r]` is the effect on every tree of a value in interval r."""

    def __init__(self, points: NDArray[np.float64], words: NDArray[np.uint64]) -> None:
        self.points = points
        self.words = words

    @classmethod
    def of(cls, splits: Sequence[Split], trees: int) -> "_Table":
        is_code = splits[0].threshold is None
        codes = [code for split in splits for code in split.categories]
        cuts = range(max(codes, default=-1) + 1) if is_code else sorted({split.threshold or 0.0 for split in splits})
        points = np.array(cuts, dtype=np.float64)
        words = np.full((len(points) + 2, trees), ~np.uint64(0))
        for split in splits:
            goes_left = np.zeros(len(words), dtype=bool)
            if is_code:
                goes_left[list(split.categories)] = True
            else:
                goes_left[: np.searchsorted(points, split.threshold or 0.0) + 1] = True
            goes_left[-1] = split.missing_left
            words[:, split.tree] &= np.where(goes_left, ~np.uint64(split.right), ~np.uint64(split.left))
        return cls(points, words)

    def rows(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Row of `words` for each value; the last one is for missing."""
        found = np.searchsorted(self.points, values, side="left")
        return np.where(np.isnan(values), len(self.points) + 1, found)


class Ensemble(msgspec.Struct, frozen=True):
    """Whole trees: a sum of leaf values in log-odds.

    Attributes:
        baseline: log-odds before the first tree.
        leaves: per tree its leaf values; at most 64.
        splits: of all trees.
    """

    baseline: float
    leaves: tuple[tuple[float, ...], ...]
    splits: tuple[Split, ...]

    def compile(self, columns: int) -> "CompiledEnsemble":
        """Lay the trees out for scoring rows of `columns` columns."""
        return CompiledEnsemble(self, columns)


class CompiledEnsemble:
    """An :class:`Ensemble` laid out for speed: one person takes some 0.1 ms, a batch some 10 µs per person."""

    def __init__(self, ensemble: Ensemble, columns: int) -> None:
        self.baseline = ensemble.baseline
        self.reach = Reach(ensemble.splits, columns, len(ensemble.leaves))
        width = max((len(values) for values in ensemble.leaves), default=1)
        self._values = np.zeros((len(ensemble.leaves), width))
        for row, values in zip(self._values, ensemble.leaves, strict=True):
            row[: len(values)] = values

    def log_odds(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64, shape (m,): trees are added one after the other, as scikit-learn does, so that all bits agree."""
        return np.concatenate(
            [self._chunk(values[start : start + CHUNK]) for start in range(0, max(len(values), 1), CHUNK)]
        )

    def vary(self, columns: frozenset[int], levels: NDArray[np.float64]) -> "Variation":
        """Prepare for the question what the log-odds would be if some columns had other values."""
        return Variation(self.reach, self._values, columns, levels)

    def _chunk(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        steps = np.empty((len(values), self.reach.trees + 1))
        steps[:, 0] = self.baseline
        numbers = lowest_leaf(self.reach.leaves(values))
        steps[:, 1:] = self._values[np.arange(self.reach.trees), numbers]
        return np.asarray(np.cumsum(steps, axis=1)[:, -1])


class Variation:
    """Log-odds if some columns had other values; only the trees that use them are walked again.

    Args:
        reach: of the ensemble.
        leaf_values: float64, shape (trees, leaves).
        columns: those that take other values.
        levels: float64, shape (k, columns): the other values, one set after the other.
    """

    def __init__(
        self,
        reach: Reach,
        leaf_values: NDArray[np.float64],
        columns: frozenset[int],
        levels: NDArray[np.float64],
    ) -> None:
        trees = reach.trees_using(columns)
        self._others = reach.of(trees, frozenset(range(levels.shape[1])) - columns)
        self._own = reach.of(trees, columns)
        self._free = self._own.leaves(levels)
        self._places = np.arange(len(trees)) * leaf_values.shape[1]
        self._table = np.ascontiguousarray(leaf_values[trees]).ravel()

    def log_odds(self, values: NDArray[np.float64], now: NDArray[np.float64]) -> NDArray[np.float64]:
        """Float64, shape (k, m).

        Args:
            values: float64, shape (m, columns); NaN is missing.
            now: float64, shape (m,): the ensemble's log-odds of them.
        """
        found = np.empty((len(self._free), len(values)))
        for start in range(0, len(values), CHUNK):
            rows = slice(start, start + CHUNK)
            others = self._others.leaves(values[rows])
            rest = now[rows] - self._total(others & self._own.leaves(values[rows]))
            for level, allowed in enumerate(self._free):
                found[level, rows] = rest + self._total(others & allowed)
        return found

    def _total(self, leaves: NDArray[np.uint64]) -> NDArray[np.float64]:
        return np.asarray(self._table[self._places + lowest_leaf(leaves)].sum(axis=1))


def lowest_leaf(leaves: NDArray[np.uint64]) -> NDArray[np.int64]:
    """int64, same shape: number of the lowest set bit, 64 where none is set."""
    return np.bitwise_count((leaves & (~leaves + np.uint64(1))) - np.uint64(1)).astype(np.int64)


def probability(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(−log_odds)), without overflow."""
    small = np.exp(-np.abs(log_odds))
    return np.asarray(np.where(log_odds >= 0, 1 / (1 + small), small / (1 + small)))
