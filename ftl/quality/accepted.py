"""What is remembered of the loads that were accepted: rows, newest times, and how columns were distributed.

It is kept at the node beside the validated table. A distribution is a count per bin; the edges of bins are rounded, so
that none is a value of a row.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ftl.collect import quoted
from ftl.consortium import Node
from ftl.quality.rows import Rows

LOADS = 50
"""So many newest loads are remembered."""
BINS = 10
MOST_VALUES = 20
"""A column of texts with more values than these has no distribution."""
_DIGITS = 3
"""Significant digits of an edge."""


class Shape(msgspec.Struct, frozen=True):
    """How a column was distributed.

    Attributes:
        edges: upper edges of all bins but the last one, ascending; of numbers and times (seconds since 1970).
        values: of texts and truth values: the value of each bin; what is none of them falls into one more bin.
        counts: cells per bin; the last bin holds those that were missing.
    """

    edges: list[float]
    values: list[str]
    counts: list[int]


class Load(msgspec.Struct, frozen=True):
    """One accepted load.

    Attributes:
        at: when it was published, UTC.
        rows: of the whole table.
        newest: column to the newest time in it.
    """

    at: datetime
    rows: int
    newest: dict[str, datetime]


class Accepted(msgspec.Struct, frozen=True):
    """All that is remembered of a table.

    Attributes:
        loads: oldest first.
        shapes: column to its distribution in the last load that was checked as a whole.
    """

    loads: list[Load] = []
    shapes: dict[str, Shape] = {}

    def and_then(self, load: Load, shapes: Mapping[str, Shape]) -> "Accepted":
        """With one more load; `shapes` replace those of the same columns."""
        return Accepted([*self.loads, load][-LOADS:], {**self.shapes, **shapes})


def read_accepted(node: Node, table: str) -> Accepted:
    """What is remembered of a table; nothing before its first check with comparisons."""
    path = _path(node, table)
    return msgspec.json.decode(path.read_bytes(), type=Accepted) if path.exists() else Accepted()


def write_accepted(node: Node, table: str, accepted: Accepted) -> None:
    """Replace what is remembered; a reader sees the old or the new."""
    path = _path(node, table)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_bytes(msgspec.json.encode(accepted))
    os.replace(draft, path)  # noqa: PTH105 - one name for what it does


def shape_of(rows: Rows, column: str) -> Shape | None:
    """How a column is distributed; None where it has too many texts, or no value."""
    kind = rows.table.field(column).type
    if pa.types.is_string(kind) or pa.types.is_boolean(kind):
        found = rows.ask(
            f"SELECT DISTINCT {_word(column)} AS v FROM checked WHERE v IS NOT NULL LIMIT {MOST_VALUES + 1}"  # noqa: S608
        )
        values = sorted(found.column("v").to_pylist())
        if not 0 < len(values) <= MOST_VALUES:
            return None
        return Shape([], values, counts(rows, column, Shape([], values, [])).tolist())
    parts = ", ".join(str(part / BINS) for part in range(1, BINS))
    cut = rows.ask(f"SELECT quantile_disc({_number(rows, column)}, [{parts}]) AS q FROM checked").column("q")[0].as_py()  # noqa: S608
    if cut is None:
        return None
    edges = sorted({_rounded(float(edge)) for edge in cut if edge is not None and np.isfinite(edge)})
    return Shape(edges, [], counts(rows, column, Shape(edges, [], [])).tolist()) if edges else None


def counts(rows: Rows, column: str, shape: Shape) -> NDArray[np.int64]:
    """int64: cells of a column in each bin of a shape."""
    if shape.values:
        found = rows.ask(f"SELECT {_word(column)} AS v, count(*) AS n FROM checked GROUP BY 1")  # noqa: S608 - quoted names
        seen: dict[Any, int] = dict(zip(found.column("v").to_pylist(), found.column("n").to_pylist(), strict=True))
        known = [seen.get(value, 0) for value in shape.values]
        missing = seen.get(None, 0)
        return np.array([*known, sum(seen.values()) - sum(known) - missing, missing], np.int64)
    number = _number(rows, column)
    asked = [f"count(*) FILTER ({number} <= {edge!r}) AS b{place}" for place, edge in enumerate(shape.edges)]
    (found_row,) = rows.ask(
        f"SELECT {', '.join(asked)}, count({number}) AS given, count(*) AS rows FROM checked"  # noqa: S608 - quoted names
    ).to_pylist()
    *below, given, every = found_row.values()
    return np.array([*np.diff([0, *below, given]), every - given], np.int64)


def newest(rows: Rows, columns: Sequence[str]) -> dict[str, datetime]:
    """Column of dates or times to the newest one; columns without any are left out."""
    if not columns or not rows.count:
        return {}
    asked = ", ".join(f"max({quoted(name)}) AS {quoted(name)}" for name in columns)
    (found,) = rows.ask(f"SELECT {asked} FROM checked").to_pylist()  # noqa: S608 - quoted names
    return {name: _moment(value) for name, value in found.items() if value is not None}


def _moment(value: date) -> datetime:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    return datetime(value.year, value.month, value.day, tzinfo=UTC)


def _number(rows: Rows, column: str) -> str:
    temporal = pa.types.is_temporal(rows.table.field(column).type)
    return f"epoch({quoted(column)})" if temporal else f"CAST({quoted(column)} AS DOUBLE)"


def _word(column: str) -> str:
    return f"CAST({quoted(column)} AS VARCHAR)"


def _rounded(edge: float) -> float:
    return float(f"{edge:.{_DIGITS}g}")


def _path(node: Node, table: str) -> Path:
    return node.home / "lake" / "accepted" / f"{table}.json"
