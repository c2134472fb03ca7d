"""Watched folders: tables of files are kept as new as the files are.

A file counts once its size and time have stood still between two looks, so that one that is still being written is
left alone. Every sync is an ordinary incremental one, with the files' marks in its commit: stop and start the watch, or
kill it, and no file is lost or landed twice.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from ftl.collect.files import FileReader
from ftl.collect.refused import Clock
from ftl.collect.report import SyncProgress, SyncReport
from ftl.collect.source import open_source
from ftl.collect.sync import FILE_KINDS, collect
from ftl.consortium import Node
from ftl.errors import FtlError, SourceUnavailable

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks at a folder."""


def watchable(node: Node) -> list[str]:
    """Lake names of the party's tables whose sources are files."""
    return [name for name, table in node.party.tables.items() if node.party.sources[table.source].kind in FILE_KINDS]


def watch(
    node: Node,
    tables: Sequence[str],
    clock: Clock,
    stop: threading.Event,
    on_progress: Callable[[SyncProgress], None] | None = None,
    look_seconds: float = LOOK_SECONDS,
) -> list[SyncReport]:
    """Sync each table whenever its files have changed, until stopped; the sync under way is finished.

    A file that cannot be read is logged as ``collect.watch.failed`` and tried again when it, or another of its table,
    changes; the table stays as it was.

    Args:
        node: the party's node.
        tables: lake names of tables whose sources are files.
        clock: gives the present moment in UTC.
        stop: ends the watch.
        on_progress: told of every step of every sync.
        look_seconds: between two looks.

    Returns:
        the last sync of each table that had one.

    Raises:
        SourceError: a source's settings are wrong.
        MappingError: a mapping is wrong as a whole.
    """
    watched = [_Watched(node, table) for table in tables]
    while not stop.is_set():
        for one in watched:
            one.look(clock, on_progress)
        stop.wait(look_seconds)
    return [one.report for one in watched if one.report is not None]


class _Watched:
    """One table and what its files were like."""

    def __init__(self, node: Node, table: str) -> None:
        self.node, self.table = node, table
        reader = open_source(node, node.party.tables[table].source)
        assert isinstance(reader, FileReader)  # noqa: S101 - `watchable` names no others
        self.reader = reader
        self.report: SyncReport | None = None
        self._before: dict[str, str] = {}
        self._tried: dict[str, str] = {}

    def look(self, clock: Clock, on_progress: Callable[[SyncProgress], None] | None) -> None:
        """Sync if there is news that stands still."""
        try:
            found = self.reader.present(self.node.party.tables[self.table].table)
        except SourceUnavailable as exc:
            log.warning("collect.watch.waiting", extra={"table": self.table, "error": str(exc)})
            return
        settled, self._before = found == self._before, found
        if not found or not settled or found == self._tried:
            return
        self._tried = found
        try:
            self.report = collect(self.node, self.table, "incremental", clock, on_progress)
        except FtlError as exc:
            log.error("collect.watch.failed", extra={"table": self.table, "error": str(exc)})  # noqa: TRY400 - told, not a crash
            if exc.transient:
                self._tried = {}
