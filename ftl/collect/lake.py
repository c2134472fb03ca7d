"""One Delta table of a node's lake: every commit carries its rows *and* its marks in a single transaction.

A mark is a named 63-bit number kept as a Delta *app transaction* (Delta protocol, "Transaction Identifiers"): which
sync wrote last, how far it read, from which state of the source. Because it is committed with the rows, a crash can
lose or repeat neither. A commit whose base version is no longer the newest is refused, never rebased.

A merge writes only the rows that are new: those that it replaces or removes are named in deletion vectors, and their
files stay as they are. See :mod:`ftl.collect.vectors`.
"""

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ftl.collect.commit import Action, add, commit, descriptors, metadata, remove
from ftl.collect.compaction import worn
from ftl.collect.derive import sandbox
from ftl.collect.described import PROPERTY, grown, json_of, plain_schema
from ftl.collect.disk import disk_full, disk_is_full
from ftl.collect.parts import SYNC, Part, alive_rows, create_view, duplicates, locate, outdated, parts_of, read
from ftl.collect.unfinished import Unfinished
from ftl.collect.vacuum import oldest_version, vacuum, written_at
from ftl.collect.vectors import Descriptor, write_vectors
from ftl.collect.writing import write_parts
from ftl.consortium.landing import Keep
from ftl.errors import LakeConflict, LakeError

__all__ = ["SYNC", "Lake", "duplicates"]

_LINKED = re.compile(r"^adopt-[0-9]{12}-")
NOTHING_ELSE: Mapping[str, str] = {}

log = logging.getLogger(__name__)


