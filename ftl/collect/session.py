"""What full and incremental sync of one table share, under the table's lock."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa

from ftl.collect.lake import SYNC, Lake
from ftl.collect.mapping import Mapped, Mapping, number, records
from ftl.collect.refused import Clock, Refusal, Refused, joined_key
from ftl.collect.report import Mode, Step, SyncProgress, SyncReport
from ftl.collect.source import Position, Since, Snapshot, Source, open_source
from ftl.collect.watermark import NOTHING, as_position, newest
from ftl.consortium import Node
from ftl.errors import SourceError


@dataclass
class Seen:
    """What went by so far.

    Attributes:
        scanned: rows that the source gave.
        read: those of them that the sync asked for (a source may give more).
        landed, refused: where they went.
        newest: mark of the greatest cursor among them.
    """

    scanned: int = 0
    read: int = 0
    landed: int = 0
    refused: int = 0
    newest: int = NOTHING


@dataclass
class Session:
    """One attempt to sync one table; the caller holds :func:`ftl.collect.lock.exclusive`.

    Attributes:
        number: of this sync; the previous one's plus 1. A rerun after a crash gets the same number.
        last_full: number of the last full sync, 0 when there was none.
        at_source: fingerprint of the source's state before anything is read; None where it cannot say.
        schema: of the landed table.
    """

    node: Node
    table: str
    mapping: Mapping
    clock: Clock
    on_progress: Callable[[SyncProgress], None]
    seen: Seen = field(default_factory=Seen)

    def __post_init__(self) -> None:
        self.started = self.clock()
        self.lake = Lake(self.node.landed(self.table))
        self.refused = Refused(self.node.quarantine(self.table))
        marks = self.lake.marks("sync", "full", "source", "mapping", "watermark")
        self.last, self.last_full = marks[0] or 0, marks[1] or 0
        self._last_source, self._last_mapping = marks[2], marks[3]
        self.last_watermark = NOTHING if marks[4] is None else marks[4]
        self.number = self.last + 1
        self.source: Source = open_source(self.node, self.mapping.settings.source)
        self.at_source = self._fingerprint()
        self.schema = self.mapping.schema.append(pa.field(SYNC, pa.int64()))

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
        """The watermark to go on from."""
        return self._position(self.last_watermark)

    def begin(self) -> None:
        """Discard what an attempt that never committed prepared."""
        self._tell("started", None)
        self.refused.discard(("collect",), after=self.last)

    @contextmanager
    def snapshot(self, since: Position | None) -> Iterator[Snapshot]:
        """Read the source, from `since` on where it can filter by the cursor."""
        cursor = self.mapping.source_cursor
        bound = None
        if since is not None and cursor is not None and self.mapping.cursor_as_stored:
            bound = Since(cursor, since)
        with self.source.snapshot(self.mapping.settings.table, self.mapping.source_columns, bound) as snapshot:
            yield snapshot

    def map(self, batch: pa.RecordBatch, of: int | None) -> Mapped:
        """Map one batch and take note of it."""
        mapped = self.mapping.apply(batch)
        self.seen.scanned += batch.num_rows
        if self.mapping.settings.cursor is not None:
            self.seen.newest = max(self.seen.newest, newest(mapped.rows.column(self.mapping.settings.cursor)))
        self._tell("mapped", of)
        return mapped

    def quarantine(self, mapped: Mapped, rows: Sequence[int] | pa.Array) -> None:
        """Prepare the rows of a batch whose positions are in `rows` for the quarantine."""
        positions = pa.array(rows, pa.uint64())
        self.seen.refused += len(positions)
        if len(positions):
            taken = mapped.rows.take(positions)
            self.refused.prepare(
                Refusal(
                    stage="collect",
                    decision=self.number,
                    batches=pa.repeat(pa.scalar(self.number, pa.int64()), len(positions)),
                    keys=joined_key(taken, self.mapping.key),
                    reasons=mapped.reasons.take(positions),
                    raw=records(mapped.raw, positions),
                    at=self.clock(),
                )
            )

    def numbered(self, rows: pa.Table) -> pa.Table:
        """`rows` as the landed table has them, with this sync's number."""
        return rows.append_column(SYNC, pa.repeat(pa.scalar(self.number, pa.int64()), rows.num_rows)).cast(self.schema)

    def prepared(self, of: int | None) -> None:
        """Reconcile with the source's own count; all that is missing now is the commit.

        Raises:
            SourceError: the source gave another number of rows than it counted.
        """
        if of is not None and of != self.seen.scanned:
            raise SourceError(
                f"{self.mapping.label}: the source counted {of} rows but gave {self.seen.scanned}; nothing was landed.",
                cure="Run the sync again; if it repeats, look whether the table is a view that changes between reads.",
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
        }

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
        )

    def _fingerprint(self) -> int | None:
        position = self.source.position(self.mapping.settings.table, self.mapping.source_cursor)
        return None if position is None else number(f"{self.mapping.settings.table} {position}")

    def _position(self, mark: int) -> Position | None:
        cursor = self.mapping.settings.cursor
        return None if cursor is None else as_position(mark, self.mapping.schema.field(cursor).type)

    def _tell(self, step: Step, of: int | None) -> None:
        self.on_progress(SyncProgress(self.node.name, self.table, step, self.seen.scanned, of))
