"""Incremental sync and backfill: what is new and changed at the source, merged by key."""

from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from ftl.collect.cast import cast
from ftl.collect.derive import sandbox
from ftl.collect.lake import duplicates
from ftl.collect.leaving import GONE
from ftl.collect.mapping import Mapping, records
from ftl.collect.parts import quoted
from ftl.collect.report import SyncReport
from ftl.collect.session import Session
from ftl.collect.source import Position, Snapshot
from ftl.errors import MappingError

_ORDER = "_order"


@dataclass(frozen=True)
class Interval:
    """Cursor values from `start` up to, and without, `end`, as text that can be read as the cursor's type.

    None leaves a side open.
    """

    start: str | None
    end: str | None


def increment(session: Session) -> SyncReport | None:
    """Merge what came since the last sync; None where the source has gone back, so that only a full sync will do."""
    files = session.unseen_files() if session.files else None
    always = session.mapping.settings.null_cursor == "always"
    session.begin()
    with session.snapshot(None if always else session.since, files) as snapshot:
        found = _due_rows(session, snapshot, session.since, None)
    if files is None and session.since is not None and not session.seen.read:
        # The row at the watermark was read when it landed; now there is none from there on.
        session.forget()
        return None
    return _merge(session, found, session.since)


def backfill(session: Session, interval: Interval) -> SyncReport:
    """Merge the rows of an interval of the cursor; the watermark stays where it is, unless they go beyond it."""
    start, end = bounds(session.mapping, interval)
    session.begin()
    with session.snapshot(start) as snapshot:
        found = _due_rows(session, snapshot, start, end)
    # What a source gives beyond the interval has not landed, so the watermark may not pass it.
    session.seen.newest = session.last_watermark
    return _merge(session, found, start)


def bounds(mapping: Mapping, interval: Interval) -> tuple[Position | None, Position | None]:
    """The interval's ends as values of the cursor.

    Raises:
        MappingError: an end cannot be read as the cursor's type, or the end is not after the start.
    """
    column = mapping.settings.columns.get(mapping.settings.cursor or "")
    kind = column.type if column is not None else str(mapping.schema.field(mapping.settings.cursor).type)
    start, end = (_position(mapping, text, kind) for text in (interval.start, interval.end))
    if start is not None and end is not None and not start < end:  # type: ignore[operator]
        raise MappingError(f"{mapping.label}: the interval ends before it begins.", cure="Give a later end.")
    return start, end


def _position(mapping: Mapping, text: str | None, kind: str) -> Position | None:
    if text is None:
        return None
    named = {"double": "float64", "date32[day]": "date", "timestamp[us, tz=UTC]": "timestamp"}.get(kind, kind)
    read = cast(pa.array([text], pa.string()), named)  # type: ignore[arg-type]
    if read.failed[0]:
        raise MappingError(
            f"{mapping.label}: {text!r} cannot be read as a {named}, the cursor's type.",
            cure="Write for example 2026-11-23 or 2026-11-23T10:00:00Z.",
        )
    value: Position = read.values[0].as_py()
    return value


@dataclass(frozen=True)
class _Found:
    """Rows that are to be merged, and keys that are to be taken out."""

    good: pa.Table
    refused: pa.Table
    left: pa.Table


def _due_rows(session: Session, snapshot: Snapshot, start: Position | None, end: Position | None) -> _Found:
    schema = session.mapping.schema
    key_schema = pa.schema([schema.field(name) for name in session.mapping.key])
    landing = pa.schema([field for field in session.schema if field.name != "_sync"])
    good, refused, left = [landing.empty_table()], [key_schema.empty_table()], [key_schema.empty_table()]
    known = _refused_before(session)
    for batch in snapshot.batches:
        mapped = session.map(batch, snapshot.rows)
        due, fine = _due(session, mapped.rows, start, end), pc.is_null(mapped.reasons)
        session.seen.read += pc.sum(due).as_py() or 0
        rows = mapped.rows.filter(pc.and_(due, fine))
        if GONE in rows.column_names:
            left.append(rows.filter(rows.column(GONE)).select(key_schema.names))
            rows = rows.filter(pc.invert(rows.column(GONE)))
        good.append(rows.select(landing.names))
        bad = pc.indices_nonzero(pc.and_(due, pc.invert(fine)))
        refused.append(mapped.rows.select(key_schema.names).take(bad))
        session.quarantine(
            mapped, [row for row, raw in zip(bad, records(mapped.raw, bad), strict=True) if raw not in known]
        )
    session.prepared(snapshot.rows)
    return _Found(pa.concat_tables(good), pa.concat_tables(refused).drop_null(), pa.concat_tables(left))


def _due(session: Session, rows: pa.Table, start: Position | None, end: Position | None) -> pa.Array:
    """bool, n cells: rows that this sync asks for; all of a table of files without a cursor."""
    cursor = session.mapping.settings.cursor
    if cursor is None:
        return pa.repeat(pa.scalar(value=True), rows.num_rows)
    column = rows.column(cursor).combine_chunks()
    waits = session.mapping.settings.null_cursor == "wait"
    due = pc.is_valid(column)
    if start is not None:
        due = pc.and_(due, pc.greater_equal(column, pa.scalar(start, column.type)))
    if end is not None:
        due = pc.and_(due, pc.less(column, pa.scalar(end, column.type)))
    return pc.fill_null(due, fill_value=False) if waits else pc.or_(pc.fill_null(due, False), pc.is_null(column))


