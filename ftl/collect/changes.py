"""What changed in a table between two of its versions: the rows that came, that are others now, and that went.

Nothing is recorded for this. Two versions of a Delta table share most of their files; only the rows of files and
deletion vectors in which they differ are compared, by key. So a full sync that wrote every row anew yields the few that
are different, and a compaction none.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ftl.collect.derive import sandbox
from ftl.collect.lake import SYNC, Lake
from ftl.collect.parts import Part, create_view, quoted
from ftl.consortium import Node
from ftl.errors import LakeError

CHANGE = "_change"
"""Column of the feed: ``insert``, ``update`` or ``delete``."""


def changes(node: Node, table: str, since: int, until: int | None = None) -> pa.Table:
    """Rows of the landed table that changed after version `since`.

    Args:
        node: the party's node.
        table: lake name of the table.
        since: Delta version that the reader already has.
        until: up to this version; the newest when None.

    Returns:
        the landed columns and :data:`CHANGE`; of a deleted row its last state.

    Raises:
        LakeError: there is no such table or version.
    """
    key = node.party.tables[table].key or node.consortium.identifiers
    path = node.landed(table)
    newest = Lake(path).version
    oldest = Lake(path).oldest
    if newest is None or not oldest <= since <= (newest if until is None else until):
        raise LakeError(
            f"{node.name}.{table} has no version {since}.",
            cure="Collect the table first."
            if newest is None
            else f"Its versions are {oldest} to {newest}; the setting `keep` says how long they stay.",
        )
    return difference(Lake(path, since), Lake(path, until), key)


def write_changes(node: Node, table: str, since: int, until: int | None, path: Path) -> int:
    """Write the changes to a Parquet file; see :func:`changes`. Returns how many there are."""
    found = changes(node, table, since, until)
    pq.write_table(found, path)
    return int(found.num_rows)


def difference(old: Lake, new: Lake, key: Sequence[str]) -> pa.Table:
    """The changes from one version of a table to a later one; see :func:`changes`."""
    before, after = _apart(old.parts(), new.parts())
    schema = new.schema() or pa.schema([])
    columns = [name for name in schema.names if name != SYNC]
    with sandbox(part.path for part in (*before, *after)) as connection:
        create_view(connection, "before", before, schema, "_before")
        create_view(connection, "after", after, schema, "_after")
        return connection.sql(_query(columns, key)).to_arrow_table().cast(_feed(schema, columns))


def _apart(old: Sequence[Part], new: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """(rows that only the old version has, rows that only the new one has), as parts."""
    then, now = {part.path: part for part in old}, {part.path: part for part in new}
    before = [part for path, part in then.items() if path not in now]
    for path in then.keys() & now.keys():
        gone = np.setdiff1d(now[path].dead, then[path].dead)
        if len(gone):
            before.append(Part(path, now[path].rows, np.setdiff1d(np.arange(now[path].rows), gone)))
    return before, [part for path, part in now.items() if path not in then]


def _query(columns: Sequence[str], key: Sequence[str]) -> str:
    same = " AND ".join(f"a.{quoted(name)} = b.{quoted(name)}" for name in key)
    values = [name for name in columns if name not in key]
    other = " OR ".join(f"a.{quoted(name)} IS DISTINCT FROM b.{quoted(name)}" for name in values) or "false"
    a, b = (", ".join(f"{side}.{quoted(name)}" for name in columns) for side in "ab")
    return (
        f"SELECT {a}, 'insert' AS {CHANGE} FROM after a ANTI JOIN before b ON {same} "  # noqa: S608 - quoted names
        f"UNION ALL SELECT {a}, 'update' FROM after a JOIN before b ON {same} WHERE {other} "
        f"UNION ALL SELECT {b}, 'delete' FROM before b ANTI JOIN after a ON {same}"
    )


def _feed(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    return pa.schema([*(schema.field(name) for name in columns), pa.field(CHANGE, pa.string())])
