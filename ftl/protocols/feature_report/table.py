"""The report: one line per column of every party, and the correlations for the active party's own eyes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.features.dependence import inflation, strongest
from ftl.protocols.feature_report.messages import CHAIN, Reason
from ftl.protocols.feature_report.profile import Profile
from ftl.protocols.feature_report.selection import Finding, in_words, select, within_selected
from ftl.protocols.feature_report.settings import Settings


@dataclass
class Entry:
    """One column as the active party knows it.

    Attributes:
        party: its owner.
        name: of the column, or its number in the owner's secret order.
        profile: of its bins.
        vectors: how many it has in the joint correlation matrix.
        stability, overlap_stability: indices that its owner told.
        own: whether it is the active party's.
    """

    party: str
    name: str
    profile: Profile
    vectors: int
    stability: float | None
    overlap_stability: float | None
    own: bool

    @property
    def trend(self) -> str | None:
        """How the share of bad people moves; of a partner's column, whose direction is hidden, only whether one way."""
        found = self.profile.trend
        return found if self.own or found in {None, "none"} else "monotone"


@dataclass(frozen=True)
class Judged:
    """The columns' relations and what became of them.

    Attributes:
        joint: float64, shape (v, v): correlation of all vectors.
        related: float64, shape (p, p): strongest correlation of every two columns.
        inflation: float64, shape (p,): given all other columns.
        selected_inflation: place of each selected column to its inflation given the other selected ones.
        reasons: per column why it was not selected.
    """

    joint: NDArray[np.float64]
    related: NDArray[np.float64]
    inflation: NDArray[np.float64]
    selected_inflation: dict[int, float]
    reasons: list[Reason]

    def report(self, entries: Sequence[Entry], *, exact: bool) -> dict[str, Any]:
        """One line per column as plain JSON values, the greatest information value first; and the selected columns.

        Args:
            entries: the columns.
            exact: whether figures that come from labels are given to the last digit for partners' columns as well. A
                partner who read them could search the numbers of bad people in its bins that give just these.
        """
        lines = [self._line(entries, place) for place in range(len(entries))]
        for line, entry in zip(lines, entries, strict=True):
            if not (exact or entry.own):
                line |= {key: _rounded(line[key]) for key in ("information_value", "chance", "gain")}
        selected: dict[str, list[str]] = {entry.party: [] for entry in entries}
        for line in lines:
            if line["selected"]:
                selected[line["party"]].append(line["column"])
        return {"columns": sorted(lines, key=lambda line: -line["information_value"]), "selected": selected}

    def correlations(self, entries: Sequence[Entry]) -> bytes:
        """Strongest correlation of every two columns as JSON; stays at the active party."""
        names = [[entry.party, entry.name] for entry in entries]
        values = [[_number(value) for value in row] for row in self.related]
        return msgspec.json.encode({"columns": names, "correlation": values})

    def _line(self, entries: Sequence[Entry], place: int) -> dict[str, Any]:
        entry, reason = entries[place], self.reasons[place]
        profile, nearest = entry.profile, self._nearest(place)
        return {
            "party": entry.party,
            "column": entry.name,
            "information_value": profile.information_value,
            "chance": profile.chance,
            "gain": profile.gain,
            "bins": profile.bins,
            "fine_bins": len(profile.bad),
            "missing_bin": profile.gaps,
            "ordered": profile.kind == CHAIN,
            "share_of_bad": entry.trend,
            "psi": entry.stability,
            "psi_overlap": entry.overlap_stability,
            "max_correlation": None if nearest is None else float(self.related[place, nearest]),
            "correlated_with": None if nearest is None else [entries[nearest].party, entries[nearest].name],
            "vif": _number(self.inflation[place]),
            "vif_selected": _number(self.selected_inflation.get(place, np.nan)),
            "selected": not reason,
            "reason": in_words(reason),
        }

    def _nearest(self, place: int) -> int | None:
        """The column most correlated with this one."""
        others = np.delete(np.arange(len(self.related)), place)
        known = others[~np.isnan(self.related[place, others])]
        return int(known[self.related[place, known].argmax()]) if len(known) else None


def judge(entries: Sequence[Entry], joint: NDArray[np.float64], settings: Settings) -> Judged:
    """Relate the columns and select.

    Args:
        entries: p columns, in the order of the vectors.
        joint: float64, shape (v, v): correlation of all vectors.
        settings: of the run.
    """
    sizes = [entry.vectors for entry in entries]
    related = strongest(joint, sizes)
    found = [_finding(entry) for entry in entries]
    reasons = select(found, related, joint, sizes, settings)
    kept = [place for place, reason in enumerate(reasons) if not reason]
    among = dict(zip(kept, within_selected(kept, joint, sizes).tolist(), strict=True))
    return Judged(joint, related, inflation(joint, sizes), among, reasons)


def _finding(entry: Entry) -> Finding:
    profile = entry.profile
    return Finding(profile.bins, profile.information_value, profile.chance, profile.gain, entry.stability)


def _rounded(value: float) -> float:
    """Two significant digits."""
    return float(f"{value:.1e}")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
