"""The splits a party can offer, and which of their sums the active party may see.

A candidate sends the people of some bins of one column to the left. Its sum is the sum of gradients and hessians over
them. The sums of a column are built from sums by bin: cumulative along the thresholds of a numeric column, once with
missing values on the right and, where there are any, once with them on the left; one against the rest for a category.

The active party knows every person's gradient, so two decrypted sums that differ by one person would tell her bin.
Therefore a party *withholds* candidates until all sums it gives of one column differ by nobody or by at least
`min_bucket` people, in the node summed and in its sibling, whose sums follow by subtraction.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ftl.features import BinEdges
from ftl.protocols.boosting.columns import Column, released_categories, released_thresholds, spaced
from ftl.protocols.boosting.offers import EITHER, FALLING, RISING
from ftl.protocols.boosting.partition import leaf_bits
from ftl.protocols.trees import Split

A = TypeVar("A")


class Candidates:
    """All candidates of a party for one run.

    Args:
        values: float64, shape (shared, p): the party's columns for the shared training people.
        edges: bins fitted on all the party's rows.
        min_bucket: fewest people that two sums of a column may differ by.
        monotone: int8, shape (p,): 1 where the answer may only rise with a numeric column, -1 fall; None for all 0.

    Attributes:
        columns: the usable ones.
        codes: int8, shape (shared, columns): bin of each person.
        bins: per column the number of bins; the first has one more, always empty, that serves as zero.
        count: number of candidates.
        place: int64, shape (count,): place in `columns` of each candidate's column.
        offered: uint8, shape (count,): ``EITHER``, ``RISING`` or ``FALLING`` for each candidate.
    """

    def __init__(
        self,
        values: NDArray[np.float64],
        edges: BinEdges,
        min_bucket: int,
        monotone: NDArray[np.int8] | None = None,
    ) -> None:
        self.min_bucket = min_bucket
        self._monotone = np.zeros(values.shape[1], dtype=np.int8) if monotone is None else monotone
        self.columns: list[Column] = []
        self.count = 0
        first = 0
        for number, edge in enumerate(edges.edges):
            is_code = bool(edges.categorical[number])
            column = self._usable(number, values[:, number], edge, categorical=is_code, at=first)
            if column is not None:
                self.columns.append(column)
                first += column.bins + (len(self.columns) == 1)
                self.count += column.candidates
        self.bins = [column.bins + (place == 0) for place, column in enumerate(self.columns)]
        self.zero = self.columns[0].bins if self.columns else 0
        coded = [column.codes(values[:, column.number]) for column in self.columns]
        self.codes = np.column_stack(coded).astype(np.int8) if coded else np.empty((len(values), 0), dtype=np.int8)
        self._base, self._extra = self._composition()
        self.place = np.repeat(np.arange(len(self.columns)), [column.candidates for column in self.columns])
        self.offered = self._directions()

    def _usable(
        self, number: int, values: NDArray[np.float64], edge: NDArray[np.float64], *, categorical: bool, at: int
    ) -> Column | None:
        """The column with those cuts between which there are enough shared people, or None when there is no cut."""
        if categorical:
            codes, counts = np.unique(values[~np.isnan(values)], return_counts=True)
            cuts = codes[(counts >= self.min_bucket) & (len(values) - counts >= self.min_bucket)]
        else:
            full = Column(number, categorical, edge, missing=True, first=0, candidate=0)
            counts = np.bincount(full.codes(values), minlength=full.bins)
            cuts = edge[spaced([counts[:-1]], counts[-1:], np.ones(len(edge), dtype=bool), self.min_bucket)]
        missing = int(np.count_nonzero(np.isnan(values)))
        splits_missing = self.min_bucket <= missing <= len(values) - self.min_bucket
        if not len(cuts) and (categorical or not splits_missing):
            return None
        direction = 0 if categorical else int(self._monotone[number])
        return Column(number, categorical, cuts, splits_missing, at, self.count, direction)

    def _directions(self) -> NDArray[np.uint8]:
        """How each candidate may be used; known against missing is free."""
        offered = np.full(self.count, EITHER, dtype=np.uint8)
        for column in self.columns:
            if column.direction:
                last = column.candidate + column.candidates - column.missing
                offered[column.candidate : last] = RISING if column.direction > 0 else FALLING
        return offered

    def _composition(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Per candidate the two cumulated bins whose sum it is; the second is the empty bin for most."""
        base, extra = np.full(self.count, self.zero), np.full(self.count, self.zero)
        for column in self.columns:
            cuts, at = len(column.cuts), column.candidate
            base[at : at + cuts] = column.first + np.arange(cuts)
            if column.missing and not column.categorical:
                base[at + cuts : at + 2 * cuts] = column.first + np.arange(cuts)
                extra[at + cuts : at + 2 * cuts] = column.first + cuts + 1
                base[at + 2 * cuts] = column.first + cuts
        return base, extra

    def sums(
        self,
        by_bin: A,
        given: NDArray[np.int64],
        add: Callable[[A, A], A],
        take: Callable[[A, NDArray[np.int64]], A],
    ) -> A:
        """Left sums of the candidates, from sums by bin; the same steps in the clear and under encryption.

        Args:
            by_bin: sums of all bins, column after column.
            given: candidate at each place of the result.
            add: element-wise sum.
            take: the elements at given places.
        """
        cumulated, step = by_bin, 1
        while step < max(self.bins):  # prefix sums within each column by doubling
            cumulated = add(cumulated, take(cumulated, self._back(step)))
            step *= 2
        return add(take(cumulated, self._base[given]), take(cumulated, self._extra[given]))

    def _back(self, step: int) -> NDArray[np.int64]:
        """The bin `step` before each bin within its numeric column; the empty bin where there is none."""
        back = np.full(sum(self.bins), self.zero)
        for column in self.columns:
            if not column.categorical:
                known = len(column.cuts) + 1
                back[column.first + step : column.first + known] = column.first + np.arange(max(known - step, 0))
        return back

    def bins_at(self, used: NDArray[np.bool_]) -> tuple[NDArray[np.int8], list[int], NDArray[np.int64]]:
        """What must be summed when only some columns are used.

        Args:
            used: bool, shape (columns,), at least one.

        Returns:
            (codes, bins) of the used columns, the first with an empty bin more; and for each of all the bins its place
            among those, the empty one where the column is not used.
        """
        places = np.flatnonzero(used)
        extra = int(places[0] != 0)
        bins = [self.bins[place] + (extra if place == places[0] else 0) for place in places.tolist()]
        empty = bins[0] - 1
        at = np.full(sum(self.bins), empty)
        start = 0
        for place, length in zip(places.tolist(), bins, strict=True):
            column = self.columns[place]
            at[column.first : column.first + column.bins] = start + np.arange(column.bins)
            start += length
        return self.codes[:, places], bins, at

    def counts(self, people: NDArray[np.bool_]) -> NDArray[np.int64]:
        """int64, shape (all bins,): how many of `people` are in each bin."""
        places = np.array([column.first for column in self.columns]) + self.codes[people]
        return np.bincount(places.ravel(), minlength=sum(self.bins))

    def releasable(self, counts: list[NDArray[np.int64]], allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """bool, shape (count,): candidates whose sums may be given away.

        Args:
            counts: people by bin, of the node summed and, if any, of its sibling.
            allowed: those given away of the parent; all at a root.
        """
        released = np.zeros(self.count, dtype=bool)
        for column in self.columns:
            part = slice(column.candidate, column.candidate + column.candidates)
            bins = [count[column.first : column.first + column.bins] for count in counts]
            if column.categorical:
                released[part] = released_categories(bins, allowed[part], self.min_bucket)
            else:
                released[part] = released_thresholds(column, bins, allowed[part], self.min_bucket)
        return released

    def goes_left(self, candidate: int) -> NDArray[np.bool_]:
        """bool, shape (shared,): who goes left by a candidate, missing values as it says."""
        column, cut, missing_left = self._locate(candidate)
        codes = self.codes[:, self._place(column)]
        if column.categorical:
            return np.asarray(codes == cut)
        return np.where(self.is_missing(column), missing_left, codes <= cut)

    def _place(self, column: Column) -> int:
        return next(place for place, each in enumerate(self.columns) if each.number == column.number)

    def is_missing(self, column: Column) -> NDArray[np.bool_]:
        """bool, shape (shared,): who misses a numeric column."""
        return np.asarray(self.codes[:, self._place(column)] == len(column.cuts) + 1)

    def split(
        self, candidate: int, members: NDArray[np.bool_], tree: int, at: tuple[int, int], depth: int
    ) -> tuple[Split, NDArray[np.bool_]]:
        """A node's split by a candidate.

        Where nobody in the node misses the column, later people who do go where most of the node's people go.

        Args:
            candidate: its number.
            members: bool, shape (shared,): the node's people.
            tree: number of the tree in the run.
            at: (level, node).
            depth: levels of the tree.

        Returns:
            the split, and bool, shape (shared,): which of the members go left.
        """
        column, threshold, codes, missing_left = self.describe(candidate)
        left = np.asarray(self.goes_left(candidate) & members)
        if threshold is not None and not self.is_missing(column)[members].any():
            missing_left = bool(np.count_nonzero(left) * 2 >= np.count_nonzero(members))
        level, node = at
        bits = leaf_bits(2 * node, level + 1, depth), leaf_bits(2 * node + 1, level + 1, depth)
        return Split(tree, column.number, threshold, codes, missing_left, *bits), left

    def describe(self, candidate: int) -> tuple[Column, float | None, tuple[int, ...], bool]:
        """(column, threshold, codes on the left, whether missing goes left) of a candidate."""
        column, cut, missing_left = self._locate(candidate)
        if column.categorical:
            return column, None, (int(column.cuts[cut]),), False
        if cut == len(column.cuts):
            return column, float(np.finfo(np.float64).max), (), False
        return column, float(column.cuts[cut]), (), missing_left

    def _locate(self, candidate: int) -> tuple[Column, int, bool]:
        column = next(c for c in reversed(self.columns) if c.candidate <= candidate)
        place, cuts = candidate - column.candidate, len(column.cuts)
        if place == 2 * cuts:
            return column, cuts, False
        return (column, place - cuts, True) if place >= cuts else (column, place, False)
