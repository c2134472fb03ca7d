"""One Delta table of a node's lake: every commit carries its rows *and* its marks in a single transaction.

A mark is a named 63-bit number kept as a Delta *app transaction* (Delta protocol, "Transaction Identifiers"): which
sync wrote last, how far it read, from which state of the source. Because it is committed with the rows, a crash can
lose or repeat neither. A commit whose base version is no longer the newest is refused, never rebased.
"""

import json
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from ftl.errors import LakeConflict, LakeError

SYNC = "_sync"
"""Lake column: number of the sync that wrote the row."""

_ROWS_PER_FILE = 2_000_000
_FILES_BEFORE_COMPACTION = 32

log = logging.getLogger(__name__)


class Lake:
    """A Delta table, which need not exist yet.

    Args:
        path: its folder.
        version: read this version instead of the newest one.
    """

    def __init__(self, path: Path, version: int | None = None) -> None:
        self.path = path
        self._pinned = version

    @property
    def version(self) -> int | None:
        """Newest (or pinned) Delta version; None where there is no table."""
        table = self._table()
        return None if table is None else table.version()

    def marks(self, *names: str) -> tuple[int | None, ...]:
        """Values of the marks, all of one version; None for one that was never set."""
        table = self._table()
        return tuple(None if table is None else table.transaction_version(f"ftl.{name}") for name in names)

    def schema(self) -> pa.Schema | None:
        """The table's columns; None where there is no table."""
        table = self._table()
        return None if table is None else _plain_schema(table)

    def count(self) -> int:
        """Number of rows; 0 where there is no table."""
        table = self._table()
        return 0 if table is None else int(table.count())

    def read(
        self, columns: Sequence[str] | None = None, since: int | None = None, condition: ds.Expression | None = None
    ) -> pa.Table:
        """Rows that were written by syncs after number `since` (all when None), at one version.

        Raises:
            LakeError: there is no such table or version.
        """
        table = self._require()
        if since is not None:
            later = ds.field(SYNC) > since
            condition = later if condition is None else condition & later
        with self._translated("read"):
            schema = _plain_schema(table)
            wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
            return table.to_pyarrow_dataset().to_table(columns=wanted.names, filter=condition).cast(wanted)

    def dataset(self) -> ds.Dataset:
        """The table at one version, to be scanned without holding it in memory.

        Raises:
            LakeError: there is no such table or version.
        """
        table = self._require()
        with self._translated("read"):
            return table.to_pyarrow_dataset()

    def replace(
        self, batches: Iterable[pa.RecordBatch | pa.Table], schema: pa.Schema, marks: Callable[[], Mapping[str, int]]
    ) -> int:
        """Make `batches` the table's whole content; readers see the old one until the commit.

        Args:
            batches: streamed; never all in memory.
            schema: of every batch.
            marks: asked once all batches are written, so that it can say what was seen in them.

        Returns:
            the new Delta version.

        Raises:
            LakeConflict: somebody else committed meanwhile.
        """
        from deltalake import Schema

        table = self._table() or self._create(schema)
        prefix = f"rewrite-{table.version():012d}-"
        self._sweep(table, prefix)
        actions = list(self._write(batches, schema, prefix))
        properties = _properties(marks())
        with self._translated("commit"):
            table.create_write_transaction(
                actions, "overwrite", Schema.from_arrow(schema), [], commit_properties=properties
            )
        return self._committed()

    def merge(self, rows: pa.Table, key: Sequence[str], removed: pa.Table, marks: Mapping[str, int]) -> int:
        """Insert or update `rows` by key and delete the keys in `removed`, in one commit.

        Args:
            rows: at most one per key; columns as in the table.
            key: columns that identify a row, without nulls.
            removed: key columns.
            marks: committed with the rows.

        Returns:
            the new Delta version.

        Raises:
            LakeConflict: somebody else committed meanwhile.
        """
        table = self._require()
        source = _merge_source(rows, removed, key)
        values = {_quoted(name): f"s.{_quoted(name)}" for name in rows.column_names}
        condition = " AND ".join(f"t.{_quoted(name)} = s.{_quoted(name)}" for name in key)
        with self._translated("commit"):
            merger = table.merge(
                source, condition, source_alias="s", target_alias="t", commit_properties=_properties(marks)
            )
            merger = merger.when_matched_delete("s._removed").when_matched_update(values)
            merger.when_not_matched_insert(values, predicate="NOT s._removed").execute()
        self._compact()
        return self._committed()

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
            return (
                DeltaTable(str(self.path), version=self._pinned) if DeltaTable.is_deltatable(str(self.path)) else None
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

    def _write(self, batches: Iterable[pa.RecordBatch | pa.Table], schema: pa.Schema, prefix: str) -> Iterator[Any]:
        writer = None
        for batch in batches:
            if writer is None or writer.rows >= _ROWS_PER_FILE:
                if writer is not None:
                    yield self._closed(writer)
                writer = _File(self.path / f"{prefix}{uuid.uuid4().hex}.parquet", schema)
            with self._translated("write"):
                writer.write(batch)
        if writer is not None:
            yield self._closed(writer)

    def _closed(self, writer: "_File") -> Any:
        with self._translated("write"):
            return writer.close()

    def _sweep(self, table: Any, prefix: str) -> None:
        """Remove what a killed `replace` of this very version left. No commit can name these files any more.

        Only safe because the caller holds :func:`ftl.collect.lock.exclusive`.
        """
        known = {Path(uri).name for uri in table.file_uris()}
        for path in self.path.glob(f"{prefix}*.parquet"):
            if path.name not in known:
                path.unlink()

    def _compact(self) -> None:
        table = self._require()
        if len(table.file_uris()) > _FILES_BEFORE_COMPACTION:
            with self._translated("compact"):
                table.optimize.compact()

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
            raise LakeError(
                f"Cannot {action} the Delta table {self.path}: {type(exc).__name__}: {_first_line(exc)}",
                cure="Look for a full disk, missing rights or a damaged _delta_log.",
            ) from exc


class _File:
    """One Parquet file being written, not yet part of the table."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._writer = pq.ParquetWriter(path, schema, compression="snappy")
        self.rows = 0

    def write(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Add the rows of one batch."""
        self._writer.write(batch)
        self.rows += batch.num_rows

    def close(self) -> Any:
        """Finish the file and describe it to Delta."""
        from deltalake.transaction import AddAction

        self._writer.close()
        stat = self._path.stat()
        statistics = json.dumps({"numRecords": self.rows})
        return AddAction(self._path.name, stat.st_size, {}, stat.st_mtime_ns // 1_000_000, True, statistics)


def _merge_source(rows: pa.Table, removed: pa.Table, key: Sequence[str]) -> pa.Table:
    kept = rows.append_column("_removed", pa.repeat(pa.scalar(value=False), rows.num_rows))
    gone = removed.select(list(key)).append_column("_removed", pa.repeat(pa.scalar(value=True), removed.num_rows))
    return pa.concat_tables([kept, gone], promote_options="default")


def _properties(marks: Mapping[str, int]) -> Any:
    from deltalake import CommitProperties, Transaction

    transactions = [Transaction(f"ftl.{name}", value) for name, value in marks.items()]
    return CommitProperties(app_transactions=transactions, max_commit_retries=0)


def _plain_schema(table: Any) -> pa.Schema:
    """The Delta schema with pyarrow's plain types; the reader may otherwise hand out string views."""
    found = pa.schema(table.schema().to_arrow())
    return pa.schema([pa.field(f.name, pa.string() if pa.types.is_string_view(f.type) else f.type) for f in found])


def duplicates(rows: pa.Table, key: Sequence[str]) -> int:
    """How many keys appear more than once; rows with a null in the key do not count."""
    complete = rows.select(list(key)).drop_null()
    counts = complete.group_by(list(key)).aggregate([([], "count_all")])
    return int(pc.sum(pc.greater(counts.column("count_all"), 1).cast(pa.int64())).as_py() or 0)


def _quoted(name: str) -> str:
    return f"`{name}`"


def _first_line(exc: Exception) -> str:
    return str(exc).strip().splitlines()[0] if str(exc).strip() else ""