class Lake:
    """A Delta table, which need not exist yet.

    Args:
        path: its folder.
        version: read this version instead of the newest one.
        at: read the version that was the newest at this moment, instead.
    """

    def __init__(self, path: Path, version: int | None = None, at: datetime | None = None) -> None:
        self.path = path
        self._pinned = version
        self._at = at

    @property
    def version(self) -> int | None:
        """Newest (or pinned) Delta version; None where there is no table."""
        table = self._table()
        return None if table is None else table.version()

    @property
    def oldest(self) -> int:
        """The oldest Delta version that can still be read."""
        return oldest_version(self.path)

    def marks(self, *names: str) -> tuple[int | None, ...]:
        """Values of the marks, all of one version; None for one that was never set."""
        table = self._table()
        return tuple(None if table is None else table.transaction_version(f"ftl.{name}") for name in names)

    def property_of(self, name: str) -> str | None:
        """A text that a full sync kept with the table; None where there is none."""
        table = self._table()
        return None if table is None else table.metadata().configuration.get(f"{PROPERTY}{name}")

    def schema(self) -> pa.Schema | None:
        """The table's columns; None where there is no table."""
        table = self._table()
        return None if table is None else plain_schema(table)

    def count(self) -> int:
        """Number of rows; 0 where there is no table."""
        return sum(part.alive for part in self.parts())

    def parts(self) -> list[Part]:
        """The data files; none where there is no table."""
        table = self._table()
        with self._translated("read"):
            return [] if table is None else parts_of(self.path, table)

    def read(self, columns: Sequence[str] | None = None, since: int | None = None) -> pa.Table:
        """Rows that were written by syncs after number `since` (all when None), at one version.

        Raises:
            LakeError: there is no such table or version.
        """
        table = self._require()
        with self._translated("read"):
            schema = plain_schema(table)
            return read(parts_of(self.path, table), schema, schema.names if columns is None else columns, since)

    def create_view(self, connection: duckdb.DuckDBPyConnection, view: str, prefix: str) -> None:
        """Make the table a view of DuckDB, which reads only what a query needs of it.

        Args:
            connection: may read the table's files (see :meth:`parts`).
            view: its name, quoted as needed.
            prefix: of helping tables' names, free of quotes.

        Raises:
            LakeError: there is no such table or version.
        """
        table = self._require()
        with self._translated("read"):
            create_view(connection, view, parts_of(self.path, table), plain_schema(table), prefix)

    def replace(
        self,
        batches: Iterable[pa.RecordBatch | pa.Table],
        schema: pa.Schema,
        marks: Callable[[], Mapping[str, int]],
        properties: Mapping[str, str] = NOTHING_ELSE,
    ) -> int:
        """Make `batches` the table's whole content; readers see the old one until the commit.

        Args:
            batches: streamed; never all in memory.
            schema: of every batch.
            marks: asked once all batches are written, so that it can say what was seen in them.
            properties: texts to keep with the table; see :meth:`property_of`.

        Returns:
            the new Delta version.

        Raises:
            LakeConflict: somebody else committed meanwhile.
        """
        return self.rewrite(
            lambda prefix: list(write_parts(self.path, prefix, batches, schema)), schema, marks, properties
        )

    def rewrite(
        self,
        write: Callable[[str], list[Part]],
        schema: pa.Schema,
        marks: Callable[[], Mapping[str, int]],
        properties: Mapping[str, str] = NOTHING_ELSE,
        newest: tuple[Sequence[str], str | None] | None = None,
        unfinished: Unfinished | None = None,
    ) -> int:
        """Make the files that `write` gives the table's whole content; see :meth:`replace`.

        Args:
            write: writes files into the table's folder, named after the prefix that it is given, and says which.
            schema: of every file.
            marks: as for :meth:`replace`.
            properties: as for :meth:`replace`.
            newest: (key columns, cursor): of rows with the same key only the one with the greatest cursor is kept, of
                equals the last.
            unfinished: files that stay when this fails, unless the disk is full.

        Returns:
            the new Delta version.
        """
        table = self._table() or self._create(schema)
        prefix = f"rewrite-{table.version():012d}-"
        with self._swept(table, prefix, unfinished):
            with self._translated("write"):
                parts = write(prefix)
            if newest is not None:
                with sandbox([part.path for part in parts]) as connection:
                    parts = outdated(connection, parts, *newest)
            return self._become(table, parts, schema, "OVERWRITE", marks(), properties)

    def made(self, schema: pa.Schema) -> int:
        """The newest version; of a table that was not there, made empty with these columns."""
        version: int = (self._table() or self._create(schema)).version()
        return version

    def merge(
        self,
        rows: pa.Table,
        key: Sequence[str],
        removed: pa.Table,
        marks: Mapping[str, int],
        properties: Mapping[str, str] = NOTHING_ELSE,
    ) -> int:
        """Insert or update `rows` by key and delete the keys in `removed`, in one commit.

        Args:
            rows: at most one per key; columns as in the table, or more.
            key: columns that identify a row, without nulls.
            removed: key columns.
            marks: committed with the rows.
            properties: texts to keep with the table.

        Returns:
            the new Delta version.

        Raises:
            LakeConflict: somebody else committed meanwhile.
        """
        table = self._require()
        parts = parts_of(self.path, table)
        prefix = f"merge-{table.version():012d}-"
        with self._swept(table, prefix), self._translated("merge into"):
            added = [add(part, {}) for part in write_parts(self.path, prefix, _filled(rows), rows.schema)]
            sought = pa.concat_tables([rows.select(list(key)), removed.select(list(key))])
            with sandbox([part.path for part in parts]) as connection:
                gone = locate(connection, parts, sought)
            changes = self._without(parts, gone, descriptors(self.path, table.version()))
            described = grown(table, rows.schema, properties)
            commit(self.path, table, "MERGE", [*described, *changes, *added], marks)
        self.compact()
        return self._committed()

    def adopt(self, other: "Lake", parts: Sequence[Part], marks: Mapping[str, int]) -> int:
        """Make rows of another table this table's whole content, without writing any of them.

        The files are linked, so that both tables own them; deleting either table leaves the other whole. A file that is
        here already is not touched, so the commit names what is new only.

        Args:
            other: on the same file system.
            parts: its files, with the rows to leave out among the dead ones.
            marks: committed with the rows.

        Returns:
            the new Delta version.

        Raises:
            LakeConflict: somebody else committed meanwhile.
        """
        schema = other.schema() or pa.schema([])
        table = self._table() or self._create(schema)
        prefix = _adopting(table.version())
        with self._swept(table, prefix), self._translated("adopt rows into"):
            here = {adopted(part.path): part for part in parts_of(self.path, table)}
            wanted = {part.path.name: part for part in parts}
            linked = [self._linked(part, here.get(name), prefix) for name, part in wanted.items()]
            left = [part for name, part in here.items() if name not in wanted]
            changes = self._replaced(linked, {part.path: part for part in here.values()}, left, table.version())
            described = [] if plain_schema(table) == schema else [metadata(table, json_of(schema), {})]
            commit(self.path, table, "ADOPT", [*described, *changes], marks)
        return self._committed()

    def compact(self) -> None:
        """Write worn files anew (see :func:`ftl.collect.compaction.worn`); every row stays as it is.

        Raises:
            LakeConflict: somebody else committed meanwhile.
        """
        table = self._table()
        parts = [] if table is None else worn(parts_of(self.path, table))
        if not parts:
            return
        schema, prefix = plain_schema(table), f"compact-{table.version():012d}-"
        with self._swept(table, prefix), self._translated("compact"):
            rows = (rows for part in parts for rows in alive_rows(part, schema))
            added = [add(part, {}, changes=False) for part in write_parts(self.path, prefix, rows, schema)]
            known = descriptors(self.path, table.version())
            removed = [remove(part.path, known, changes=False) for part in parts]
            commit(self.path, table, "OPTIMIZE", [*removed, *added], {})

    def vacuum(self, keep: Keep, now: datetime, needed: int | None = None) -> int:
        """Remove what only versions need that are no longer to be kept; see :func:`ftl.collect.vacuum.vacuum`."""
        with self._translated("remove old files of"):
            return vacuum(self.path, keep, now, needed) if (self.path / "_delta_log").is_dir() else 0

    def append(self, rows: pa.Table) -> None:
        """Add rows, creating the table."""
        from deltalake import write_deltalake

        with self._translated("append to"):
            write_deltalake(str(self.path), rows, mode="append")

    def delete(self, predicate: str) -> None:
        """Delete rows by SQL predicate; nothing happens where there is no table."""
        table = self._table()
        if table is not None:
            with self._translated("delete from"):
                table.delete(predicate)

    def _table(self) -> Any:
        from deltalake import DeltaTable

        if not (self.path / "_delta_log").is_dir():
            return None
        with self._translated("open"):
            if not DeltaTable.is_deltatable(str(self.path)):
                return None
            self._require_kept(self._pinned)
            table = DeltaTable(str(self.path), version=self._pinned)
            if self._at is not None:
                table.load_as_version(self._at)
                # Where the log no longer says what was there then, delta-rs takes its first version.
                then = table.version()
                self._require_kept(then - 1 if self._at.timestamp() < written_at(self.path, then) else then)
            return table

    def _require_kept(self, version: int | None) -> None:
        if version is not None and 0 <= version < self.oldest:
            raise LakeError(
                f"Version {version} of the table {self.path} is no longer kept; the oldest is {self.oldest}.",
                cure="Ask for a later one. The table's setting `keep` says how long its versions stay.",
            )

    def _require(self) -> Any:
        table = self._table()
        if table is None:
            raise LakeError(f"There is no Delta table at {self.path}.", cure="Collect the table first.")
        return table

    def _create(self, schema: pa.Schema) -> Any:
        from deltalake import DeltaTable, Schema

        with self._translated("create"):
            return DeltaTable.create(str(self.path), Schema.from_arrow(schema))

    def _become(
        self,
        table: Any,
        parts: Sequence[Part],
        schema: pa.Schema,
        operation: str,
        marks: Mapping[str, int],
        properties: Mapping[str, str],
    ) -> int:
        """Commit that the table consists of these files and nothing else."""
        with self._translated("commit"):
            named = {f"{PROPERTY}{name}": value for name, value in properties.items()}
            known = descriptors(self.path, table.version())
            removed = [remove(part.path, known) for part in parts_of(self.path, table)]
            vectors = write_vectors(self.path, {part.path.name: part.dead for part in parts if len(part.dead)})
            added = [add(part, vectors) for part in parts if part.alive]
            described = metadata(table, json_of(schema), named)
            commit(self.path, table, operation, [described, *removed, *added], marks)
        return self._committed()

    def _linked(self, part: Part, here: Part | None, prefix: str) -> Part:
        """The part as a file of this table."""
        if here is not None:
            return Part(here.path, part.rows, part.dead)
        path = self.path / f"{prefix}{part.path.name}"
        os.link(part.path, path)
        return Part(path, part.rows, part.dead)

    def _replaced(
        self, parts: Sequence[Part], known: Mapping[Path, Part], left: Sequence[Part], version: int
    ) -> Iterator[Action]:
        """What makes the table consist of `parts`: nothing for a file whose dead rows are the same as before."""
        fresh = [p for p in parts if p.path not in known or not np.array_equal(p.dead, known[p.path].dead)]
        named = descriptors(self.path, version)
        vectors = write_vectors(self.path, {part.path.name: part.dead for part in fresh if len(part.dead)})
        for part in left:
            yield remove(part.path, named)
        for part in fresh:
            if part.path in known:
                yield remove(part.path, named)
            yield add(part, vectors)

    @contextmanager
    def _swept(self, table: Any, prefix: str, unfinished: Unfinished | None = None) -> Iterator[None]:
        """Remove what an attempt that was killed has left, and, if this one fails, what it has written.

        What is noted as unfinished stays; only a full disk makes it go.
        """
        self._sweep(table, prefix, unfinished)
        try:
            yield
        except BaseException as exc:
            if unfinished is not None and disk_is_full(exc):
                unfinished.forget()
            # The commit may have succeeded, and what came after it not.
            self._sweep(self._require(), prefix, unfinished)
            raise

    def _sweep(self, table: Any, prefix: str, unfinished: Unfinished | None) -> None:
        """Remove files of this prefix that the newest version does not name. No commit can name them any more.

        Only safe because the caller holds :func:`ftl.collect.lock.exclusive`.
        """
        known = {Path(uri).name for uri in table.file_uris()} | (set() if unfinished is None else unfinished.names)
        for path in self.path.glob(f"{prefix}*.parquet"):
            if path.name not in known:
                path.unlink()

    def _without(
        self, parts: Sequence[Part], gone: Mapping[Path, NDArray[np.int64]], known: Mapping[str, Descriptor]
    ) -> Iterator[Action]:
        """What takes rows out of the table: `remove` for each touched file, and `add` with its new vector."""
        left = [
            Part(part.path, part.rows, np.union1d(part.dead, gone[part.path])) for part in parts if part.path in gone
        ]
        vectors = write_vectors(self.path, {part.path.name: part.dead for part in left if part.alive})
        for part in left:
            yield remove(part.path, known)
            if part.alive:
                yield add(part, vectors)

    def _committed(self) -> int:
        version: int = self._require().version()
        log.info("lake.committed", extra={"table": self.path.name, "version": version})
        return version

    @contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        from deltalake.exceptions import CommitFailedError, DeltaError

        try:
            yield
        except CommitFailedError as exc:
            raise LakeConflict(
                f"Another process committed to {self.path} first.", cure="Try again: nothing of this attempt was kept."
            ) from exc
        except (DeltaError, OSError, pa.ArrowException) as exc:
            if disk_is_full(exc):
                raise disk_full(f"{action} the Delta table", self.path) from exc
            raise LakeError(
                f"Cannot {action} the Delta table {self.path}: {type(exc).__name__}: {_first_line(exc)}",
                cure="Look for a full disk, missing rights or a damaged _delta_log.",
            ) from exc


def adopted(path: Path) -> str:
    """Name of the file of the other table that this one was linked to; its own where it was not linked."""
    return _LINKED.sub("", path.name)


def _adopting(version: int) -> str:
    return f"adopt-{version:012d}-"


def _filled(rows: pa.Table) -> list[pa.Table]:
    return [rows] if rows.num_rows else []


def _first_line(exc: Exception) -> str:
    return str(exc).strip().splitlines()[0] if str(exc).strip() else ""
