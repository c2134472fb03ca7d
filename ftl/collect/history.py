"""Every state of every row, with the time from and until which it stood (slowly changing dimension, type 2).

The history is a table of its own that follows the landed one: it is written from the differences between landed
versions, and commits with each of them the number of the version that it has taken in. A crash between the two commits
is caught up by the next sync.
"""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from ftl.collect.cast import LAKE_TYPES
from ftl.collect.changes import CHANGE, difference
from ftl.collect.derive import sandbox
from ftl.collect.lake import SYNC, Lake
from ftl.collect.parts import quoted
from ftl.consortium import Node

VALID_FROM, VALID_UNTIL, CURRENT = "valid_from", "valid_until", "current"
"""Columns of the history beside the table's own; a row that still stands has no `valid_until`."""

_MOMENT = LAKE_TYPES["timestamp"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def keep_history(node: Node, table: str) -> None:
    """Take what the landed table's new versions changed into its history.

    The caller holds the table's lock. Times are those at which the syncs began, by the node's clock; where that clock
    went back, one microsecond after the sync before.

    Args:
        node: the party's node.
        table: lake name of the table.
    """
    landed, history = Lake(node.landed(table)), Lake(node.history(table))
    newest = landed.version
    if newest is None:
        return
    known, last = history.marks("landed", "at")
    if known is None:
        _take_in(node, table, history, landed.read().append_column(CHANGE, _all("insert", landed.count())), newest, 0)
        return
    key = list(node.party.tables[table].key or node.consortium.identifiers)
    for version in range(known + 1, newest + 1):
        old, new = Lake(landed.path, version - 1), Lake(landed.path, version)
        if old.marks("sync") != new.marks("sync"):
            _take_in(node, table, history, difference(old, new, key), version, last or 0)
            (last,) = history.marks("at")


def _take_in(node: Node, table: str, history: Lake, changed: pa.Table, version: int, last: int) -> None:
    """Close the rows that no longer stand and add those that do, in one commit."""
    (at,) = Lake(node.landed(table), version).marks("at")
    moment = max(at or 0, last + 1)
    marks = {"landed": version, "at": moment}
    stands = pc.not_equal(changed.column(CHANGE), "delete")
    fresh = _standing(changed.filter(stands), _EPOCH + timedelta(microseconds=moment))
    if history.version is None or history.marks("landed") == (None,):
        history.replace([fresh], fresh.schema, lambda: marks)
        return
    key = list(node.party.tables[table].key or node.consortium.identifiers)
    closed = _closed(history, changed.select(key), key, _EPOCH + timedelta(microseconds=moment))
    rows = pa.concat_tables([closed, fresh], promote_options="default").select(fresh.column_names)
    history.merge(rows, [*key, VALID_FROM], rows.slice(0, 0), marks)


def _standing(rows: pa.Table, since: datetime) -> pa.Table:
    rows = rows.drop_columns([name for name in (SYNC, CHANGE) if name in rows.column_names])
    count = rows.num_rows
    rows = rows.append_column(VALID_FROM, pa.repeat(pa.scalar(since, _MOMENT), count))
    rows = rows.append_column(VALID_UNTIL, pa.nulls(count, _MOMENT))
    return rows.append_column(CURRENT, pa.repeat(pa.scalar(value=True), count))


def _closed(history: Lake, keys: pa.Table, key: list[str], until: datetime) -> pa.Table:
    """The standing rows of these keys, no longer standing."""
    schema = history.schema() or pa.schema([])
    same = " AND ".join(f"h.{quoted(name)} = k.{quoted(name)}" for name in key)
    with sandbox(part.path for part in history.parts()) as connection:
        history.create_view(connection, "history", "_history")
        connection.register("changed", keys)
        found = connection.sql(f"SELECT h.* FROM history h SEMI JOIN changed k ON {same} WHERE h.{CURRENT}")  # noqa: S608
        rows = found.to_arrow_table().cast(schema)
    rows = _set(rows, VALID_UNTIL, pa.repeat(pa.scalar(until, _MOMENT), rows.num_rows))
    return _set(rows, CURRENT, pa.repeat(pa.scalar(value=False), rows.num_rows))


def _set(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), rows.schema.field(name), values)


def _all(text: str, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(text), rows)
