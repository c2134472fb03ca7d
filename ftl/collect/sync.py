"""Full and incremental sync of one table: source → mapping → landed Delta table, exactly once.

The order of work makes a crash harmless at every step:

1. discard what an attempt that never committed left in the quarantine;
2. read and map; write the good rows to files that no version of the table names yet, and the refused rows to the
   quarantine under the coming sync's number, where nobody sees them yet (a full sync goes on with files that an
   attempt before it has finished, see :mod:`ftl.collect.full`);
3. commit the files together with the marks *sync*, *full*, *source*, *mapping* and *watermark*: the one moment at which
   all of it becomes visible.
"""

import logging
from collections.abc import Callable
from contextlib import closing

import msgspec
import pyarrow as pa

from ftl.collect.full import full
from ftl.collect.history import keep_history
from ftl.collect.increment import Interval, backfill, bounds, increment
from ftl.collect.lake import Lake
from ftl.collect.lock import exclusive
from ftl.collect.mapping import Mapping
from ftl.collect.online import OnlineStore
from ftl.collect.refused import Clock
from ftl.collect.report import Mode, SyncProgress, SyncReport
from ftl.collect.session import Session
from ftl.collect.source import Position
from ftl.collect.tidying import tidy
from ftl.collect.watermark import as_position
from ftl.consortium import Node
from ftl.errors import MappingError

log = logging.getLogger(__name__)


def collect(
    node: Node,
    table: str,
    mode: Mode,
    clock: Clock,
    on_progress: Callable[[SyncProgress], None] | None = None,
    interval: Interval | None = None,
) -> SyncReport:
    """Bring the landed table up to date with the source.

    A full sync replaces the table, unless the source has not moved since the last sync. An incremental sync merges
    by key the rows at or after the watermark less the table's `lag`, or, of a table of files without a cursor, those of
    new and changed files; a row that is refused now is taken out of the landed table. When the source has no row left
    there, it has gone back to an earlier state, and the sync becomes a full one.

    Args:
        node: the party's node.
        table: lake name of the table.
        mode: ``full`` or ``incremental``.
        clock: gives the present moment in UTC.
        on_progress: told of every step.
        interval: merge only the rows whose cursor lies in it, and leave the watermark; of mode ``incremental``.

    Raises:
        SourceError: the source cannot be read, gave another number of rows than it counted, or has columns that the
            table's contract freezes.
        MappingError: the mapping is wrong, a value cannot be cast under the policy `stop`, an incremental sync has no
            cursor, or its rows repeat a key.
        LakeConflict: another sync or check of this table is under way.
    """
    mapping = Mapping(node, table)
    if mode == "incremental":
        _require_cursor(node, mapping, interval)
    with exclusive(node.landed(table), f"collect {node.name}.{table}"):
        session = Session(node, table, mapping, clock, on_progress or (lambda _: None))
        report = _run(session, mode, interval)
        if mapping.settings.history:
            keep_history(node, table)
        if mapping.settings.online:
            with closing(OnlineStore.of(node, table, mapping)) as online:
                online.refresh(session.lake)
        tidy(node, table, session.started)
    pa.default_memory_pool().release_unused()  # a check of the table follows, or the next one, in the same process
    log.info("collect.done", extra={"sync": msgspec.structs.asdict(report)})
    return report


def watermark(node: Node, table: str) -> Position | None:
    """Newest cursor value that has landed; None before the first sync, without cursor, or with no value yet."""
    mapping = Mapping(node, table)
    (mark,) = Lake(node.landed(table)).marks("watermark")
    if mapping.settings.cursor is None or mark is None:
        return None
    return as_position(mark, mapping.schema.field(mapping.settings.cursor).type)


def follows(node: Node, table: str) -> bool:
    """Whether a table that has landed can be brought up to date by incremental syncs."""
    landed = Lake(node.landed(table)).marks("sync") != (None,)
    return landed and (watermark(node, table) is not None or _by_files(node, Mapping(node, table)))


def _by_files(node: Node, mapping: Mapping) -> bool:
    kind = node.party.sources[mapping.settings.source].kind
    return mapping.settings.cursor is None and kind in FILE_KINDS


FILE_KINDS = ("csv", "json_lines", "parquet", "excel")


def _require_cursor(node: Node, mapping: Mapping, interval: Interval | None) -> None:
    if mapping.settings.cursor is None and (interval is not None or not _by_files(node, mapping)):
        raise MappingError(
            f"{mapping.label}: an incremental sync needs a cursor.",
            cure="Set `cursor` to a column that grows with every change, or run a full sync.",
        )
    if interval is not None:
        bounds(mapping, interval)


def _run(session: Session, mode: Mode, interval: Interval | None) -> SyncReport:
    if session.terms.stays and session.last:
        log.warning("collect.stays", extra={"table": session.mapping.label, "lost": sorted(session.terms.missing)})
        return session.report(mode, skipped=True)
    if mode == "incremental" and session.can_continue:
        if interval is not None:
            return backfill(session, interval)
        return increment(session) or full(session)
    return full(session)
