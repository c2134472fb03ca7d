"""Reads CSV and Parquet files through pyarrow's datasets, streaming."""

import csv
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.dataset as ds

from ftl.collect.source import BATCH_ROWS, Since, Snapshot, nearest, require_columns
from ftl.consortium.model import FileSource
from ftl.errors import SourceError


class FileReader:
    """A folder of CSV or Parquet files; a table names a file or a glob in it.

    CSV cells are read as text, an empty cell as missing: the mapping casts them, so that one damaged cell does not
    stop a file.

    Args:
        label: how messages name this source.
        settings: its part of `consortium.yaml`.
        folder: where the files lie.
    """

    def __init__(self, label: str, settings: FileSource, folder: Path) -> None:
        self.label = label
        self.settings = settings
        self.folder = folder

    def ping(self) -> None:
        """Look whether the folder can be listed."""
        self.tables()

    def tables(self) -> tuple[str, ...]:
        """Names of all files of the folder, relative to it."""
        if not self.folder.is_dir():
            raise SourceError(
                f"{self.label}.path: there is no folder {self.folder}.",
                cure="Correct the path; a relative one starts at the folder of consortium.yaml.",
            )
        return tuple(sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file()))

    def columns(self, table: str) -> dict[str, str]:
        """Column name to Arrow type; every CSV column is `string`."""
        with self._translated(table):
            return {field.name: str(field.type) for field in self._dataset(self._files(table)).schema}

    def position(self, table: str, cursor: str | None) -> str | None:  # noqa: ARG002 - the files say it
        """Name, size and time of every file of the table."""
        stats = [(path.name, path.stat()) for path in self._files(table)]
        return "+".join(f"{name}:{stat.st_size}@{stat.st_mtime_ns}" for name, stat in stats)

    @contextmanager
    def snapshot(self, table: str, columns: Iterable[str], since: Since | None = None) -> Iterator[Snapshot]:
        """Read the files as they are; whoever replaces a file meanwhile must rename a new one into its place."""
        names = list(columns)
        with self._translated(table):
            dataset = self._dataset(self._files(table))
            require_columns(self.label, table, names, dataset.schema.names)
            condition = _condition(dataset.schema, since)
            # Counting a CSV means parsing it; a Parquet file knows.
            rows = dataset.count_rows(filter=condition) if self.settings.kind == "parquet" else None
        yield Snapshot(rows, self._batches(table, dataset, names, condition))

    def _batches(self, table: str, dataset: ds.Dataset, names: list[str], condition: Any) -> Iterator[pa.RecordBatch]:
        with self._translated(table):
            scan = dataset.scanner(
                columns=names, filter=condition, batch_size=BATCH_ROWS, batch_readahead=4, fragment_readahead=1
            )
            yield from (batch for batch in scan.to_batches() if batch.num_rows)

    def _files(self, table: str) -> list[Path]:
        known = self.tables()
        exact = self.folder / table
        files = [exact] if exact.is_file() else sorted(path for path in self.folder.glob(table) if path.is_file())
        if not files:
            raise SourceError(
                f"{self.label}: no file in {self.folder} matches {table!r}.{nearest(table, known)}",
                cure="Correct the table's `table` in consortium.yaml: a file name or a glob such as 'accounts-*.csv'.",
            )
        return files

    def _dataset(self, files: list[Path]) -> ds.Dataset:
        paths = [str(path) for path in files]
        if self.settings.kind == "parquet":
            return ds.dataset(paths, format="parquet")
        schema = pa.schema([(name, pa.string()) for name in self._header(files)])
        return ds.dataset(paths, schema=schema, format=self._csv_format())

    def _csv_format(self) -> ds.CsvFileFormat:
        return ds.CsvFileFormat(
            parse_options=pa_csv.ParseOptions(delimiter=self.settings.delimiter, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(null_values=[""], strings_can_be_null=True),
            read_options=pa_csv.ReadOptions(encoding=self.settings.encoding, block_size=4 << 20),
        )

    def _header(self, files: list[Path]) -> list[str]:
        """The column names, which must be the same in every file of the table."""
        headers = [self._first_line(path) for path in files]
        for path, header in zip(files, headers, strict=True):
            if set(header) != set(headers[0]):
                different = ", ".join(sorted(set(header) ^ set(headers[0])))
                raise SourceError(
                    f"{self.label}: {path.name} and {files[0].name} belong to one table but differ in: {different}.",
                    cure="Give each kind of file its own table.",
                )
        return headers[0]

    def _first_line(self, path: Path) -> list[str]:
        # utf-8-sig also reads files without a byte order mark; pyarrow drops the mark by itself.
        encoding = "utf-8-sig" if self.settings.encoding.lower() in {"utf-8", "utf8"} else self.settings.encoding
        with path.open(encoding=encoding, newline="") as file:
            header = next(csv.reader(file, delimiter=self.settings.delimiter), [])
        if not header or len(set(header)) < len(header):
            what = "is empty" if not header else "names a column twice in its first line"
            raise SourceError(f"{self.label}: {path} {what}.", cure="The first line must name the columns, each once.")
        return header

    @contextmanager
    def _translated(self, table: str) -> Iterator[None]:
        try:
            yield
        except (UnicodeDecodeError, LookupError) as exc:
            raise SourceError(
                f"{self.label}.encoding: {table} is not {self.settings.encoding} text.",
                cure="Name the files' encoding, for example gb18030 or latin-1.",
            ) from exc
        except (pa.ArrowInvalid, OSError) as exc:
            # The library's message quotes the row, which holds a person's data: only its shape is repeated.
            shape = re.search(r"(Row #\d+: )?Expected \d+ columns, got \d+", str(exc))
            what = shape.group() if shape else type(exc).__name__
            raise SourceError(
                f"{self.label}: {table} cannot be read as {self.settings.kind}: {what}.",
                cure="Look for a row with too few or too many fields, and at `delimiter` and `encoding`.",
            ) from exc


def _condition(schema: pa.Schema, since: Since | None) -> Any:
    """A lower bound, where the file's own type has the cursor's order; text has not."""
    if since is None:
        return None
    column = schema.field(since.column).type
    value = since.value
    if isinstance(value, datetime):
        if not pa.types.is_timestamp(column):
            return None
        # Unzoned times are UTC, as in the mapping.
        return ds.field(since.column) >= pa.scalar(
            value if column.tz else value.replace(tzinfo=None), pa.timestamp("us", column.tz)
        )
    if isinstance(value, date):
        return ds.field(since.column) >= pa.scalar(value) if pa.types.is_date32(column) else None
    numeric = pa.types.is_integer(column) or pa.types.is_floating(column)
    return ds.field(since.column) >= pa.scalar(value) if numeric else None
