"""The model parts that a run leaves behind, and how they score. JSON; each stays at its own party.

The active party's part holds its base model and its own splits, the passive party's part its splits with their
thresholds. Neither holds a leaf value of the federated trees (the Combiner does), nor anything of another party.
"""

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.errors import RegistryError
from ftl.features import Frame
from ftl.protocols.recipe import Part, SubScores
from ftl.protocols.transfer_boost.overlap import SHARE
from ftl.protocols.trees import Ensemble, Reach, Split

LEVELS = (0.01, 0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 0.99)
"""Shares of the party's people at which a column's attainable values are taken."""


class ActiveRecord(msgspec.Struct, frozen=True, tag="transfer_boost/active"):
    """The active party's part as stored.

    Attributes:
        columns: the p feature columns.
        base: its own model on them.
        trees: number of federated trees.
        splits: its splits in them; column p stands for the base model's log-odds.
        attainable: per level of :data:`LEVELS` a value of each column (None: missing), for reasons.
        factor: of the base's margin in its share of the joint one.
        overlap: trees of the p columns and the base's log-odds, of which a share is taken off again; see
            :mod:`ftl.protocols.transfer_boost.overlap`. Reasons leave them out.
    """

    columns: tuple[str, ...]
    base: Ensemble
    trees: int
    splits: tuple[Split, ...]
    attainable: tuple[tuple[float | None, ...], ...]
    factor: float = 1.0
    overlap: Ensemble | None = None


class PassiveRecord(msgspec.Struct, frozen=True, tag="transfer_boost/passive"):
    """A passive party's part as stored.

    Attributes:
        columns: the p feature columns.
        trees: number of federated trees.
        splits: its splits in them.
        own_trees: number of trees of its columns alone.
        own_splits: their splits.
    """

    columns: tuple[str, ...]
    trees: int
    splits: tuple[Split, ...]
    own_trees: int = 0
    own_splits: tuple[Split, ...] = ()


def load(part: bytes, reasons: Mapping[str, str]) -> Part:
    """A part ready to score.

    Args:
        part: as stored.
        reasons: column to the code of the reason it stands for; columns without one give no reason.

    Raises:
        RegistryError: the bytes are no part of this recipe.
    """
    try:
        record = msgspec.json.decode(part, type=ActiveRecord | PassiveRecord)
    except msgspec.MsgspecError as exc:
        raise RegistryError(
            f"the model part is none of transfer_boost: {exc}.", cure="Restore the node's model folder, or train again."
        ) from exc
    behind = _columns_behind(record.columns, reasons)
    return ActivePart(record, behind) if isinstance(record, ActiveRecord) else PassivePart(record, behind)


def attainable(frame: Frame) -> tuple[tuple[float | None, ...], ...]:
    """Per level the value of each column at that share of the party's people; of a category, its codes in turn."""
    rows = []
    for number, level in enumerate(LEVELS):
        row = [
            _at(column, level) if name not in frame.categories else float(number % max(len(frame.categories[name]), 1))
            for name, column in zip(frame.columns, frame.values.T, strict=True)
        ]
        rows.append(tuple(row))
    return tuple(rows)


def _at(column: NDArray[np.float64], level: float) -> float | None:
    known = column[~np.isnan(column)]
    return float(np.quantile(known, level, method="inverted_cdf")) if len(known) else None


def _columns_behind(columns: tuple[str, ...], reasons: Mapping[str, str]) -> dict[str, frozenset[int]]:
    codes = dict.fromkeys(reasons[column] for column in columns if column in reasons)
    return {code: frozenset(j for j, column in enumerate(columns) if reasons.get(column) == code) for code in codes}


class ActivePart:
    """The active party's part; see :class:`~ftl.protocols.Part`."""

    def __init__(self, record: ActiveRecord, behind: dict[str, frozenset[int]]) -> None:
        self.columns = record.columns
        self._behind = behind
        self._factor = record.factor
        self._overlap = record.overlap.compile(len(record.columns) + 1) if record.overlap else None
        self._base = record.base.compile(len(record.columns))
        self._reach = Reach(record.splits, len(record.columns) + 1, record.trees)
        attainable = np.array(record.attainable, dtype=np.float64)
        self._varied = {code: self._base.vary(columns, attainable) for code, columns in behind.items()}
        self._in_base = frozenset(split.column for split in record.base.splits)

    def sub_scores(self, values: NDArray[np.float64], *, reasons: bool = False) -> SubScores:
        """Score m people; `lost` and `relaxed` are filled when `reasons` are asked for."""
        base = self._base.log_odds(values)
        full = np.column_stack([values, base])
        known = np.ones(len(values), dtype=bool)
        leaves, share = self._reach.leaves(full), self._factor * base
        if self._overlap:
            share = share - SHARE * self._overlap.log_odds(full)
        share = share[:, None]
        if not reasons:
            return SubScores(known, base, leaves, share=share)
        attained = {code: varied.log_odds(values, base) for code, varied in self._varied.items()}
        lost = {code: self._factor * (base - np.minimum(base, found.min(axis=0))) for code, found in attained.items()}
        relaxed = {}
        for code, found in attained.items():
            masks = self._relaxed(full, self._behind[code], found)
            if len(masks[0]):
                relaxed[code] = masks
        return SubScores(known, base, leaves, lost, relaxed, share)

    def _relaxed(
        self, full: NDArray[np.float64], columns: frozenset[int], attained: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Leaves with `columns` free, and the base's log-odds at any value that it then attains."""
        base = full.shape[1] - 1
        moves_base = bool(columns & self._in_base)
        trees = self._reach.trees_using(columns | {base} if moves_base else columns)
        reached = self._reach.leaves(full, without=columns | {base})
        by_base = self._by_base(full)
        for level in attained if moves_base else ():
            by_base |= self._by_base(np.column_stack([full[:, :base], level]))
        return trees, (reached & by_base)[:, trees]

    def _by_base(self, full: NDArray[np.float64]) -> NDArray[np.uint64]:
        return self._reach.leaves(full, without=frozenset(range(full.shape[1] - 1)))


class PassivePart:
    """A passive party's part; see :class:`~ftl.protocols.Part`."""

    def __init__(self, record: PassiveRecord, behind: dict[str, frozenset[int]]) -> None:
        self.columns = record.columns
        self._reach = Reach(record.splits, len(record.columns), record.trees)
        self._own = Reach(record.own_splits, len(record.columns), record.own_trees) if record.own_trees else None
        self._behind = behind

    def sub_scores(self, values: NDArray[np.float64], *, reasons: bool = False) -> SubScores:
        """Score m people; `relaxed` is filled when `reasons` are asked for."""
        relaxed = {}
        for code, columns in self._behind.items() if reasons else ():
            trees = self._reach.trees_using(columns)
            if len(trees):
                relaxed[code] = (trees, self._reach.leaves(values, without=columns)[:, trees])
        known = np.ones(len(values), dtype=bool)
        own = self._own.leaves(values) if self._own else None
        return SubScores(known, np.zeros(len(values)), self._reach.leaves(values), {}, relaxed, own_leaves=own)
