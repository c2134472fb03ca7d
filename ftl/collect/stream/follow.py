"""Follows the change streams of a party's tables into its lake, exactly once.

A batch of changes and the position after it are one Delta commit, so a killed stream goes on from the last commit:
nothing is lost, nothing repeated. The source is told what has landed only afterwards. One batch is read, mapped and
committed before the next one is read; a slow lake therefore slows the reading down, and memory stays flat.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ftl.collect.history import keep_history
from ftl.collect.lake import SYNC, Lake
from ftl.collect.leaving import Leaving
from ftl.collect.lock import exclusive
from ftl.collect.mapping import Mapping, records
from ftl.collect.online import OnlineStore
from ftl.collect.refused import Clock, Refusal, Refused, joined_key
from ftl.collect.source import Snapshot
from ftl.collect.stream.change import Broken, Feed, Pace, Slice
from ftl.collect.stream.effect import Effect, net_effect
from ftl.collect.stream.feeds import open_feed
from ftl.collect.stream.status import State, StreamStatus, write_status
from ftl.collect.tidying import tidy
from ftl.collect.watermark import NOTHING, newest
from ftl.consortium import Node
from ftl.errors import FtlError, LakeConflict, SourceError, SourceUnavailable

log = logging.getLogger(__name__)

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 15.0
"""Seconds between attempts to reach an absent source."""
_STATUS_SECONDS = 2.0
_WRITING_SECONDS = 3600.0
"""Longest wait for a full sync or a check of the same table to be done; then the stream ends and names it."""
_POSITION_SECONDS = _TIDY_SECONDS = 900.0
_COLUMNS = "followed"
"""Property of the landed table: the source's columns as the stream has accepted them last."""

Progress = Callable[[StreamStatus], None]


def follow(
    node: Node,
    tables: Sequence[str],
    clock: Clock,
    stop: threading.Event,
    on_progress: Progress | None = None,
    pace: Pace | None = None,
) -> list[StreamStatus]:
    """Follow the tables until told to stop, each in a thread of its own; the batch under way is finished.

    Args:
        node: the party's node.
        tables: lake names.
        clock: gives the present moment in UTC.
        stop: set by somebody else when it is enough.
        on_progress: told of every batch, from any thread.
        pace: how large batches grow; the default suits most.

    Returns:
        the last status of each table.

    Raises:
        SourceError: the source is not set up for a stream, no longer has what came after the last batch, lost a
            mapped column, or was absent for too long.
        MappingError: the mapping is wrong, or a value cannot be cast under the policy `stop`.
        LakeConflict: another stream of one of the tables runs.
    """
    followers = [
        _Follower(node, table, clock, stop, on_progress or (lambda _: None), pace or Pace()) for table in tables
    ]
    with ThreadPoolExecutor(max_workers=max(len(followers), 1), thread_name_prefix="stream") as pool:
        running = [pool.submit(follower.run) for follower in followers]
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        while len(done) < len(running) and not any(one.exception() for one in done):
            done, _ = wait(running, timeout=1.0)
        if any(one.exception() for one in done):
            stop.set()
    return [one.result() for one in running]


class _OvertakenError(Exception):
    """Another process has written the table; the stream goes on from what it finds now."""


@dataclass
class _Counts:
    rows: int = 0
    landed: int = 0
    removed: int = 0
    refused: int = 0
    batches: int = 0
    bytes: int = 0


