"""The model parts that a run leaves behind, and how they score. JSON; each stays at its own party. Needs no torch.

The active party's part holds its own model and how much that counts; the passive party's its network. The vector phi
is in neither: it is the top network's only layer, in the combiner.
"""

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.errors import RegistryError
from ftl.features import Frame
from ftl.protocols.neural_transfer.inputs import Inputs, with_constant
from ftl.protocols.recipe import Part, SubScores
from ftl.protocols.trees import Ensemble, probability

LEVELS = (0.01, 0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 0.99)
"""Shares of the party's people at which a column's attainable values are taken."""


class ActiveRecord(msgspec.Struct, frozen=True, tag="neural_transfer/active"):
    """The active party's part as stored.

    Attributes:
        columns: the p feature columns.
        base: its own model on them.
        own: factor on the own model's log-odds in the joint answer.
        centre: taken off the log-odds before.
        attainable: per level of :data:`LEVELS` a value of each column (None: missing), for reasons.
    """

    columns: tuple[str, ...]
    base: Ensemble
    own: float
    centre: float
    attainable: tuple[tuple[float | None, ...], ...]


class PassiveRecord(msgspec.Struct, frozen=True, tag="neural_transfer/passive"):
    """A passive party's part as stored.

    Attributes:
        columns: the p feature columns.
        inputs: how they become the network's.
        weights: inputs and the constant × hidden.
    """

    columns: tuple[str, ...]
    inputs: Inputs
    weights: tuple[tuple[float, ...], ...]


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
            f"the model part is none of neural_transfer: {exc}.",
            cure="Restore the node's model folder, or train again.",
        ) from exc
    return ActivePart(record, reasons) if isinstance(record, ActiveRecord) else PassivePart(record)


def attainable(frame: Frame) -> tuple[tuple[float | None, ...], ...]:
    """Per level the value of each column at that share of the party's people; of a category, its codes in turn."""
    return tuple(
        tuple(
            _at(column, level) if not (count := len(frame.categories.get(name, ()))) else float(number % count)
            for name, column in zip(frame.columns, frame.values.T, strict=True)
        )
        for number, level in enumerate(LEVELS)
    )


def _at(column: NDArray[np.float64], level: float) -> float | None:
    known = column[~np.isnan(column)]
    return float(np.quantile(known, level, method="inverted_cdf")) if len(known) else None


class ActivePart:
    """The active party's part; see :class:`~ftl.protocols.Part`."""

    def __init__(self, record: ActiveRecord, reasons: Mapping[str, str]) -> None:
        self.columns = record.columns
        self._record = record
        self._base = record.base.compile(len(record.columns))
        self._attainable = np.array(record.attainable, dtype=np.float64)
        codes = dict.fromkeys(reasons[column] for column in record.columns if column in reasons)
        self._behind = {
            code: [j for j, column in enumerate(record.columns) if reasons.get(column) == code] for code in codes
        }

    def sub_scores(self, values: NDArray[np.float64], *, reasons: bool = False) -> SubScores:
        """Score m people; `lost` is filled when `reasons` are asked for, in log-odds of its own model."""
        base = self._base.log_odds(values)
        share = self._record.own * (base - self._record.centre)
        lost = {}
        for code, columns in self._behind.items() if reasons else ():
            best = np.minimum(base, self._attained(values, columns).min(axis=0))
            lost[code] = base - best
        known, leaves = np.ones(len(values), dtype=bool), np.zeros((len(values), 0), dtype=np.uint64)
        return SubScores(known, base, leaves, lost, share=share[:, None])

    def _attained(self, values: NDArray[np.float64], columns: list[int]) -> NDArray[np.float64]:
        """Own log-odds with `columns` at each attainable level, float64, shape (levels, m)."""
        levels = len(self._attainable)
        varied = np.repeat(values[None], levels, axis=0)
        varied[:, :, columns] = self._attainable[:, None, columns]
        return self._base.log_odds(varied.reshape(-1, values.shape[1])).reshape(levels, len(values))


class PassivePart:
    """The passive party's part; see :class:`~ftl.protocols.Part`."""

    def __init__(self, record: PassiveRecord) -> None:
        self.columns = record.columns
        self._inputs = record.inputs
        self._weights = np.array(record.weights)

    def sub_scores(self, values: NDArray[np.float64], *, reasons: bool = False) -> SubScores:  # noqa: ARG002
        """Score m people; a network's vector says nothing of single columns, so there are no reasons."""
        hidden = probability((with_constant(self._inputs.matrix(values)) @ self._weights).ravel())
        leaves = np.zeros((len(values), 0), dtype=np.uint64)
        known = np.ones(len(values), dtype=bool)
        shape = (len(values), self._weights.shape[1])
        return SubScores(known, np.zeros(len(values)), leaves, hidden=hidden.reshape(shape))
