"""What full and incremental sync of one table share, under the table's lock."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ftl.collect.ahead import ahead
from ftl.collect.cast import LAKE_TYPES, cast, plain
from ftl.collect.contract import Terms, judge
from ftl.collect.files import FileReader
from ftl.collect.lake import SYNC, Lake
from ftl.collect.leaving import GONE, Leaving
from ftl.collect.mapping import Mapped, Mapping, number, records
from ftl.collect.pieces import Asked, Totals, totals_of
from ftl.collect.refused import Clock, Refusal, Refused, joined_key
from ftl.collect.report import Mode, Step, SyncProgress, SyncReport
from ftl.collect.source import Position, Since, Snapshot, Source, open_source
from ftl.collect.unfinished import Seen
from ftl.collect.watermark import NOTHING, as_mark, as_position, earlier, newest
from ftl.consortium import Node
from ftl.consortium.landing import Contract
from ftl.errors import SourceError

log = logging.getLogger(__name__)


@dataclass
class Session:
    """One attempt to sync one table; the caller holds :func:`ftl.collect.lock.exclusive`.

    Attributes:
        seen: what went by since the last turn.
        finished: what went by before it.
        control: source columns whose totals are to be reconciled.
        number: of this sync; the previous one's plus 1. A rerun after a crash gets the same number.
        last_full: number of the last full sync, 0 when there was none.
        last_scanned: rows that the source gave at the last sync; None where that was never noted.
        at_source: fingerprint of the source's state before anything is read; None where it cannot say.
    """

    node: Node
    table: str
    mapping: Mapping
    clock: Clock
    on_progress: Callable[[SyncProgress], None]
    seen: Seen = field(default_factory=Seen)
    finished: Seen = field(default_factory=Seen)
    control: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.started = self.clock()
        self.lake = Lake(self.node.landed(self.table))
        self.refused = Refused(self.node.quarantine(self.table))
        marks = self.lake.marks("sync", "full", "source", "mapping", "watermark", "scanned")
        self.last, self.last_full = marks[0] or 0, marks[1] or 0
        self._last_source, self._last_mapping = marks[2], marks[3]
        self.last_watermark = NOTHING if marks[4] is None else marks[4]
        self.last_scanned = marks[5]
        self.number = self.last + 1
        self.source: Source = open_source(self.node, self.mapping.settings.source)
        self.at_source = self._fingerprint()

    @property
    def can_continue(self) -> bool:
        """Whether there is a landed table, made with this mapping, to go on from."""
        return self.last > 0 and self._last_mapping == self.mapping.fingerprint

    @property
    def source_unmoved(self) -> bool:
        """Whether the source certainly is as the last sync saw it."""
        return self.at_source is not None and self.at_source == self._last_source

    @property
    def since(self) -> Position | None:
        """What an incremental sync reads from: the watermark less the table's lag."""
        position = self._position(self.last_watermark)
        return None if position is None else earlier(position, self.mapping.settings.lag)

    @cached_property
    def terms(self) -> Terms:
        """How the source's columns are to be read now.

        Raises:
            SourceError: they have changed in a way that the table's contract freezes.
        """
        settings, columns = self.mapping.settings, self.mapping.source_columns
        if settings.contract == Contract():
            return Terms({}, frozenset(), stays=False, columns={})
        known = json.loads(self.lake.property_of("columns") or "null")
        beside = json.loads(self.lake.property_of("beside") or "{}")
        seen = self.source.columns(settings.table)
        return judge(settings.contract, self.mapping.label, columns, known, seen, beside, self.mapping.schema.names)

    @property
    def properties(self) -> dict[str, str]:
        """What to keep with the landed table: the columns that the source has, and those that land unmapped."""
        if not self.terms.columns:
            return {}
        return {"columns": json.dumps(dict(self.terms.columns)), "beside": json.dumps(dict(self.terms.beside))}

    @cached_property
    def schema(self) -> pa.Schema:
        """Of the landed table."""
        beside = [pa.field(name, LAKE_TYPES[kind]) for name, kind in self.terms.beside.values()]
        return pa.schema([*self.mapping.schema, *beside, pa.field(SYNC, pa.int64())])

    def begin(self) -> None:
        """Discard what an attempt that never committed prepared.

        Raises:
            MappingError: the table's `deleted` is no expression over its columns.
        """
        self._leaving  # noqa: B018 - fails before anything is read
        self._tell("started", None)
        self.refused.discard(("collect",), after=self.last)

    @property
    def asked(self) -> Asked:
        """What to read of the source."""
        columns = self.mapping.settings.columns
        key = (columns[name].source for name in self.mapping.key if name in columns)
        wanted = [name for name in self.mapping.source_columns if name not in self.terms.missing]
        wanted += [name for name in self.terms.beside if name not in wanted]
        cursor = self.mapping.source_cursor
        return Asked(wanted, [name for name in key if name in wanted], cursor if cursor in wanted else None)

    def turn(self) -> None:
        """Count what was seen as finished, and begin anew."""
        self.finished.add(self.seen)
        self.seen = Seen()

    def forget(self) -> None:
        """Start anew: what was seen so far does not count."""
        self.seen = Seen()

    @contextmanager
    def snapshot(self, since: Position | None, files: Sequence[str] | None = None) -> Iterator[Snapshot]:
        """Read the source, from `since` on where it can filter by the cursor, or only some of its files."""
        cursor, table = self.mapping.source_cursor, self.mapping.settings.table
        bound = None
        if since is not None and cursor is not None and self.mapping.cursor_as_stored:
            bound = Since(cursor, since)
        wanted = self.asked.columns
        if files is not None and isinstance(self.source, FileReader):
            opened: AbstractContextManager[Snapshot] = self.source.part(table, wanted, files)
        else:
            opened = self.source.snapshot(table, wanted, bound)
        with opened as snapshot, ahead(snapshot.batches) as batches:
            yield replace(snapshot, batches=batches)

    def map(self, batch: pa.RecordBatch, of: int | None) -> Mapped:
        """Map one batch and take note of it; rows that have left are marked in the column :data:`GONE`."""
        mapped = self.mapping.apply(self._complete(batch))
        self.seen.scanned += batch.num_rows
        self.seen.bytes += batch.nbytes
        self.seen.count(totals_of(batch, self.control))
        cursor = self.mapping.settings.cursor
        if cursor is not None:
            self.seen.newest = max(self.seen.newest, newest(mapped.rows.column(cursor)))
            if self.mapping.settings.null_cursor == "refuse":
                reasons = _because(mapped.reasons, mapped.rows.column(cursor), f"{cursor}: the cursor is missing")
                mapped = replace(mapped, reasons=reasons)
        mapped = replace(mapped, rows=self._marked(self._with_unmapped(mapped.rows, batch)))
        log.info("collect.batch", extra={"batch": msgspec.structs.asdict(self._tell("mapped", of))})
        return mapped

    def remapped(self, batch: pa.RecordBatch) -> Mapped:
        """Map raw records of the quarantine, in which pseudonyms stand already."""
        mapped = self.mapping.apply(batch, pseudonyms_given=True)
        rows = mapped.rows
        for name, kind in self.terms.beside.values():  # not kept in the quarantine
            rows = rows.append_column(name, pa.nulls(rows.num_rows, LAKE_TYPES[kind]))
        return replace(mapped, rows=self._marked(rows))

    @property
    def mapping_moved(self) -> bool:
        """Whether the rows landed with another mapping."""
        return self._last_mapping != self.mapping.fingerprint

    def quarantine(self, mapped: Mapped, rows: Sequence[int] | pa.Array) -> None:
        """Prepare the rows of a batch whose positions are in `rows` for the quarantine."""
        self.refused.prepare(self.refusal(mapped, rows))

    def refusal(self, mapped: Mapped, rows: Sequence[int] | pa.Array) -> Refusal:
        """The rows of a batch whose positions are in `rows`, counted, as the quarantine is to have them."""
        positions = pa.array(rows, pa.uint64())
        self.seen.refused += len(positions)
        return Refusal(
            stage="collect",
            decision=self.number,
            batches=pa.repeat(pa.scalar(self.number, pa.int64()), len(positions)),
            keys=joined_key(mapped.rows.take(positions), self.mapping.key),
            reasons=mapped.reasons.take(positions),
            raw=records(mapped.raw, positions),
            at=self.clock(),
        )

    def numbered(self, rows: pa.Table) -> pa.Table:
        """`rows` as the landed table has them, with this sync's number."""
        rows = rows.append_column(SYNC, pa.repeat(pa.scalar(self.number, pa.int64()), rows.num_rows))
        return rows.select(self.schema.names).cast(self.schema)

    def prepared(self, of: int | None, totals: Totals | None = None) -> None:
        """Reconcile with the source's own count and control totals; all that is missing now is the commit.

        Raises:
            SourceError: the source gave another number of rows than it counted, or other keys.
        """
        cure = "Run the sync again; if it repeats, look whether the table is a view that changes between reads."
        if of is not None and of != self.seen.scanned:
            raise SourceError(
                f"{self.mapping.label}: the source counted {of} rows but gave {self.seen.scanned}; nothing was landed.",
                cure=cure,
            )
        for name, total in (totals or {}).items():
            if self.seen.totals.get(name, 0) not in (total, None):
                raise SourceError(
                    f"{self.mapping.label}: the rows that the source gave have another control total of {name!r} than "
                    "its own; nothing was landed.",
                    cure=cure,
                )
        self._tell("prepared", of)

    def marks(self, full: int) -> dict[str, int]:
        """What to commit with the rows."""
        return {
            "sync": self.number,
            "full": full,
            "source": -1 if self.at_source is None else self.at_source,
            "mapping": self.mapping.fingerprint,
            "watermark": self.seen.newest if full == self.number else max(self.seen.newest, self.last_watermark),
            "at": as_mark(self.started),
            "scanned": self.seen.scanned,
            **self._file_marks,
        }

    def unseen_files(self) -> list[str]:
        """Files of the table that are new, or others than at the last sync, in the order of their names."""
        marks = self._file_marks
        known = self.lake.marks(*marks)
        return [file for file, mark, had in zip(self.files, marks.values(), known, strict=True) if mark != had]

    @cached_property
    def files(self) -> dict[str, str]:
        """File to its fingerprint, where the table is followed by its files; else nothing."""
        if not isinstance(self.source, FileReader) or self.mapping.settings.cursor is not None:
            return {}
        return self.source.files(self.mapping.settings.table)

    @property
    def _file_marks(self) -> dict[str, int]:
        return {f"file.{number(file)}": number(state) for file, state in self.files.items()}

    def report(self, mode: Mode, *, skipped: bool = False) -> SyncReport:
        """The end of the sync."""
        if not skipped:
            self._tell("committed", self.seen.scanned)
        (mark,) = self.lake.marks("watermark")
        position = None if mark is None else self._position(mark)
        return SyncReport(
            party=self.node.name,
            table=self.table,
            mode=mode,
            rows_read=self.seen.read,
            rows_landed=self.seen.landed,
            rows_quarantined=self.seen.refused,
            version=self.lake.version or 0,
            position=None if position is None else str(position),
            seconds=(self.clock() - self.started).total_seconds(),
            skipped=skipped,
            rows_deleted=self.seen.deleted,
        )

    def _complete(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with the columns that the mapping asks for and the source no longer has."""
        for name in self.terms.missing:
            batch = batch.append_column(name, pa.nulls(batch.num_rows))
        return batch

    def _with_unmapped(self, rows: pa.Table, batch: pa.RecordBatch) -> pa.Table:
        for source, (name, kind) in self.terms.beside.items():
            rows = rows.append_column(name, cast(plain(batch.column(source)), kind).values)
        return rows

    @cached_property
    def _leaving(self) -> Leaving:
        return Leaving(self.mapping)

    def _marked(self, rows: pa.Table) -> pa.Table:
        if self.mapping.settings.deleted is None:
            return rows
        return rows.append_column(GONE, pa.array(self._leaving.rows(rows)))

    def _fingerprint(self) -> int | None:
        position = self.source.position(self.mapping.settings.table, self.mapping.source_cursor)
        return None if position is None else number(f"{self.mapping.settings.table} {position}")

    def _position(self, mark: int) -> Position | None:
        cursor = self.mapping.settings.cursor
        return None if cursor is None else as_position(mark, self.mapping.schema.field(cursor).type)

    def _tell(self, step: Step, of: int | None) -> SyncProgress:
        seconds = (self.clock() - self.started).total_seconds()
        scanned, size = self.finished.scanned + self.seen.scanned, self.finished.bytes + self.seen.bytes
        told = SyncProgress(self.node.name, self.table, step, scanned, of, size, seconds)
        self.on_progress(told)
        return told


def _because(reasons: pa.Array, values: pa.ChunkedArray, reason: str) -> pa.Array:
    missing = pc.and_(pc.is_null(values.combine_chunks()), pc.is_null(reasons))
    return pc.if_else(missing, reason, reasons)
