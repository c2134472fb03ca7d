"""Comparisons: what a table's rows must be like next to other tables, to the clock and to the loads accepted before.

A suite file lists them beside its `build`, under the name ``COMPARED``:

>>> COMPARED = [Count(0.5, 2.0), Fresh("updated_at", 72), Refers("seller", "enterprises", "id"), Shift("amount")]

Each gives one figure and the bounds it must keep within. The figures of one check are one row of a table of their own,
judged by Great Expectations, so that Data Docs show them as the suite ``PARTY.TABLE.compared``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ftl.collect import PLACE, Lake, nearest, quoted
from ftl.consortium import Node
from ftl.errors import QualityError
from ftl.quality.accepted import Accepted, Load, counts, newest, shape_of
from ftl.quality.rows import Rows

Severity = Literal["critical", "warning", "info"]

_CHANCE = 0.999
"""A shift that chance alone would exceed less often than once in a thousand times is one."""


@dataclass(frozen=True)
class Measured:
    """The figure of one comparison.

    Attributes:
        name: of the figure.
        value: the figure.
        high, low: bounds; None for none.
        severity: what follows when it leaves them.
        text: what is expected, without any value of a row.
        rows: int64, ascending; places of the rows at fault, where it speaks of rows.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    severity: Severity
    text: str
    rows: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Context:
    """What comparisons look at.

    Attributes:
        node, table: whose rows.
        rows: those that are checked now.
        total: rows of the whole landed table.
        accepted: what is remembered of earlier loads.
        now: UTC.
    """

    node: Node
    table: str
    rows: Rows
    total: int
    accepted: Accepted
    now: datetime


@dataclass(frozen=True)
class Count:
    """The whole table has at least `low` and at most `high` times as many rows as accepted loads had in the median."""

    low: float
    high: float
    severity: Severity = "critical"

    def measure(self, context: Context) -> Measured | None:
        """None before the first accepted load."""
        before = [load.rows for load in context.accepted.loads]
        if not before or not np.median(before):
            return None
        text = f"the table has {self.low:g} to {self.high:g} times the rows of the loads before"
        share = context.total / float(np.median(before))
        return Measured("rows, as a share of the loads before", share, self.low, self.high, self.severity, text)


@dataclass(frozen=True)
class Fresh:
    """The newest value of a column of dates or times is at most `hours` old."""

    column: str
    hours: float
    severity: Severity = "info"

    def measure(self, context: Context) -> Measured | None:
        """None while there is no value at all."""
        _require(context, self.column)
        known = [load.newest[self.column] for load in context.accepted.loads if self.column in load.newest]
        found = [*known, *newest(context.rows, [self.column]).values()]
        if not found:
            return None
        age = (context.now - max(found)) / timedelta(hours=1)
        text = f"{self.column}: the newest is at most {self.hours:g} hours old"
        return Measured(f"hours since the newest {self.column}", age, None, self.hours, self.severity, text)


@dataclass(frozen=True)
class Refers:
    """Every value of a column is one of a column of another table of the party, as published; missing ones may be."""

    column: str
    table: str
    to: str
    severity: Severity = "warning"

    def measure(self, context: Context) -> Measured | None:
        """None while the other table has no published rows: then nothing can be said."""
        _require(context, self.column)
        lake = Lake(context.node.validated(self.table))
        if lake.version is None or lake.marks("checked") == (None,):
            return None
        here, there = quoted(self.column), quoted(self.to)
        found = context.rows.ask(
            f"SELECT {PLACE} FROM checked ANTI JOIN known ON CAST(checked.{here} AS VARCHAR) = "  # noqa: S608 - quoted names
            f"CAST(known.{there} AS VARCHAR) WHERE {here} IS NOT NULL ORDER BY {PLACE}",
            known=lake.read([self.to]),
        )
        places = found.column(PLACE).to_numpy().astype(np.int64)
        name, text = f"{self.column} not among {self.table}.{self.to}", f"{self.column}: is in {self.table}.{self.to}"
        return Measured(name, len(places), None, 0, self.severity, text, places)