class _Follower:
    """One table's stream."""

    def __init__(self, node: Node, table: str, clock: Clock, stop: threading.Event, tell: Progress, pace: Pace) -> None:
        self.node, self.table, self.clock, self.stop, self.tell, self.pace = node, table, clock, stop, tell, pace
        self._doing = f"stream {node.name}.{table}"
        self.mapping = Mapping(node, table)
        self.leaving = Leaving(self.mapping)
        self.lake = Lake(node.landed(table))
        self.refused = Refused(node.quarantine(table))
        self.feed: Feed = open_feed(node, self.mapping, table, pace)
        self.online = OnlineStore.of(node, table, self.mapping)
        self.schema = self.mapping.schema.append(pa.field(SYNC, pa.int64()))
        self.counts = _Counts()
        self.began = self.kept = self.tended = self.clock()
        self.status = self._status("loading")

    def run(self) -> StreamStatus:
        """Follow until stopped."""
        try:
            with exclusive(self.node.home / "streams" / self.table, self._doing, patience=0):
                try:
                    self._ride_out()
                finally:
                    self.feed.close()
                    with self._writing(going_on=False):
                        self._note()
                    self.online.close()
        except LakeConflict:
            raise
        except FtlError as exc:
            self._show("failed", error=str(exc))
            raise
        self._show("stopped")
        return self.status

    def _ride_out(self) -> None:
        """Start again when the source comes back; give up when it does not."""
        waiting, absent_since = _FIRST_WAIT, self.clock()
        while not self.stop.is_set():
            before = self.counts.rows
            try:
                position = self._connect()
                self.feed.resume(position)
                self._stream()
            except _OvertakenError:
                log.info("collect.stream.overtaken", extra={"table": self.table})
            except SourceUnavailable as exc:
                now = self.clock()
                if self.counts.rows > before or self.status.state == "streaming":
                    waiting, absent_since = _FIRST_WAIT, now
                if (now - absent_since).total_seconds() > self.pace.patience:
                    raise
                log.warning("collect.stream.waiting", extra={"table": self.table, "error": str(exc)})
                self._show("waiting", error=str(exc))
                self.stop.wait(waiting)
                waiting = min(2 * waiting, _LONGEST_WAIT)

    @contextmanager
    def _writing(self, *, going_on: bool = True) -> Iterator[None]:
        """Hold the table for one commit; checks and batch syncs get their turn between two.

        Raises:
            _OvertakenError: somebody else's commit has come in between.
        """
        with exclusive(self.node.landed(self.table), self._doing, patience=_WRITING_SECONDS):
            if going_on and self.lake.marks("sync", "full") != (self.number, self.full):
                raise _OvertakenError
            yield

    def _connect(self) -> dict[str, int]:
        """The position after the last commit, or, once that has been read, the one that the whole table was read at."""
        with self._writing(going_on=False):
            return self._position()

    def _position(self) -> dict[str, int]:
        names = self.feed.mark_names()
        marks = self.lake.marks("sync", "full", "stream", "mapping", "watermark", *names)
        self.number, self.full = marks[0] or 0, marks[1] or 0
        self.watermark = NOTHING if marks[4] is None else marks[4]
        position = {name: mark for name, mark in zip(names, marks[5:], strict=True) if mark is not None}
        self.refused.discard(("collect",), after=self.number)
        self._accept(json.loads(self.lake.property_of(_COLUMNS) or "null"))
        if marks[2] != self.full or self.full == 0 or marks[3] != self.mapping.fingerprint:
            position = self._load()
        self.online.refresh(self.lake)
        return position

    def _load(self) -> dict[str, int]:
        """Replace the table by the source's whole one, as of the stream's first position."""
        self._show("loading")
        number = self.number + 1
        with self.feed.begin() as start:
            seen = NOTHING

            def batches() -> Iterator[pa.Table]:
                nonlocal seen
                for effect in self._mapped(start.snapshot):
                    self._refuse(effect, (), number)
                    seen = max(seen, self._newest(effect))
                    yield self._numbered(effect.rows, number)

            position = dict(start.marks)
            marks = lambda: self._marks(number, number, seen) | position  # noqa: E731 - asked at the end
            self.lake.replace(batches(), self.schema, marks, {_COLUMNS: "null"})
        self._accept(None)
        self.number, self.full, self.watermark = number, number, seen
        return position

    def _accept(self, columns: dict[str, str] | None) -> None:
        """Compare the source's columns with these from now on."""
        if self.feed.terms is not None:
            self.feed.terms.known = columns

    def _mapped(self, snapshot: Snapshot) -> Iterator[Effect]:
        rows = 0
        for batch in snapshot.batches:
            mapped = self.mapping.apply(batch)
            good = pc.is_null(mapped.reasons)
            bad = pc.indices_nonzero(pc.invert(good)).to_numpy().astype("int64")
            good = pc.and_(good, pa.array(~self.leaving.rows(mapped.rows)))
            rows += batch.num_rows
            yield Effect(mapped.rows.filter(good), self.schema.empty_table(), [(mapped, bad)] if len(bad) else [])
        if snapshot.rows is not None and snapshot.rows != rows:
            raise SourceError(
                f"{self.mapping.label}: the source counted {snapshot.rows} rows but gave {rows}; nothing was landed.",
                cure="Start the stream again.",
            )

    def _stream(self) -> None:
        shown = self.clock()
        self._show("streaming")
        while not self.stop.is_set():
            piece = self.feed.take(self.pace)
            if piece.events:
                with self._writing():
                    self._land(piece)
                    self._tend()
                self._landed(piece)
            elif (self.clock() - shown).total_seconds() >= _STATUS_SECONDS:
                shown = self.clock()
                with self._writing():
                    self._keep(piece)
                    self._tend()
                self._show("streaming", lag=0.0, behind=piece.behind)
            if piece.anew:
                with self._writing():
                    position = self._load()
                    self.online.refresh(self.lake)
                self.feed.resume(position)

    def _land(self, piece: Slice) -> None:
        effect = net_effect(self.mapping, self.leaving, piece.changes)
        number = self.number + 1
        self._refuse(effect, piece.broken, number)
        if not effect.empty or piece.broken:
            seen = max(self.watermark, self._newest(effect))
            marks = self._marks(number, self.full, seen) | dict(piece.marks)
            rows = self._numbered(effect.rows, number)
            columns = {} if self.feed.terms is None else {_COLUMNS: json.dumps(self.feed.terms.known)}
            self.lake.merge(rows, list(self.mapping.key), effect.removed, marks, columns)
            self.number, self.watermark = number, seen
            self.counts.batches += 1
            self.online.apply(number, effect.rows, effect.removed)
        self.counts.rows += piece.events
        self.counts.landed += effect.rows.num_rows
        self.counts.removed += effect.removed.num_rows

    def _landed(self, piece: Slice) -> None:
        """Tell the source and everybody else."""
        self.feed.landed(piece.marks)
        lag = None if piece.written is None else max((self.clock() - piece.written).total_seconds(), 0.0)
        self._show("streaming", lag=lag, behind=piece.behind)
        log.info("collect.batch", extra={"batch": self._told(piece)})

    def _told(self, piece: Slice) -> dict[str, Any]:
        """What a batch of a sync tells as well, and how late its changes were."""
        self.counts.bytes += sum(changes.rows.nbytes for changes in piece.changes)
        told = {"party": self.node.name, "table": self.table, "step": "streamed", "rows": self.counts.rows, "of": None}
        told |= {"bytes": self.counts.bytes, "seconds": (self.clock() - self.began).total_seconds()}
        return told | {"lag_seconds": self.status.lag_seconds, "behind": self.status.behind}

    def _keep(self, piece: Slice) -> None:
        """Once in a while land a position alone, so that a quiet table's does not grow old in a busy source."""
        now = self.clock()
        if (now - self.kept).total_seconds() >= _POSITION_SECONDS:
            self.kept = now
            number, key = self.number + 1, list(self.mapping.key)
            nothing = self.schema.empty_table()
            marks = self._marks(number, self.full, self.watermark) | dict(piece.marks)
            self.lake.merge(nothing, key, nothing.select(key), marks)
            self.number = number
            self.online.apply(number, nothing, nothing)

    def _tend(self) -> None:
        """Once in a while bring the history up to date, and remove what no version needs any more."""
        now = self.clock()
        if (now - self.tended).total_seconds() >= _TIDY_SECONDS:
            self.tended = now
            self._note()
            tidy(self.node, self.table, now)

    def _note(self) -> None:
        """Take what changed into the table's history, which follows the landed table's versions."""
        if self.mapping.settings.history and self.lake.version is not None:
            keep_history(self.node, self.table)

    def _refuse(self, effect: Effect, broken: Sequence[Broken], number: int) -> None:
        """Prepare refused rows and unreadable events; the coming commit makes them visible."""
        for mapped, places in effect.refused:
            taken = mapped.rows.take(pa.array(places))
            keys, reasons = joined_key(taken, self.mapping.key), mapped.reasons.take(pa.array(places))
            self._quarantine(keys, reasons, records(mapped.raw, pa.array(places)), number)
        if broken:
            reasons = pa.array([event.reason for event in broken], pa.string())
            keys = pa.nulls(len(broken), pa.string())
            self._quarantine(keys, reasons, [self._shown(event) for event in broken], number)

    def _shown(self, event: Broken) -> str:
        """The event as the quarantine keeps it; nobody can tell where in an unreadable one a raw identifier stands."""
        hidden = any(column.pseudonym for column in self.mapping.settings.columns.values())
        return f"withheld: {len(event.raw)} characters" if hidden else event.raw

    def _quarantine(self, keys: pa.Array, reasons: pa.Array, raw: Sequence[str], number: int) -> None:
        batches = pa.repeat(pa.scalar(number, pa.int64()), len(raw))
        self.refused.prepare(Refusal("collect", number, batches, keys, reasons, raw, self.clock()))
        self.counts.refused += len(raw)

    def _marks(self, number: int, full: int, seen: int) -> dict[str, int]:
        own = {"sync": number, "full": full, "source": -1, "mapping": self.mapping.fingerprint, "watermark": seen}
        return own | {"stream": full}

    def _newest(self, effect: Effect) -> int:
        cursor = self.mapping.settings.cursor
        return NOTHING if cursor is None else newest(effect.rows.column(cursor))

    def _numbered(self, rows: pa.Table, number: int) -> pa.Table:
        numbers = pa.repeat(pa.scalar(number, pa.int64()), rows.num_rows)
        return rows.append_column(SYNC, numbers).cast(self.schema)

    def _show(
        self, state: State, lag: float | None = None, behind: int | None = None, error: str | None = None
    ) -> None:
        self.status = self._status(state, lag, behind, error)
        write_status(self.node, self.status)
        self.tell(self.status)

    def _status(
        self, state: State, lag: float | None = None, behind: int | None = None, error: str | None = None
    ) -> StreamStatus:
        counts, at = self.counts, self.clock()
        return StreamStatus(
            party=self.node.name,
            table=self.table,
            state=state,
            rows=counts.rows,
            landed=counts.landed,
            removed=counts.removed,
            refused=counts.refused,
            batches=counts.batches,
            version=self.lake.version,
            lag_seconds=lag,
            behind=behind,
            at=at,
            error=error,
        )
