"""Full and incremental sync of one table: source → mapping → landed Delta table, exactly once.

The order of work makes a crash harmless at every step:

1. discard what an attempt that never committed left in the quarantine;
2. read and map; write the good rows to files that no version of the table names yet, and the refused rows to the
   quarantine under the coming sync's number, where nobody sees them yet;
3. commit the files together with the marks *sync*, *full*, *source*, *mapping* and *watermark*: the one moment at which
   all of it becomes visible.
"""

import logging
from collections.abc import Callable, Iterator

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from ftl.collect.derive import sandbox
from ftl.collect.lake import Lake, duplicates
from ftl.collect.lock import exclusive
from ftl.collect.mapping import Mapping, records
from ftl.collect.refused import Clock, current
from ftl.collect.report import Mode, SyncProgress, SyncReport
from ftl.collect.session import Session
from ftl.collect.source import Position, Snapshot
from ftl.collect.watermark import as_position
from ftl.consortium import Node
from ftl.errors import MappingError

log = logging.getLogger(__name__)


def collect(
    node: Node, table: str, mode: Mode, clock: Clock, on_progress: Callable[[SyncProgress], None] | None = None
) -> SyncReport:
    """Bring the landed table up to date with the source.

    A full sync replaces the table, unless the source has not moved since the last sync. An incremental sync merges
    by key the rows at or after the watermark; a row that is refused now is taken out of the landed table.

    Args:
        node: the party's node.
        table: lake name of the table.
        mode: ``full`` or ``incremental``.
        clock: gives the present moment in UTC.
        on_progress: told of every step.

    Raises:
        SourceError: the source cannot be read, or gave another number of rows than it counted.
        MappingError: the mapping is wrong, a value cannot be cast under the policy `stop`, an incremental sync has no
            cursor, or its rows repeat a key.
        LakeConflict: another sync or check of this table is under way.
    """
    mapping = Mapping(node, table)
    if mode == "incremental" and mapping.settings.cursor is None:
        raise MappingError(
            f"{mapping.label}: an incremental sync needs a cursor.",
            cure="Set `cursor` to a column that grows with every change, or run a full sync.",
        )
    with exclusive(node.landed(table), f"collect {node.name}.{table}"):
        session = Session(node, table, mapping, clock, on_progress or (lambda _: None))
        report = _incremental(session) if mode == "incremental" and session.can_continue else _full(session)
    log.info("collect.done", extra={"sync": msgspec.structs.asdict(report)})
    return report


def watermark(node: Node, table: str) -> Position | None:
    """Newest cursor value that has landed; None before the first sync, without cursor, or with no value yet."""
    mapping = Mapping(node, table)
    (mark,) = Lake(node.landed(table)).marks("watermark")
    if mapping.settings.cursor is None or mark is None:
        return None
    return as_position(mark, mapping.schema.field(mapping.settings.cursor).type)


def _full(session: Session) -> SyncReport:
    if session.can_continue and session.source_unmoved and _nothing_deleted(session):
        return session.report("full", skipped=True)
    session.begin()
    with session.snapshot(None) as snapshot:
        session.lake.replace(_good(session, snapshot), session.schema, lambda: session.marks(full=session.number))
    return session.report("full")


def _nothing_deleted(session: Session) -> bool:
    """An incremental sync sees no deletion; whether there was one shows in the number of rows."""
    if session.last == session.last_full:
        return True
    with session.snapshot(None) as snapshot:
        refused = current(session.node, session.table)
        at_collect = pc.sum(pc.equal(refused.column("stage"), "collect")).as_py() or 0
        return snapshot.rows == session.lake.count() + at_collect


