"""A party's own columns: fine bins, stability, vectors; the same at the active party and at a passive one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftl.features import Frame
from ftl.features.binning import FineBins, Trend
from ftl.features.dependence import vectors
from ftl.features.woe import stability_index
from ftl.features.woe_table import WoeTable, merged_bins
from ftl.protocols.feature_report.profile import kind_of
from ftl.protocols.feature_report.settings import Settings

PEOPLE_PER_VECTOR = 10
"""A party takes part in correlations with at most one vector for so many people. Who knew as many products with a
column as there are people could solve for the column."""


@dataclass(frozen=True)
class People:
    """Rows of a frame, int64 each.

    Attributes:
        train: looked at.
        holdout: kept for evaluation; only their distribution over bins is used.
        others: everybody else.
    """

    train: NDArray[np.int64]
    holdout: NDArray[np.int64]
    others: NDArray[np.int64]

    @classmethod
    def of(cls, frame: Frame, train: NDArray[np.int64], holdout: NDArray[np.int64]) -> "People":
        """Train and holdout as given, and the rest."""
        rest = np.ones(len(frame.values), dtype=bool)
        rest[train] = rest[holdout] = False
        return cls(train, holdout, np.flatnonzero(rest))


@dataclass(frozen=True)
class OwnColumn:
    """One column of this party.

    Attributes:
        name: as in the frame.
        values: float64, shape (n,): of all the frame's people.
        texts: category texts by code; empty for a numeric column.
        fine: its fine bins.
        trend: how the share of bad may move.
        vectors: float64, shape (train people, k), for correlations.
        drawn_in: see :func:`ftl.features.dependence.vectors`.
    """

    name: str
    values: NDArray[np.float64]
    texts: tuple[str, ...]
    fine: FineBins
    trend: Trend
    vectors: NDArray[np.float64]
    drawn_in: int

    @property
    def kind(self) -> int:
        """What may be merged."""
        return kind_of(self.fine, self.trend)

    def stability(self, people: People, group: NDArray[np.int64]) -> tuple[float | None, float | None]:
        """Stability index over merged bins of training people against holdout, and of the others against them."""
        shown = [self._by_bin(rows, group) for rows in (people.train, people.holdout, people.others)]
        return stability_index(shown[0], shown[1]), stability_index(shown[0], shown[2])

    def table(
        self,
        number: int,
        people: People,
        group: NDArray[np.int64],
        woe: Sequence[float | None],
        bad: Sequence[int] | None,
        information_value: float,
        reason: str,
        note: str,
    ) -> WoeTable:
        """The column's bins for its owner's eyes.

        Args:
            number: under which the others know it.
            people: rows.
            group: int64, shape (fine bins,): merged bin of each.
            woe: of each merged bin, as far as known here.
            bad: bad people of each, where known.
            information_value: of the column.
            reason: why it was not selected, as a code; empty where it was.
            note: the same in words.
        """
        holdout, others = self.stability(people, group)
        bins = merged_bins(self.fine, group, self.texts, woe, bad)
        return WoeTable(
            column=self.name,
            number=number,
            categorical=bool(self.fine.groups),
            bins=bins,
            information_value=information_value,
            selected=not reason,
            reason=note,
            stability=holdout,
            overlap_stability=others,
            drawn_in=self.drawn_in,
        )

    def _by_bin(self, rows: NDArray[np.int64], group: NDArray[np.int64]) -> NDArray[np.int64]:
        """People by merged bin; values of which training people tell nothing have a last one."""
        return np.bincount(
            np.append(group, group.max() + 1)[self.fine.codes(self.values[rows])], minlength=len(group) + 1
        )


def own_columns(frame: Frame, train: NDArray[np.int64], settings: Settings) -> list[OwnColumn]:
    """Every column of the frame, with bins and vectors from its training rows."""
    columns = []
    for place, name in enumerate(frame.columns):
        values, texts = frame.values[:, place], frame.categories.get(name, ())
        fine = FineBins.fit(
            values[train], categorical=name in frame.categories, most=settings.cuts, least=settings.min_bucket
        )
        known, drawn_in = np.empty((len(train), 0)), 0
        if settings.correlation != "none":
            known, drawn_in = vectors(values[train], fine, settings.correlation, settings.min_bucket)
        columns.append(OwnColumn(name, values, texts, fine, _trend(frame, place, settings), known, drawn_in))
    return columns


def all_vectors(columns: Sequence[OwnColumn]) -> tuple[NDArray[np.float64], list[int]]:
    """The columns' vectors side by side and how many each has; none at all where there are too few people for them."""
    together = np.concatenate([column.vectors for column in columns], axis=1)
    if together.shape[1] * PEOPLE_PER_VECTOR > len(together):
        return together[:, :0], [0] * len(columns)
    return together, [column.vectors.shape[1] for column in columns]


def _trend(frame: Frame, place: int, settings: Settings) -> Trend:
    declared = 0 if frame.monotone is None or settings.monotone == "none" else int(frame.monotone[place])
    return "rising" if declared > 0 else "falling" if declared < 0 else settings.monotone
