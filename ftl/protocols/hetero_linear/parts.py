"""The model parts that a run leaves behind, and how they score. JSON; each stays at its own party.

A part holds the party's own coefficients. The intercept is in the combiner, which sums the parties' shares.
"""

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.errors import RegistryError
from ftl.protocols.hetero_linear.alone import Regression
from ftl.protocols.hetero_linear.design import Design
from ftl.protocols.recipe import Part, SubScores
from ftl.protocols.trees import Ensemble

Floats = NDArray[np.float64]

ATTAINABLE = 0.02
"""Share of the training people for whom a column's attainable best is at least as good."""


class Share(msgspec.Struct, frozen=True):
    """One party's additive part of the joint margin.

    Attributes:
        design: its terms.
        coefficients: one per term.
        best: column to the lowest attainable part of the margin.
    """

    design: Design
    coefficients: tuple[float, ...]
    best: dict[str, float]


class ActiveRecord(msgspec.Struct, frozen=True, tag="hetero_linear/active"):
    """The active party's part as stored.

    Attributes:
        columns: of the party.
        base: its own model of trees, or None.
        regression: its own regression, or None; one of the two is there.
        share: None where there is no joint model.
    """

    columns: tuple[str, ...]
    base: Ensemble | None
    regression: Regression | None
    share: Share | None


class PassiveRecord(msgspec.Struct, frozen=True, tag="hetero_linear/passive"):
    """A passive party's part as stored: its columns and its share; None where it has none."""

    columns: tuple[str, ...]
    share: Share | None


def share_of(columns: tuple[str, ...], design: Design, coefficients: Floats, values: Floats) -> Share:
    """A party's share, with what is attainable in each column.

    Args:
        columns: of the party.
        design: its terms.
        coefficients: shape (p,).
        values: float64, shape (n, columns): its training people.
    """
    by_column = _by_column(design, coefficients, values)
    best = {columns[c]: float(np.quantile(part, ATTAINABLE)) for c, part in by_column.items()}
    return Share(design, tuple(coefficients.tolist()), best)


def _by_column(design: Design, coefficients: Floats, values: Floats) -> dict[int, Floats]:
    """Column to its part of the margin, shape (m,)."""
    parts: dict[int, Floats] = {}
    for term, coefficient in zip(design.terms, coefficients, strict=True):
        part = coefficient * term.values(values[:, term.column])
        parts[term.column] = parts.get(term.column, np.zeros(len(values))) + part
    return parts


def load(part: bytes, reasons: Mapping[str, str]) -> Part:
    """A part ready to score.

    Args:
        part: as stored.
        reasons: column to the code of the reason it stands for; columns without one give no reason.

    Raises:
        RegistryError: the bytes are no part of these recipes.
    """
    try:
        record = msgspec.json.decode(part, type=ActiveRecord | PassiveRecord)
    except msgspec.MsgspecError as exc:
        raise RegistryError(
            f"the model part is none of hetero_logistic or hetero_linear: {exc}.",
            cure="Restore the node's model folder, or train again.",
        ) from exc
    return LinearPart(record, reasons)


class LinearPart:
    """A party's part; see :class:`~ftl.protocols.Part`."""

    def __init__(self, record: ActiveRecord | PassiveRecord, reasons: Mapping[str, str]) -> None:
        self.columns = record.columns
        self._share = record.share
        self._reasons = {number: reasons[name] for number, name in enumerate(self.columns) if name in reasons}
        own = record if isinstance(record, ActiveRecord) else None
        self._trees = own.base.compile(len(self.columns)) if own and own.base else None
        self._regression = own.regression if own else None

    def sub_scores(self, values: Floats, *, reasons: bool = False) -> SubScores:
        """Score m people; `lost` is filled when `reasons` are asked for."""
        people = len(values)
        known, leaves = np.ones(people, dtype=bool), np.zeros((people, 0), dtype=np.uint64)
        share, lost = self._joint(values, reasons=reasons)
        return SubScores(known, self._alone(values), leaves, lost, share=share)

    def _alone(self, values: Floats) -> Floats:
        if self._trees is not None:
            return np.asarray(self._trees.log_odds(values))
        return self._regression.margin(values) if self._regression is not None else np.zeros(len(values))

    def _joint(self, values: Floats, *, reasons: bool) -> tuple[Floats | None, dict[str, Floats]]:
        if self._share is None:
            return None, {}
        by_column = _by_column(self._share.design, np.array(self._share.coefficients), values)
        total = np.sum(list(by_column.values()), axis=0) if by_column else np.zeros(len(values))
        lost: dict[str, Floats] = {}
        for column, code in self._reasons.items() if reasons else ():
            part = by_column.get(column, np.zeros(len(values)))
            worse = np.maximum(part - self._share.best.get(self.columns[column], 0.0), 0.0)
            lost[code] = lost.get(code, np.zeros(len(values))) + worse
        return np.asarray(total)[:, None], lost
