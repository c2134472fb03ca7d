"""The bins of a column as their owner keeps them: a table, and SQL for the `derived` section of `consortium.yaml`."""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.features.binning import FineBins


class WoeBin(msgspec.Struct, frozen=True):
    """One merged bin.

    Attributes:
        people: training people in it.
        low, high: a known number x is in it when low < x <= high; None where there is no such bound.
        categories: texts of its categories.
        known: whether it is for known values; a bin for missing values alone is not.
        missing: whether missing values belong to it.
        woe: weight of evidence; None where the active party did not tell it.
        bad: bad people in it; None at a passive party.
    """

    people: int
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] = ()
    known: bool = True
    missing: bool = False
    woe: float | None = None
    bad: int | None = None


class WoeTable(msgspec.Struct, frozen=True):
    """The merged bins of one column.

    Attributes:
        column: its name.
        number: under which number the other parties know it.
        categorical: whether its values are categories.
        bins: in the order of the values; categories in no particular order; one for missing values alone comes last.
        information_value: as told.
        selected: whether it was chosen.
        reason: why not; empty where it was.
        stability: stability index of training people against the holdout; None without a holdout.
        overlap_stability: the index of the party's other people against the training people.
        drawn_in: how many extreme values on either side were drawn in for the correlation.
    """

    column: str
    number: int
    categorical: bool
    bins: tuple[WoeBin, ...]
    information_value: float
    selected: bool
    reason: str = ""
    stability: float | None = None
    overlap_stability: float | None = None
    drawn_in: int = 0

    @property
    def told(self) -> bool:
        """Whether the weight of evidence of any bin is known here."""
        return any(each.woe is not None for each in self.bins)


def merged_bins(
    fine: FineBins,
    group: NDArray[np.int64],
    texts: Sequence[str],
    woe: Sequence[float | None],
    bad: Sequence[int] | None = None,
) -> tuple[WoeBin, ...]:
    """Describe merged bins.

    Args:
        fine: the column's fine bins.
        group: int64, shape (fine bins,): merged bin of each.
        texts: category texts by code; empty for a numeric column.
        woe: of each merged bin.
        bad: bad people of each merged bin, where known.
    """
    bins = []
    for number in range(int(group.max()) + 1):
        members = np.flatnonzero(group == number)
        known = members[members < fine.known]
        low, high = (None, None) if fine.groups else _bounds(fine, known)
        bins.append(
            WoeBin(
                people=int(fine.counts[members].sum()),
                low=low,
                high=high,
                categories=tuple(texts[code] for place in known for code in _codes(fine, int(place))),
                known=bool(len(known)),
                missing=fine.missing in members,
                woe=woe[number],
                bad=None if bad is None else int(bad[number]),
            )
        )
    return tuple(bins)


def derived(table: WoeTable) -> tuple[str, str]:
    """Name and SQL expression of the column coded by bin, for `tables.NAME.derived`.

    The code is the weight of evidence, 0 where it is not known; or the number of the bin, where none is known.
    """
    if table.told:
        return f"{table.column}_woe", _case(table, [_double(each.woe or 0.0) for each in table.bins], _double(0.0))
    return f"{table.column}_bin", _case(table, [str(number + 1) for number in range(len(table.bins))], "0")


def _case(table: WoeTable, codes: Sequence[str], unknown: str) -> str:
    name = '"' + table.column.replace('"', '""') + '"'
    known, gaps, last = [], [f"WHEN {name} IS NULL THEN {unknown}"], unknown
    for each, code in zip(table.bins, codes, strict=True):
        if each.missing:
            gaps = [f"WHEN {name} IS NULL THEN {code}"]
        if table.categorical and each.categories:
            listed = ", ".join(_quoted(text) for text in _spellings(each.categories, table))
            known.append(f"WHEN CAST({name} AS VARCHAR) IN ({listed}) THEN {code}")
        elif each.high is not None:
            known.append(f"WHEN {name} <= {_double(each.high)} THEN {code}")
        elif each.known and not table.categorical:
            last = code
    return " ".join(["CASE", *gaps, *known, f"ELSE {last} END"])


def _spellings(categories: Sequence[str], table: WoeTable) -> list[str]:
    """The categories' texts, and 3.0 beside 3: the encoder calls both 3, SQL tells them apart."""
    every = {text for each in table.bins for text in each.categories}
    whole = [text + ".0" for text in categories if text.lstrip("-").isdigit() and text + ".0" not in every]
    return [*categories, *whole]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _double(value: float) -> str:
    """A number that SQL reads as the same double precision number, not as a decimal."""
    text = repr(value)
    return text if "e" in text else text + "e0"


def _codes(fine: FineBins, place: int) -> tuple[int, ...]:
    return fine.groups[place] if fine.groups else ()


def _bounds(fine: FineBins, known: NDArray[np.int64]) -> tuple[float | None, float | None]:
    if not len(known):
        return None, None
    first, last = int(known.min()), int(known.max())
    low = None if first == 0 else float(fine.edges[first - 1])
    return low, None if last == len(fine.edges) else float(fine.edges[last])
