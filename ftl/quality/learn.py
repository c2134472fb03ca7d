"""A baseline suite learned from a trusted load, as a Python file that a person edits.

It says what the load was like, with room: which columns were always known, between which round bounds numbers lay,
which few values texts had, what was unique, what refers to another table. It holds bounds, codes and counts, and of
columns that seem to be personal data only whether they were known, unique and how long their texts were.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from ftl.collect import Clock, Lake, Mapping, personal_sort, quoted
from ftl.consortium import Node
from ftl.errors import LakeError, QualityError
from ftl.quality.accepted import MOST_VALUES, Load, newest, read_accepted, shape_of, write_accepted
from ftl.quality.against import Comparison, Count, Fresh, Refers, Shift, Typed
from ftl.quality.rows import Rows
from ftl.quality.suite_text import suite_text

FOLDER = PurePosixPath("expectations")
_FEW = 100
"""Of fewer rows nothing is said about what is always known, or unique."""
_PER_VALUE = 20
"""A text is a code only where its values come so many times each on average."""
_ROOM = 0.1
"""Of a column's range, on either side."""
_LEAST_HOURS = 24.0


@dataclass(frozen=True)
class Learned:
    """A new suite.

    Attributes:
        table: lake name.
        suite: the file, relative to the consortium's folder.
        rows: of the load that it was learned from.
        expectations: how many there are in it, comparisons included.
        in_use: whether the table's `suite` names it.
    """

    table: str
    suite: str
    rows: int
    expectations: int
    in_use: bool


@dataclass(frozen=True)
class _Column:
    """One column of the load: its figures, and its codes where it has few and is not personal."""

    name: str
    kind: pa.DataType
    personal: bool
    rows: int
    known: int
    values: int
    low: float | None
    high: float | None
    shortest: int | None
    longest: int | None
    codes: tuple[str, ...]