@dataclass(frozen=True)
class Shift:
    """A column is distributed as in the last load that was accepted as a whole.

    The figure is the population stability index, sum((p - q) · ln(p / q)) over bins, of which 0.1 is called small and
    0.25 large. Of few rows chance alone makes it large: it is about (1/n + 1/m) · χ² with one degree of freedom less
    than there are bins (Yurdakul and Naranjo 2020, Journal of Risk Model Validation 14(4)), and only what exceeds that
    counts.
    """

    column: str
    limit: float = 0.25
    severity: Severity = "info"

    def measure(self, context: Context) -> Measured | None:
        """None while the column's distribution is not known, or without rows."""
        _require(context, self.column)
        shape = context.accepted.shapes.get(self.column)
        if shape is None or not context.rows.count:
            return None
        now, before = counts(context.rows, self.column, shape), np.asarray(shape.counts)
        limit = max(self.limit, _by_chance(len(now) - 1) * (1 / now.sum() + 1 / before.sum()))
        text = f"{self.column}: is distributed as in the last accepted load (PSI at most {limit:.2g})"
        return Measured(f"PSI of {self.column}", stability(now, before), None, limit, self.severity, text)


@dataclass(frozen=True)
class Typed:
    """Columns of the lake have these Arrow types."""

    columns: dict[str, str]
    severity: Severity = "critical"

    def measure(self, context: Context) -> Measured | None:
        """How many have another one."""
        found = {field.name: str(field.type) for field in context.rows.table}
        other = [name for name, kind in self.columns.items() if found.get(name) != kind]
        text = f"columns have the types that they had{': ' + ', '.join(other) + ' changed' if other else ''}"
        return Measured("columns of another type", len(other), None, 0, self.severity, text)


Comparison = Count | Fresh | Refers | Shift | Typed


def stability(now: NDArray[np.int64], before: NDArray[np.int64]) -> float:
    """The population stability index of two counts over the same bins; half a cell more in each, so that none is 0."""
    p, q = ((cells + 0.5) / (cells.sum() + 0.5 * len(cells)) for cells in (now, before))
    return float(np.sum((p - q) * np.log(p / q)))


def _by_chance(degrees: int) -> float:
    """The quantile :data:`_CHANCE` of the χ² distribution with so many degrees of freedom."""
    from scipy.special import gammaincinv

    return 2 * float(gammaincinv(degrees / 2, _CHANCE))


def measure(comparisons: Sequence[Comparison], context: Context) -> list[Measured]:
    """The figures that can be said.

    Raises:
        QualityError: a comparison names a column that is not there.
    """
    return [found for one in comparisons if (found := one.measure(context)) is not None]


def accept(comparisons: Sequence[Comparison], context: Context, published: Rows, *, whole: bool) -> Accepted:
    """What is remembered once the rows are published.

    Args:
        comparisons: say which columns matter.
        context: of the check.
        published: the rows of the check that passed.
        whole: whether the check was of the whole table; only then distributions are renewed.
    """
    load = Load(
        context.now, context.total, newest(published, [one.column for one in comparisons if isinstance(one, Fresh)])
    )
    columns = [one.column for one in comparisons if isinstance(one, Shift)]
    wanted = [name for name in columns if whole or name not in context.accepted.shapes]
    shapes = {name: shape for name in wanted if published.count and (shape := shape_of(published, name)) is not None}
    return context.accepted.and_then(load, shapes)


def frame(measured: Sequence[Measured]) -> Any:
    """One row with all figures, as a `pandas.DataFrame`."""
    import pandas as pd

    return pd.DataFrame({one.name: [float(one.value)] for one in measured})


def _require(context: Context, column: str) -> None:
    names = context.rows.table.names
    if column not in names:
        raise QualityError(
            f"A comparison of {context.node.name}.{context.table} names the column {column!r}.{nearest(column, names)}",
            cure="Correct COMPARED in the table's suite file.",
        )
