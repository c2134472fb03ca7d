"""Fine bins of one column, and the merging of them into few along which the share of bad people only rises or falls.

A *fine bin* is made without labels and holds enough people to be spoken of. *Merging* sees only how many people and how
many bad ones are in each fine bin, never a value, so it can be done by somebody who does not know what the bins are.

The merging is exact: of all ways to join neighbours it finds the one with the greatest information value under the
rules, by dynamic programming over at most some hundred bins. It gives the same bins when the chain is read backwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ftl.features.bins import BinEdges
from ftl.features.woe import shares_of_value

Trend = Literal["auto", "rising", "falling", "none"]
"""How the share of bad people may move along a column; `auto` is whichever of rising and falling tells more."""

UNKNOWN = -1
"""Bin of a value of which training people tell nothing."""


@dataclass(frozen=True)
class FineBins:
    """Where one column is cut.

    Attributes:
        edges: float64, ascending: value x is in bin i when edges[i-1] < x <= edges[i]; empty for a categorical column.
        groups: codes of each bin of a categorical column; empty for a numeric one.
        known: bins for values that are known; they have the numbers 0 … known - 1.
        missing: bin of missing values: `known` where they have one of their own, that of the bin which they share where
            they are too few, UNKNOWN where there are none.
        counts: int64, shape (bins,): training people in each bin.
    """

    edges: NDArray[np.float64]
    groups: tuple[tuple[int, ...], ...]
    known: int
    missing: int
    counts: NDArray[np.int64]

    @classmethod
    def fit(cls, values: NDArray[np.float64], *, categorical: bool, most: int, least: int) -> "FineBins":
        """Cut a column so that every bin holds at least `least` people (one bin in all where there are not so many).

        Fewer missing values than that are counted with the fullest bin of a numeric column. Categories that are rarer
        share a bin, with missing values where these are few; it is joined to the rarest other one if it is too small.

        Args:
            values: float64, shape (n,), of the training people; NaN is missing, categories are codes.
            categorical: whether the values are codes.
            most: bins of a numeric column.
            least: people in a bin.
        """
        gaps = int(np.isnan(values).sum())
        known = values[~np.isnan(values)]
        cut = _by_category(known, least, gaps) if categorical else _by_quantile(known, most, least)
        counts = np.bincount(cut.codes(known), minlength=cut.known) if len(known) else np.zeros(cut.known, np.int64)
        return cut.with_missing(counts, gaps, least)

    def with_missing(self, counts: NDArray[np.int64], gaps: int, least: int) -> "FineBins":
        """The same cuts with a place for `gaps` missing values; `counts` are known people by bin."""
        if gaps >= least and counts.sum() >= least:
            return FineBins(self.edges, self.groups, self.known, self.known, np.append(counts, gaps))
        shared = self.missing if self.missing != UNKNOWN else int(counts.argmax())
        return FineBins(self.edges, self.groups, self.known, shared if gaps else UNKNOWN, _added(counts, shared, gaps))

    @property
    def own_missing(self) -> bool:
        """Whether the last bin is for missing values alone."""
        return self.missing == self.known

    def codes(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """int64, shape (m,): bin of each value; UNKNOWN where training people tell nothing of it."""
        if not self.groups:
            found = np.searchsorted(self.edges, values, side="left")
            return np.where(np.isnan(values), self.missing, found)
        found = np.full(len(values), UNKNOWN)
        for number, group in enumerate(self.groups):
            found[np.isin(values, group)] = number
        return np.where(np.isnan(values), self.missing, found)


def _added(counts: NDArray[np.int64], place: int, more: int) -> NDArray[np.int64]:
    counts = counts.astype(np.int64)
    counts[place] += more
    return counts


def _by_quantile(known: NDArray[np.float64], most: int, least: int) -> FineBins:
    edges = BinEdges.fit(known[:, None], np.array([False]), most).edges[0]
    counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
    kept, held, left = [], 0, int(counts.sum())
    for edge, count in zip(edges, counts[:-1], strict=True):
        held, left = held + int(count), left - int(count)
        if held >= least and left >= least:
            kept.append(float(edge))
            held = 0
    return FineBins(np.array(kept, dtype=np.float64), (), len(kept) + 1, UNKNOWN, np.zeros(len(kept) + 1, np.int64))


def _by_category(known: NDArray[np.float64], least: int, gaps: int) -> FineBins:
    """Bins of the categories that occur; `missing` is the bin of the rare ones, where there is one."""
    codes, counts = np.unique(known.astype(np.int64), return_counts=True)
    groups: list[tuple[int, ...]] = [(int(code),) for code in codes[counts >= least]]
    rare = tuple(int(code) for code in codes[counts < least])
    held = int(counts[counts < least].sum()) + (gaps if gaps < least else 0)
    place = UNKNOWN
    if rare and (held >= least or not groups):
        groups.append(rare)
        place = len(groups) - 1
    elif rare:
        frequent = counts[counts >= least]
        place = int(frequent.argmin())
        groups[place] += rare
    groups = groups or [()]
    return FineBins(np.empty(0), tuple(groups), len(groups), place, np.zeros(len(groups), np.int64))


@dataclass(frozen=True)
class Rules:
    """What a merged bin must be.

    Attributes:
        most: merged bins, those for missing values not counted.
        least: people in a merged bin.
        of_a_class: good people, and bad people, in a merged bin.
    """

    most: int
    least: int
    of_a_class: int


def merge_chain(
    bad: NDArray[np.int64], total: NDArray[np.int64], all_bad: int, everybody: int, trend: Trend, rules: Rules
) -> NDArray[np.int64]:
    """Join neighbours of a chain of bins.

    Args:
        bad: int64, shape (k,): bad people by bin.
        total: int64, shape (k,): people by bin.
        all_bad: bad people of the whole column, those with missing values included.
        everybody: people of the whole column.
        trend: how the share of bad people moves from the first bin to the last; `none` joins nothing.
        rules: for the merged bins.

    Returns:
        int64, shape (k,): merged bin of each bin, 0 … in the order of the chain; all 0 where the rules allow no cut.
    """
    if trend == "none":
        return np.arange(len(bad))
    value = shares_of_value(*_segments(bad, total), all_bad, everybody)
    found: list[tuple[float, list[int]]] = []
    if trend != "falling":
        found.append(_rising(bad, total, value, rules))
    if trend != "rising":
        gain, starts = _rising(bad[::-1], total[::-1], value[::-1, ::-1].T, rules)
        found.append((gain, sorted(len(bad) - start for start in starts)))
    starts = max(found, key=lambda each: each[0])[1]
    return np.searchsorted(np.array(starts, dtype=np.int64), np.arange(len(bad)), side="right").astype(np.int64)


def merge_categories(
    bad: NDArray[np.int64], total: NDArray[np.int64], all_bad: int, everybody: int, rules: Rules
) -> NDArray[np.int64]:
    """Join categories with a like share of bad people; the arguments are those of :func:`merge_chain`.

    Returns:
        int64, shape (k,): merged bin of each category, numbered as they first appear, so that the numbers say nothing.
    """
    _, level = np.unique(bad / total, return_inverse=True)  # equal fractions are equal floats
    bads, people = (np.bincount(level, weights=each).astype(np.int64) for each in (bad, total))
    return by_first_appearance(merge_chain(bads, people, all_bad, everybody, "rising", rules)[level])


def by_first_appearance(numbers: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """The same grouping with groups numbered 0, 1 … as they come."""
    seen: dict[int, int] = {}
    return np.array([seen.setdefault(int(number), len(seen)) for number in numbers], dtype=np.int64)


def _segments(bad: NDArray[np.int64], total: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bad people and people of the bins i … j-1 for every i < j, int64, shape (k+1, k+1) each; elsewhere no use."""
    sums = [np.concatenate([[0], np.cumsum(each)]) for each in (bad, total)]
    bads, people = (each[None, :] - each[:, None] for each in sums)
    return bads, people