def learn(node: Node, table: str, clock: Clock, *, overwrite: bool = False) -> Learned:
    """Write the suite file of a table, and remember the load as accepted.

    The published rows are the load, or, before the first publication, the landed ones.

    Args:
        node: the party's node.
        table: lake name.
        clock: gives the present moment in UTC.
        overwrite: replace the file that was learned before, with all edits.

    Raises:
        LakeError: nothing has landed yet.
        QualityError: the file is there already.
    """
    mapping, rows = Mapping(node, table), _load(node, table)
    place = FOLDER / f"{node.name}_{table}_learned.py"
    path = node.root / place
    if path.exists() and not overwrite:
        raise QualityError(f"There is a suite file {path} already.", cure="Edit it, or use --overwrite.")
    columns = [_column(node, mapping, rows, field) for field in rows.schema]
    compared = list(_compared(node, mapping, rows, columns))
    tables = _tables(mapping, columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(suite_text(f"{node.name}.{table}", rows.count, tables, compared), encoding="utf-8")
    _remember(node, table, clock, rows, compared)
    in_use = mapping.settings.suite is not None and node.root / mapping.settings.suite == path
    return Learned(table, str(place), rows.count, sum(map(len, tables.values())) + len(compared), in_use)


def _load(node: Node, table: str) -> Rows:
    for lake in (Lake(node.validated(table)), Lake(node.landed(table))):
        if lake.version is not None and lake.count():
            return Rows.of(lake)
    raise LakeError(f"{node.name}.{table} has no rows to learn from.", cure="Collect it first.")


def _column(node: Node, mapping: Mapping, rows: Rows, field: pa.Field) -> _Column:
    name, column = quoted(field.name), mapping.settings.columns.get(field.name)
    textual = pa.types.is_string(field.type)
    numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
    asked = ["count(*) AS rows", f"count({name}) AS known", f"count(DISTINCT {name}) AS values"]
    asked += [f"min({name})::DOUBLE AS low", f"max({name})::DOUBLE AS high"] if numeric else []
    asked += [f"min(length({name})) AS shortest", f"max(length({name})) AS longest"] if textual else []
    (found,) = rows.ask(f"SELECT {', '.join(asked)} FROM checked").to_pylist()  # noqa: S608 - quoted names
    names = f"{field.name}\n{column.source if column else ''}"
    identifying = {*node.consortium.identifiers, *(one for some in node.consortium.alignment.otherwise for one in some)}
    personal = (
        field.name in identifying
        or field.name in mapping.key
        or (column is not None and (column.pseudonym or bool(personal_sort(names, column.normalise))))
    )
    few = textual and not personal and found["values"] <= min(MOST_VALUES, found["known"] / _PER_VALUE)
    codes = rows.ask(f"SELECT DISTINCT {name} AS v FROM checked WHERE v IS NOT NULL") if few else None  # noqa: S608
    return _Column(
        name=field.name,
        kind=field.type,
        personal=personal,
        rows=found["rows"],
        known=found["known"],
        values=found["values"],
        low=found.get("low"),
        high=found.get("high"),
        shortest=found.get("shortest"),
        longest=found.get("longest"),
        codes=tuple(sorted(codes.column("v").to_pylist())) if codes is not None else (),
    )


def _tables(mapping: Mapping, columns: list[_Column]) -> dict[str, Any]:
    """The constants of the file: what each expectation is about."""
    enough = [one for one in columns if one.rows >= _FEW]
    identifying = [one for one in enough if pa.types.is_string(one.kind) or pa.types.is_integer(one.kind)]
    return {
        "KNOWN": [one.name for one in enough if one.known == one.rows],
        "MOSTLY_KNOWN": {one.name: share for one in enough if (share := _mostly(one)) > 0 and one.known < one.rows},
        "RANGES": {one.name: _room(one) for one in columns if not one.personal and one.low is not None},
        "CODES": {one.name: list(one.codes) for one in columns if one.codes},
        "LENGTHS": {
            one.name: (one.shortest, one.longest)
            for one in columns
            if one.shortest is not None and not one.codes and one.known >= _FEW
        },
        "UNIQUE": [
            one.name for one in identifying if one.values == one.known == one.rows and (one.name,) != mapping.key
        ],
    }


def _mostly(one: _Column) -> float:
    """The share of rows that are known, less three standard errors, in whole per cents."""
    share = one.known / one.rows
    return math.floor(100 * (share - 3 * math.sqrt(share * (1 - share) / one.rows))) / 100


def _room(one: _Column) -> tuple[float, float]:
    """Bounds somewhat beyond the load's, rounded outwards to two digits; what was never negative stays so."""
    assert one.low is not None  # noqa: S101 - asked for numbers only
    assert one.high is not None  # noqa: S101
    span = (one.high - one.low) or abs(one.high) or 1.0
    low, high = _rounded(one.low - _ROOM * span, math.floor), _rounded(one.high + _ROOM * span, math.ceil)
    return (max(low, 0.0) if one.low >= 0 else low, high)


def _rounded(value: float, towards: Any) -> float:
    if not value:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    rounded = towards(value / step) * step
    return float(f"{rounded:.2g}") if np.isfinite(rounded) else value


def _compared(node: Node, mapping: Mapping, rows: Rows, columns: list[_Column]) -> Iterator[Comparison]:
    yield Typed({field.name: str(field.type) for field in rows.schema})
    yield Count(0.5, 2.0)
    cursor = mapping.settings.cursor
    if cursor is not None and pa.types.is_temporal(mapping.schema.field(cursor).type):
        yield Fresh(cursor, _hours(node, mapping, cursor))
    for one in columns:
        yield from _references(node, mapping, rows, one)
    for one in columns:
        if not one.personal and one.known >= _FEW and one.values > 1 and (one.codes or one.low is not None):
            yield Shift(one.name)


def _hours(node: Node, mapping: Mapping, cursor: str) -> float:
    """Three times the longest pause between accepted loads, at least a day."""
    moments = [load.newest[cursor] for load in read_accepted(node, _table_of(mapping)).loads if cursor in load.newest]
    pauses = [(after - before).total_seconds() / 3600 for before, after in pairwise(moments)]
    return float(math.ceil(max([_LEAST_HOURS, *(3 * pause for pause in pauses)])))


def _references(node: Node, mapping: Mapping, rows: Rows, one: _Column) -> Iterator[Refers]:
    """Other tables of the party whose key holds every value of the column.

    Whole numbers from 1 fall into any other table's numbers by chance, so of numbers the name must say it as well.
    """
    if one.values < 2 or not (pa.types.is_string(one.kind) or pa.types.is_integer(one.kind)):
        return
    for name in node.party.tables:
        lake, key = Lake(node.validated(name)), node.party.tables[name].key or node.consortium.identifiers
        if name == _table_of(mapping) or len(key) != 1 or lake.version is None or not lake.count():
            continue
        there = lake.read(list(key))
        named = one.name == key[0] or key[0] in one.name or name.rstrip("s") in one.name
        if there.schema.field(key[0]).type != one.kind or not (named or pa.types.is_string(one.kind)):
            continue
        missing = rows.ask(
            f"SELECT count(*) AS n FROM checked ANTI JOIN known ON checked.{quoted(one.name)} = "  # noqa: S608 - quoted names
            f"known.{quoted(key[0])} WHERE {quoted(one.name)} IS NOT NULL",
            known=there,
        )
        if not missing.column("n")[0].as_py():
            yield Refers(one.name, name, key[0])


def _table_of(mapping: Mapping) -> str:
    return mapping.label.rsplit(".", 1)[1]


def _remember(node: Node, table: str, clock: Clock, rows: Rows, compared: list[Comparison]) -> None:
    load = Load(clock(), rows.count, newest(rows, [one.column for one in compared if isinstance(one, Fresh)]))
    named = [one.column for one in compared if isinstance(one, Shift)]
    shapes = {name: shape for name in named if (shape := shape_of(rows, name)) is not None}
    write_accepted(node, table, read_accepted(node, table).and_then(load, shapes))
