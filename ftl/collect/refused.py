"""The quarantine: refused rows with their raw record, reason, batch and time, in one Delta table per lake table.

Rows are prepared here *before* the commit that decides on them (of the landed or the validated table), under the number
that commit will give itself. Until then readers do not see them; after a crash the next attempt discards them first. So
refused rows are kept exactly once, together with the good ones, although they lie in another table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from ftl.collect.lake import SYNC, Lake
from ftl.consortium import Node

Stage = Literal["collect", "quality", "blocked", "replayed"]
"""Who refused the row: the mapping, an expectation, or a critical expectation that blocks the whole batch.

A row of the stage ``replayed`` takes back that of stage ``collect`` with the same batch and raw record: it has landed.
"""

Clock = Callable[[], datetime]
"""Gives the present moment, aware, in UTC."""

SCHEMA = pa.schema(
    [
        ("stage", pa.string()),
        ("decision", pa.int64()),
        ("batch", pa.int64()),
        ("key", pa.string()),
        ("reason", pa.string()),
        ("raw", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
    ]
)
"""Columns of the quarantine.

`decision` is the number of the commit that refused the row (of the sync, or of the check), `batch` the number of the
sync that read it, `key` the row's key joined by ``"|"`` (null where it is not known), `raw` the JSON record: as the
source had it for stage ``collect``, as landed otherwise.
"""


@dataclass(frozen=True)
class Refusal:
    """Rows of one batch to refuse; arrays of n cells, in the same order. See :data:`SCHEMA`."""

    stage: Stage
    decision: int
    batches: pa.Array
    keys: pa.Array
    reasons: pa.Array
    raw: Sequence[str]
    at: datetime

    def table(self) -> pa.Table:
        """The rows as the quarantine holds them."""
        rows = len(self.raw)
        at = pa.scalar(self.at, SCHEMA.field("at").type)
        stage, decision = pa.repeat(self.stage, rows), pa.repeat(pa.scalar(self.decision, pa.int64()), rows)
        raw = pa.array(self.raw, pa.string())
        arrays = [stage, decision, self.batches, self.keys, self.reasons, raw, pa.repeat(at, rows)]
        return pa.Table.from_arrays([_array(column) for column in arrays], schema=SCHEMA)


class Refused:
    """The quarantine of one lake table, as written."""

    def __init__(self, path: Path) -> None:
        self._lake = Lake(path)

    def discard(self, stages: Sequence[Stage], after: int) -> None:
        """Forget what an attempt that never committed prepared: decisions of these stages numbered above `after`.

        Syncs and replays share their numbers, so whoever discards those of stage ``collect`` discards both.
        """
        if "collect" in stages:
            stages = (*stages, "replayed")
        rows = self.read()
        ours = pc.is_in(rows.column("stage"), pa.array(stages, pa.string()))
        if pc.any(pc.and_(ours, pc.greater(rows.column("decision"), after))).as_py():
            listed = ", ".join(f"'{stage}'" for stage in stages)
            self._lake.delete(f"stage IN ({listed}) AND decision > {after}")

    def prepare(self, refusal: Refusal) -> None:
        """Add rows on which the coming commit decides."""
        if len(refusal.raw):
            self.append(refusal.table())

    def append(self, rows: pa.Table) -> None:
        """Add rows of :data:`SCHEMA` on which the coming commit decides."""
        self._lake.append(rows)

    def read(self) -> pa.Table:
        """All rows, prepared and superseded ones included, oldest batch first."""
        if self._lake.version is None:
            return SCHEMA.empty_table()
        return self._lake.read(SCHEMA.names).sort_by([("batch", "ascending"), ("stage", "ascending")])


def current(node: Node, table: str) -> pa.Table:
    """The rows of a table that stand refused now, one row per refused record; columns of :data:`SCHEMA`.

    A record leaves when its key lands again in a later sync, or when a full sync replaces the table; it comes back,
    with the new reason, if it is refused again. A record whose key could not be read leaves with the next full sync
    only.
    """
    rows = Refused(node.quarantine(table)).read()
    landed, validated = Lake(node.landed(table)), Lake(node.validated(table))
    sync, full = (mark or 0 for mark in landed.marks("sync", "full"))
    check, rebuilt = (mark or 0 for mark in validated.marks("check", "rebuilt"))
    stage, decision = rows.column("stage"), rows.column("decision")
    visible = pc.and_(pc.equal(stage, "collect"), _between(decision, full, sync))
    visible = pc.or_(visible, pc.and_(pc.equal(stage, "quality"), _between(decision, rebuilt, check)))
    visible = pc.or_(visible, pc.and_(pc.equal(stage, "blocked"), pc.greater(decision, check)))
    replayed = rows.filter(pc.and_(pc.equal(stage, "replayed"), _between(decision, full, sync)))
    rows = rows.filter(visible)
    rows = rows.filter(pc.invert(pc.is_in(_record(rows), _record(replayed))))
    return rows.filter(_not_superseded(node, table, rows)) if rows.num_rows else rows


def joined_key(rows: pa.Table, key: Sequence[str]) -> pa.Array:
    """string, n cells: the key columns joined by ``"|"``; null where one of them is null."""
    parts = [_array(rows.column(name)).cast(pa.string()) for name in key]
    return pc.binary_join_element_wise(*parts, "|") if rows.num_rows else pa.array([], pa.string())


def _not_superseded(node: Node, table: str, rows: pa.Table) -> pa.Array:
    """bool, n cells: whether no later sync landed the row's key or refused it anew."""
    latest = dict[str, int]()
    for key, batch in zip(rows.column("key").to_pylist(), rows.column("batch").to_pylist(), strict=True):
        latest[key] = max(batch, latest.get(key, 0))
    landed = Lake(node.landed(table))
    key_columns = node.party.tables[table].key or node.consortium.identifiers
    if landed.version is not None:
        oldest = pc.min(rows.column("batch")).as_py()
        newer = landed.read([*key_columns, SYNC], since=oldest)
        keys = joined_key(newer, key_columns)
        hit = pc.is_in(keys, pa.array([key for key in latest if key is not None], pa.string()))
        for key, batch in zip(keys.filter(hit).to_pylist(), newer.column(SYNC).filter(hit).to_pylist(), strict=True):
            latest[key] = max(batch, latest[key])
    pairs = zip(rows.column("key").to_pylist(), rows.column("batch").to_pylist(), strict=True)
    return pa.array([key is None or batch >= latest[key] for key, batch in pairs], pa.bool_())


def _record(rows: pa.Table) -> pa.Array:
    """string, n cells: batch and raw record."""
    return pc.binary_join_element_wise(_array(rows.column("batch")).cast(pa.string()), _array(rows.column("raw")), " ")


def _between(numbers: pa.ChunkedArray, low: int, high: int) -> pa.ChunkedArray:
    return pc.and_(pc.greater_equal(numbers, low), pc.less_equal(numbers, high))


def _array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
