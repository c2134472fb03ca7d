"""Full sync: the source's whole table takes the place of the landed one, in one commit.

Files that are whole are noted on the way, with the pieces of the source whose rows they hold. An attempt that follows
one that was cut off reads only what those do not hold, or what has changed since. See :mod:`ftl.collect.unfinished`.
"""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ftl.collect.ahead import ahead
from ftl.collect.leaving import GONE
from ftl.collect.mapping import number
from ftl.collect.parts import Part
from ftl.collect.pieces import InPieces, Pieces
from ftl.collect.refused import SCHEMA, current
from ftl.collect.report import SyncReport
from ftl.collect.session import Session
from ftl.collect.source import Counting
from ftl.collect.unfinished import Chapter, Seen, Unfinished
from ftl.collect.writing import ROWS_PER_FILE, DataFile
from ftl.errors import SourceError

CHAPTER_ROWS = 1_000_000
CHAPTER_SECONDS = 30.0
"""What is read is noted as finished after so many rows, or so long: an attempt that is cut off loses no more."""


def full(session: Session) -> SyncReport:
    """Replace the landed table, unless the source has not moved since the last sync.

    Raises:
        SourceError: the source cannot be read, or gave other rows than it counted.
    """
    if session.can_continue and session.source_unmoved and _nothing_deleted(session):
        return session.report("full", skipped=True)
    session.begin()
    settings, key = session.mapping.settings, session.mapping.key
    unfinished = Unfinished(session.lake.path, session.lake.made(session.schema), _terms(session))
    with _opened(session, unfinished) as pieces:
        unfinished.keep(pieces.kept, pieces.state)
        session.lake.rewrite(
            lambda prefix: _written(session, pieces, unfinished, prefix),
            session.schema,
            lambda: session.marks(full=session.number),
            session.properties,
            newest=(key, settings.cursor) if settings.repeated == "newest" else None,
            unfinished=unfinished,
        )
    unfinished.forget()
    return session.report("full")


def _terms(session: Session) -> int:
    settings = session.node.party.sources[session.mapping.settings.source].model_dump(mode="json")
    known = [session.number, session.mapping.fingerprint, settings, str(session.schema), session.properties]
    return number(json.dumps(known, sort_keys=True))


@contextmanager
def _opened(session: Session, unfinished: Unfinished) -> Iterator[Pieces]:
    if isinstance(session.source, InPieces):
        with session.source.pieces(session.mapping.settings.table, session.asked, unfinished.earlier) as pieces:
            yield pieces
        return
    with session.snapshot(None) as snapshot:
        yield Pieces(snapshot.rows, snapshot.batches)


def _nothing_deleted(session: Session) -> bool:
    """Whether the source has as many rows as the last sync left: nothing else shows a deletion."""
    source, table = session.source, session.mapping.settings.table
    if session.last == session.last_full:
        return not isinstance(source, Counting) or source.count(table) == session.last_scanned
    refused = current(session.node, session.table)
    at_collect = pc.sum(pc.equal(refused.column("stage"), "collect")).as_py() or 0
    if isinstance(source, Counting):
        return source.count(table) == session.lake.count() + at_collect
    with session.snapshot(None) as snapshot:
        return snapshot.rows == session.lake.count() + at_collect


@dataclass(frozen=True)
class _Mapped:
    """One batch: rows that land, and rows for the quarantine."""

    rows: pa.Table
    refused: pa.Table | None


@dataclass(frozen=True)
class _End:
    """Of a piece: what was seen in it."""

    piece: str
    seen: Seen


def _written(session: Session, pieces: Pieces, unfinished: Unfinished, prefix: str) -> list[Part]:
    """Write what the source gives, beside what is finished; refused rows are prepared for the quarantine at the end."""
    for chapter in unfinished.chapters:
        session.finished.add(chapter.seen)
    session.control = tuple(pieces.totals)
    open_files = _Open(session, prefix)
    with ahead(pieces.items) as items, ahead(_mapped(session, items, pieces.rows)) as mapped:
        for item in mapped:
            if isinstance(item, _Mapped):
                open_files.write(item)
            elif open_files.ended(item):
                unfinished.add(open_files.chapter())
                open_files = _Open(session, prefix)
    last = open_files.chapter()
    session.turn()
    session.seen, session.finished = session.finished, Seen()
    try:
        session.prepared(pieces.rows, pieces.totals)
    except SourceError:
        unfinished.forget()
        raise
    parts = [*unfinished.parts, *(Part.whole(session.lake.path / name, rows) for name, rows in last.files.items())]
    for path in (*unfinished.refused, *(session.lake.path / name for name in last.refused)):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                session.refused.append(pa.table(batch).cast(SCHEMA))
        path.unlink()
    return parts


def _mapped(session: Session, items: Iterator[pa.RecordBatch | str], of: int | None) -> Iterator[_Mapped | _End]:
    for item in items:
        if isinstance(item, str):
            yield _End(item, session.seen)
            session.turn()
            continue
        mapped = session.map(item, of)
        rows, refused = mapped.rows, None
        if not mapped.good:
            good = pc.is_null(mapped.reasons)
            refused = session.refusal(mapped, pc.indices_nonzero(pc.invert(good))).table()
            rows = rows.filter(good)
        if GONE in rows.column_names:
            session.seen.deleted += pc.sum(rows.column(GONE)).as_py() or 0
            rows = rows.filter(pc.invert(rows.column(GONE)))
        session.seen.read += item.num_rows
        session.seen.landed += rows.num_rows
        yield _Mapped(session.numbered(rows), refused)


@dataclass
class _Open:
    """The files that are being written."""

    session: Session
    prefix: str
    data: DataFile | None = None
    refused: DataFile | None = None
    files: list[Part] = field(default_factory=list)
    pieces: dict[str, int] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)
    since: float = field(default_factory=time.monotonic)

    def write(self, mapped: _Mapped) -> None:
        """Write one batch."""
        if self.data is not None and self.data.rows >= ROWS_PER_FILE:
            self.files.append(self.data.close())
            self.data = None
        if mapped.rows.num_rows:
            self.data = self.data or DataFile(self._path(""), self.session.schema, mapped.rows)
            self.data.write(mapped.rows)
        if mapped.refused is not None:
            self.refused = self.refused or DataFile(self._path("refused-"), SCHEMA, mapped.refused)
            self.refused.write(mapped.refused)

    def ended(self, end: _End) -> bool:
        """Count a piece that is whole; says whether it is time to close the files."""
        self.pieces[end.piece] = end.seen.scanned
        self.seen.add(end.seen)
        return self.seen.scanned >= CHAPTER_ROWS or time.monotonic() - self.since >= CHAPTER_SECONDS

    def chapter(self) -> Chapter:
        """Close the files."""
        files = [*self.files, *([self.data.close()] if self.data else [])]
        refused = [self.refused.close().path.name] if self.refused else []
        return Chapter({part.path.name: part.rows for part in files}, refused, self.pieces, self.seen)

    def _path(self, kind: str) -> Path:
        return self.session.lake.path / f"{self.prefix}{kind}{uuid.uuid4().hex}.parquet"