def _good(session: Session, snapshot: Snapshot) -> Iterator[pa.Table]:
    """Good rows of every batch; refused ones go to the quarantine on the way."""
    for batch in snapshot.batches:
        mapped = session.map(batch, snapshot.rows)
        good = pc.is_null(mapped.reasons)
        rows = mapped.rows.filter(good)
        session.quarantine(mapped, pc.indices_nonzero(pc.invert(good)))
        session.seen.read += batch.num_rows
        session.seen.landed += rows.num_rows
        yield session.numbered(rows)
    session.prepared(snapshot.rows)


def _incremental(session: Session) -> SyncReport:
    session.begin()
    with session.snapshot(session.since) as snapshot:
        good, refused_keys = _due_rows(session, snapshot)
    key = list(session.mapping.key)
    _require_unique(session, pa.concat_tables([good.select(key), refused_keys]))
    good = _unlanded(session, good)
    session.seen.landed = good.num_rows
    session.prepared(snapshot.rows)
    if not good.num_rows and not session.seen.refused:
        return session.report("incremental", skipped=True)
    session.lake.merge(session.numbered(good), key, refused_keys, session.marks(full=session.last_full))
    return session.report("incremental")


def _due_rows(session: Session, snapshot: Snapshot) -> tuple[pa.Table, pa.Table]:
    """(good rows at or after the watermark, keys of rows that are refused now)."""
    schema = session.mapping.schema
    key_schema = pa.schema([schema.field(name) for name in session.mapping.key])
    good, keys = [schema.empty_table()], [key_schema.empty_table()]
    known = _refused_before(session)
    for batch in snapshot.batches:
        mapped = session.map(batch, snapshot.rows)
        due, fine = _due(session, mapped.rows), pc.is_null(mapped.reasons)
        session.seen.read += pc.sum(due).as_py() or 0
        good.append(mapped.rows.filter(pc.and_(due, fine)))
        bad = pc.indices_nonzero(pc.and_(due, pc.invert(fine)))
        keys.append(mapped.rows.select(key_schema.names).take(bad))
        session.quarantine(
            mapped, [row for row, raw in zip(bad, records(mapped.raw, bad), strict=True) if raw not in known]
        )
    return pa.concat_tables(good), pa.concat_tables(keys).drop_null()


def _due(session: Session, rows: pa.Table) -> pa.Array:
    """bool, n cells: rows at or after the watermark. A row without a cursor value waits for the next full sync."""
    column = rows.column(session.mapping.settings.cursor).combine_chunks()
    if session.since is None:
        return pc.is_valid(column)
    return pc.fill_null(pc.greater_equal(column, pa.scalar(session.since, column.type)), fill_value=False)


def _refused_before(session: Session) -> set[str]:
    """Raw records that are in quarantine already: rows *at* the watermark are read again by every incremental sync."""
    rows = session.refused.read()
    stage, decision = rows.column("stage"), rows.column("decision")
    ours = pc.and_(pc.equal(stage, "collect"), pc.greater_equal(decision, session.last_full))
    return set(rows.filter(ours).column("raw").to_pylist())


def _unlanded(session: Session, rows: pa.Table) -> pa.Table:
    """`rows` without those at the watermark that the landed table holds exactly so."""
    if session.since is None or not rows.num_rows:
        return rows
    cursor = session.mapping.settings.cursor
    bound = pa.scalar(session.since, rows.schema.field(cursor).type)
    landed = session.lake.read(rows.column_names, condition=ds.field(cursor) == bound)
    connection = sandbox()
    connection.register("fresh", rows)
    connection.register("landed", landed)
    return connection.sql("SELECT * FROM fresh EXCEPT ALL SELECT * FROM landed").to_arrow_table().cast(rows.schema)


def _require_unique(session: Session, keys: pa.Table) -> None:
    repeated = duplicates(keys, session.mapping.key)
    if repeated:
        raise MappingError(
            f"{session.mapping.label}: {repeated} keys ({', '.join(session.mapping.key)}) appear more than once among "
            "the rows changed at the source.",
            cure="Set `key` to columns that identify a row, or correct the source.",
        )