def _merge(session: Session, found: _Found, start: Position | None) -> SyncReport:
    key = list(session.mapping.key)
    good = found.good
    if session.mapping.settings.repeated == "newest":
        good = _newest(session, good)
    else:
        _require_unique(session, pa.concat_tables([good.select(key), found.refused, found.left]))
    good = _unlanded(session, good, start)
    left = _landed(session, found.left)
    session.seen.landed, session.seen.deleted = good.num_rows, left.num_rows
    if not good.num_rows and not session.seen.refused and not left.num_rows and not session.files:
        return session.report("incremental", skipped=True)
    if session.files and not session.unseen_files():
        return session.report("incremental", skipped=True)
    removed = pa.concat_tables([found.refused, left])
    marks = session.marks(full=session.last_full)
    session.lake.merge(session.numbered(good), key, removed, marks, session.properties)
    return session.report("incremental")


def _refused_before(session: Session) -> set[str]:
    """Raw records that are in quarantine already: rows *at* the watermark are read again by every incremental sync."""
    rows = session.refused.read()
    stage, decision = rows.column("stage"), rows.column("decision")
    ours = pc.and_(pc.equal(stage, "collect"), pc.greater_equal(decision, session.last_full))
    return set(rows.filter(ours).column("raw").to_pylist())


def _unlanded(session: Session, rows: pa.Table, start: Position | None) -> pa.Table:
    """`rows` without those that the landed table holds exactly so."""
    cursor = session.mapping.settings.cursor
    if not rows.num_rows or (start is None and cursor is not None):
        return rows
    key = ", ".join(map(quoted, session.mapping.key))
    with sandbox(part.path for part in session.lake.parts()) as connection:
        connection.register("fresh", rows)
        landed = _landed_since(session, connection, rows, start)
        if not landed.num_rows:
            return rows
        connection.register("landed", landed)
        left = connection.sql(
            f"FROM fresh ANTI JOIN landed USING ({key}) UNION ALL "
            f"(FROM fresh SEMI JOIN landed USING ({key}) EXCEPT ALL FROM landed)"
        )
        return left.to_arrow_table().cast(rows.schema)


def _landed_since(
    session: Session, connection: duckdb.DuckDBPyConnection, rows: pa.Table, start: Position | None
) -> pa.Table:
    """Landed rows with the keys of `rows`, the table ``fresh``, whose cursor is not before `start`."""
    cursor, known = session.mapping.settings.cursor, (session.lake.schema() or rows.schema).names
    there = [name for name in rows.column_names if name in known]
    same = " AND ".join(f"l.{quoted(name)} = f.{quoted(name)}" for name in session.mapping.key)
    condition = f"WHERE {quoted(cursor)} >= $bound" if cursor else ""
    if cursor and rows.column(cursor).null_count:  # only a missing cursor is equal to a missing one
        condition += f" OR {quoted(cursor)} IS NULL"
    session.lake.create_view(connection, "lake", "_lake")
    landed = connection.sql(
        f"SELECT {', '.join(map(quoted, there))} FROM lake l SEMI JOIN fresh f ON {same} {condition}",  # noqa: S608
        params={"bound": start} if cursor else {},
    ).to_arrow_table()
    for name in rows.column_names:
        if name not in there:
            landed = landed.append_column(name, pa.nulls(landed.num_rows, rows.schema.field(name).type))
    return landed.select(rows.column_names).cast(rows.schema)


def _landed(session: Session, keys: pa.Table) -> pa.Table:
    """Those of the keys that the landed table has."""
    if not keys.num_rows:
        return keys
    landed = session.lake.read(keys.column_names)
    return keys.join(landed, keys.column_names, join_type="left semi").cast(keys.schema)


def _newest(session: Session, rows: pa.Table) -> pa.Table:
    """Of rows with the same key the one with the greatest cursor, of equals the one read last."""
    keys = ", ".join(map(quoted, session.mapping.key))
    cursor = session.mapping.settings.cursor
    latest = f"{quoted(cursor)} DESC NULLS LAST, " if cursor else ""
    with sandbox() as connection:
        connection.register("fresh", rows.append_column(_ORDER, pa.array(range(rows.num_rows), pa.int64())))
        kept = connection.sql(
            f"SELECT * EXCLUDE {_ORDER} FROM fresh QUALIFY row_number() OVER "  # noqa: S608 - quoted names
            f"(PARTITION BY {keys} ORDER BY {latest}{_ORDER} DESC) = 1"
        )
        return kept.to_arrow_table().cast(rows.schema)


def _require_unique(session: Session, keys: pa.Table) -> None:
    repeated = duplicates(keys, session.mapping.key)
    if repeated:
        raise MappingError(
            f"{session.mapping.label}: {repeated} keys ({', '.join(session.mapping.key)}) appear more than once among "
            "the rows changed at the source.",
            cure="Set `key` to columns that identify a row, correct the source, or set `repeated: newest`.",
        )
