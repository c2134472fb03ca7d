"""What the active party knows of a column from the numbers of people and of bad people in its bins."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftl.features.binning import FineBins, Rules, Trend, by_first_appearance, merge_categories, merge_chain
from ftl.features.woe import chance, information_value, stump_gain, weight_of_evidence
from ftl.protocols.feature_report.messages import CHAIN, JOIN, KEEP
from ftl.protocols.feature_report.settings import LEAST_OF_A_CLASS


@dataclass(frozen=True)
class Profile:
    """One column; the same for an own column and for a partner's, of which only the order of bins is known.

    Attributes:
        kind: KEEP, JOIN or CHAIN.
        bad: int64, shape (k,): bad people by fine bin.
        total: int64, shape (k,): people by fine bin.
        group: int64, shape (k,): merged bin of each fine bin, numbered as they first appear.
        gaps: whether the last bin is for missing values alone.
    """

    kind: int
    bad: NDArray[np.int64]
    total: NDArray[np.int64]
    group: NDArray[np.int64]
    gaps: bool

    @classmethod
    def of(
        cls, kind: int, bad: NDArray[np.int64], total: NDArray[np.int64], trend: Trend, rules: Rules, *, gaps: bool
    ) -> "Profile":
        """Merge a column's fine bins; those for missing values stay by themselves.

        Args:
            kind: what may be merged.
            bad: int64, shape (k,).
            total: int64, shape (k,).
            trend: of a chain, in the order given.
            rules: for the merged bins.
            gaps: whether the last bin is for missing values alone.
        """
        group = np.arange(len(bad))
        known = slice(0, len(bad) - gaps)
        counts = bad[known], total[known], int(bad.sum()), int(total.sum())
        if kind == CHAIN:
            group[known] = merge_chain(*counts, trend, rules)
        elif kind == JOIN:
            group[known] = merge_categories(*counts, rules)
        return cls(kind, bad, total, by_first_appearance(group), gaps)

    @property
    def bins(self) -> int:
        """How many merged bins."""
        return int(self.group.max()) + 1

    @property
    def merged(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bad people and people by merged bin."""
        bad, total = (np.bincount(self.group, weights=each).astype(np.int64) for each in (self.bad, self.total))
        return bad, total

    @property
    def information_value(self) -> float:
        """Over the merged bins."""
        return information_value(*self.merged)

    @property
    def gain(self) -> float:
        """Share of the label's deviance that the best two-way split of the merged bins explains."""
        return stump_gain(*self.merged)

    @property
    def chance(self) -> float:
        """Probability that a column unrelated to the label looks as telling."""
        return chance(self.bad, self.total)

    @property
    def trend(self) -> str | None:
        """`rising` or `falling` share of bad along the order given, `none`, or None of categories and single bins."""
        bad, total = self.merged
        known = len(bad) - (self.gaps and len(bad) > 1)
        if self.kind != CHAIN or known < 2:
            return None
        steps = np.diff(bad[:known] / total[:known])
        return "rising" if (steps > 0).all() else "falling" if (steps < 0).all() else "none"

    def weights(self) -> list[float]:
        """Weight of evidence of each merged bin."""
        bad, total = self.merged
        return [float(woe) for woe in weight_of_evidence(bad, total, int(bad.sum()), int(total.sum()))]

    def told_weights(self) -> list[float | None]:
        """The same, None where a bin has so few people of a class that it would tell of single ones."""
        bad, total = self.merged
        enough = np.minimum(bad, total - bad) >= LEAST_OF_A_CLASS
        return [woe if able else None for woe, able in zip(self.weights(), enough, strict=True)]


def kind_of(fine: FineBins, trend: Trend) -> int:
    """What may be merged of a column."""
    return KEEP if trend == "none" else JOIN if fine.groups else CHAIN
