"""The model parts that a run leaves behind, and how they score: plain numbers as JSON, numpy forward, no torch.

The active party's part holds its base model and what of its columns enters the network, a passive party's part its
table of vectors and the key of its noise. The upper network is in the Combiner.
"""

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.errors import RegistryError
from ftl.features import Frame
from ftl.protocols.recipe import Part, SubScores
from ftl.protocols.split_nn.embedding import Lookup, Table
from ftl.protocols.split_nn.noise import gaussian_of_rows
from ftl.protocols.trees import Ensemble

LEVELS = (0.01, 0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 0.99)
"""Shares of the party's people at which a column's attainable values are taken, for reasons."""
FARTHEST = 4.0
"""Standard deviations beyond which the base's margin says no more to the network."""


class ActiveRecord(msgspec.Struct, frozen=True, tag="split_nn/active"):
    """The active party's part as stored.

    Attributes:
        columns: the p feature columns.
        base: its own model on them; None for classes.
        centre: mean of the base's margin over the training people.
        spread: its standard deviation.
        network: whether a network was kept.
        table: how its columns enter the network; None where only the base does.
        attainable: per level of :data:`LEVELS` a value of each column (None: missing), for reasons.
    """

    columns: tuple[str, ...]
    base: Ensemble | None
    centre: float
    spread: float
    network: bool
    table: Table | None
    attainable: tuple[tuple[float | None, ...], ...]


class PassiveRecord(msgspec.Struct, frozen=True, tag="split_nn/passive"):
    """A passive party's part as stored.

    Attributes:
        columns: the p feature columns.
        table: the lower network; None where the run kept none.
        noise: standard deviation on each number at scoring.
        key: hexadecimal, of that noise.
    """

    columns: tuple[str, ...]
    table: Table | None
    noise: float
    key: str


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
            f"the model part is none of split_nn: {exc}.", cure="Restore the node's model folder, or train again."
        ) from exc
    return ActivePart(record, reasons) if isinstance(record, ActiveRecord) else PassivePart(record)


def attainable(frame: Frame) -> tuple[tuple[float | None, ...], ...]:
    """Per level the value of each column at that share of the party's people; of a category, its codes in turn."""
    by_column = [
        _levels(column, len(frame.categories[name]) if name in frame.categories else 0)
        for name, column in zip(frame.columns, frame.values.T, strict=True)
    ]
    return tuple(zip(*by_column, strict=True))


def _levels(column: NDArray[np.float64], categories: int) -> list[float | None]:
    known = column[~np.isnan(column)]
    if categories:
        return [float(number % categories) for number in range(len(LEVELS))]
    return np.quantile(known, LEVELS, method="inverted_cdf").tolist() if len(known) else [None] * len(LEVELS)


def said_by_base(margin: NDArray[np.float64], centre: float, spread: float) -> NDArray[np.float64]:
    """What the network sees of the base's margin, float64, shape (m, 1): standardised and bounded."""
    return np.clip((margin - centre) / spread, -FARTHEST, FARTHEST)[:, None]


class ActivePart:
    """The active party's part; see :class:`~ftl.protocols.Part`. `lost` is against its base model."""

    def __init__(self, record: ActiveRecord, reasons: Mapping[str, str]) -> None:
        self.columns = record.columns
        self._record = record
        self._base = record.base.compile(len(record.columns)) if record.base is not None else None
        self._lookup = Lookup(record.table) if record.table is not None else None
        self._attainable = np.array(record.attainable, dtype=np.float64)
        codes = dict.fromkeys(reasons[column] for column in self.columns if column in reasons)
        self._behind = {
            code: [j for j, column in enumerate(self.columns) if reasons.get(column) == code] for code in codes
        }

    def sub_scores(self, values: NDArray[np.float64], *, reasons: bool = False) -> SubScores:
        """Score m people; `lost` is filled when `reasons` are asked for."""
        margin = self._margin(values)
        known = np.ones(len(values), dtype=bool)
        leaves = np.empty((len(values), 0), dtype=np.uint64)
        hidden = self._hidden(values, margin) if self._record.network else None
        lost = {}
        if reasons and self._base is not None:
            lost = {code: self._lost(values, margin, columns) for code, columns in self._behind.items()}
        return SubScores(known, margin, leaves, lost, hidden=hidden)

    def _margin(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.zeros(len(values)) if self._base is None else np.asarray(self._base.log_odds(values))

    def _hidden(self, values: NDArray[np.float64], margin: NDArray[np.float64]) -> NDArray[np.float64]:
        record = self._record
        said = [said_by_base(margin, record.centre, record.spread)] if record.base is not None else []
        return np.concatenate([*said, self._lookup.of(values)] if self._lookup is not None else said, axis=1)

    def _lost(
        self, values: NDArray[np.float64], margin: NDArray[np.float64], columns: list[int]
    ) -> NDArray[np.float64]:
        """Margin lost against the best level of these columns, float64, shape (m,), not negative."""
        best = margin.copy()
        for level in self._attainable:
            varied = values.copy()
            varied[:, columns] = level[columns]
            best = np.minimum(best, self._margin(varied))
        return margin - best


class PassivePart:
    """A passive party's part; see :class:`~ftl.protocols.Part`. Parts of a network do not add up: it has no `lost`."""

    def __init__(self, record: PassiveRecord) -> None:
        self.columns = record.columns
        self._lookup = Lookup(record.table) if record.table is not None else None
        self._noise, self._key = record.noise, bytes.fromhex(record.key)

    def sub_scores(self, values: NDArray[np.float64], *, reasons: bool = False) -> SubScores:  # noqa: ARG002
        """Score m people."""
        known, people = np.ones(len(values), dtype=bool), len(values)
        hidden = None
        if self._lookup is not None:
            hidden = self._lookup.of(values)
            if self._noise:
                hidden = hidden + self._noise * gaussian_of_rows(self._key, values, hidden.shape[1])
            hidden = hidden.astype(np.float32).astype(np.float64)  # as vectors cross
        return SubScores(known, np.zeros(people), np.empty((people, 0), dtype=np.uint64), hidden=hidden)
