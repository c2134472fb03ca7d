"""A party's usable columns, and which of their sums may be given away: no two that differ by too few people."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Column:
    """One usable column: its cuts, and where its sums and candidates stand.

    Attributes:
        number: of the column in the frame.
        categorical: whether its bins are codes.
        cuts: float64, thresholds of a numeric column, or the codes of a categorical one.
        missing: whether any shared person misses it.
        first: number of its first bin among all bins of the party.
        candidate: number of its first candidate.
        direction: 1 where the answer may only rise with the column, -1 fall, 0 either.
    """

    number: int
    categorical: bool
    cuts: NDArray[np.float64]
    missing: bool
    first: int
    candidate: int
    direction: int = 0

    @property
    def bins(self) -> int:
        """Bins, the last being for missing values (and, at a categorical column, for all other codes)."""
        return len(self.cuts) + 1 + (not self.categorical)

    @property
    def candidates(self) -> int:
        """Numeric: missing right for every cut, then missing left for every cut, then known against missing."""
        cuts = len(self.cuts)
        return 2 * cuts + 1 if self.missing and not self.categorical else cuts

    def codes(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """int64, shape (m,): bin of each value within the column."""
        if self.categorical:
            matches = values[:, None] == self.cuts
            return np.where(matches.any(axis=1), matches.argmax(axis=1), len(self.cuts))
        found = np.searchsorted(self.cuts, values, side="left")
        return np.where(np.isnan(values), len(self.cuts) + 1, found)


def _enough(counts: NDArray[np.int64], least: int) -> bool:
    """Nobody, or at least `least` people, in each."""
    return bool(((counts == 0) | (counts >= least)).all())


def spaced(
    known: list[NDArray[np.int64]], beyond: NDArray[np.int64], allowed: NDArray[np.bool_], least: int
) -> NDArray[np.bool_]:
    """Cuts chosen greedily from the left, with nobody or enough people between any two; bool per cut.

    Args:
        known: per node people by bin, one bin more than cuts.
        beyond: per node people who go right with any cut (missing values), unless they are told apart.
        allowed: cuts that may be chosen.
        least: how many are enough.
    """
    chosen = np.zeros(len(allowed), dtype=bool)
    by_bin = np.array(known).T.tolist()  # plain integers: there are few nodes and many cuts
    nobody = [0] * len(known)
    held, left = nobody, (np.sum(known, axis=1) + beyond).tolist()
    for cut, may in enumerate(allowed.tolist()):
        held = [count + more for count, more in zip(held, by_bin[cut], strict=True)]
        left = [count - less for count, less in zip(left, by_bin[cut], strict=True)]
        if may and any(held) and any(left) and all(not count or count >= least for count in (*held, *left)):
            chosen[cut] = True
            held = nobody
    return chosen


def released_thresholds(
    column: Column, bins: list[NDArray[np.int64]], allowed: NDArray[np.bool_], least: int
) -> NDArray[np.bool_]:
    """Which candidates of a numeric column may be given away; `bins` are people by bin for each node shown."""
    cuts = len(column.cuts)
    missing = np.array([count[-1] for count in bins])
    known = [count[:-1] for count in bins]
    apart = column.missing and bool(allowed[-1]) and bool(missing.any()) and _enough(missing, least)
    apart = apart and _enough(np.array([count.sum() for count in known]), least)
    right = spaced(known, np.zeros_like(missing) if apart else missing, allowed[:cuts], least)
    if not column.missing:
        return right
    return np.concatenate([right, right & apart & allowed[cuts:-1], [apart]])


def released_categories(bins: list[NDArray[np.int64]], allowed: NDArray[np.bool_], least: int) -> NDArray[np.bool_]:
    """Which categories may be told from the rest; what remains must be nobody or enough people, too."""
    counts = np.array(bins)[:, :-1]
    kept = np.array([_enough(count, least) and bool(count.any()) for count in counts.T], dtype=bool) & allowed
    for code in np.argsort(counts.sum(axis=0), kind="stable"):
        rest = np.array([count.sum() for count in bins]) - counts[:, kept].sum(axis=1)
        if _enough(rest, least):
            break
        kept[code] = False
    return kept