def _rising(
    bad: NDArray[np.int64], total: NDArray[np.int64], value: NDArray[np.float64], rules: Rules
) -> tuple[float, list[int]]:
    """Information value and inner starts of the best merged bins whose share of bad people rises strictly.

    best[c][i, j] is the greatest value of c merged bins of which the last is i … j-1:
    best[c][i, j] = value[i, j] + max over h < i of best[c-1][h, i] where the share of bad in h … i-1 is less.
    """
    count = len(bad)
    bads, people = _segments(bad, total)
    apart = np.triu(np.ones_like(people, dtype=bool), 1)
    good = people - bads
    fits = apart & (people >= rules.least) & (bads >= rules.of_a_class) & (good >= rules.of_a_class)
    best = np.where(fits & (np.arange(count + 1) == 0)[:, None], value, -np.inf)
    reached: list[tuple[float, list[int]]] = [(float(best[0, count]), [])]
    back: list[NDArray[np.int64]] = []
    for _ in range(1, min(rules.most, count)):
        before, best = best, np.full_like(value, -np.inf)
        came = np.zeros_like(people)
        for i in range(1, count):
            less = bads[:i, i, None] * people[i] < bads[i] * people[:i, i, None]
            options = np.where(less, before[:i, i, None], -np.inf)
            came[i] = options.argmax(axis=0)
            best[i] = np.where(fits[i], value[i] + options.max(axis=0), -np.inf)
        back.append(came)
        start = int(best[:, count].argmax())
        reached.append((float(best[start, count]), _starts(back, start, count)))
    return max(reached, key=lambda each: each[0])


def _starts(back: list[NDArray[np.int64]], start: int, end: int) -> list[int]:
    """Where the merged bins after the first begin."""
    starts = []
    for came in reversed(back):
        starts.append(start)
        start, end = int(came[start, end]), start
    return starts[::-1]
