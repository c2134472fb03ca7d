"""A folder of files as a source; each format knows how to read its own."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from ftl.collect.csv_files import CsvFormat
from ftl.collect.json_files import JsonLinesFormat
from ftl.collect.parquet_files import ParquetFormat
from ftl.collect.source import Since, Snapshot, nearest, require_columns
from ftl.consortium.model import FileSource
from ftl.errors import SourceError


class Format(Protocol):
    """How the files of one kind are read."""

    def columns(self, files: list[Path], asked: Iterable[str] = ()) -> dict[str, str]:
        """Column name to type; names every column of `asked` that is there, however rare it is."""
        ...

    def rows(self, files: list[Path], since: Since | None) -> int | None:
        """How many rows :meth:`batches` gives; None where that cannot be known without reading."""
        ...

    def batches(self, files: list[Path], names: list[str], since: Since | None) -> Iterator[pa.RecordBatch]:
        """The columns `names`, streamed file by file."""
        ...


class FileReader:
    """A folder of files; a table names a file or a glob in it.

    Args:
        label: how messages name this source.
        settings: its part of `consortium.yaml`.
        folder: where the files lie.
    """

    def __init__(self, label: str, settings: FileSource, folder: Path) -> None:
        self.label = label
        self.settings = settings
        self.folder = folder
        self._format = _format(label, settings)

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
        """Column name to type; every CSV column is `string`."""
        return self._format.columns(self._files(table))

    def position(self, table: str, cursor: str | None) -> str | None:  # noqa: ARG002 - the files say it
        """Name, size and time of every file of the table."""
        stats = [(path.name, path.stat()) for path in self._files(table)]
        return "+".join(f"{name}:{stat.st_size}@{stat.st_mtime_ns}" for name, stat in stats)

    def files(self, table: str) -> dict[str, str]:
        """Every file of the table, by its name in the folder, to a text that differs when it may have changed."""
        stats = [(path, path.stat()) for path in self._files(table)]
        return {path.relative_to(self.folder).as_posix(): f"{stat.st_size}@{stat.st_mtime_ns}" for path, stat in stats}

    @contextmanager
    def part(self, table: str, columns: Iterable[str], names: Iterable[str]) -> Iterator[Snapshot]:
        """Read some files of the table, by their names in the folder."""
        wanted, files = list(columns), [self.folder / name for name in names]
        if not files:
            yield Snapshot(0, iter(()))
            return
        require_columns(self.label, table, wanted, self._format.columns(files, wanted))
        yield Snapshot(self._format.rows(files, None), self._format.batches(files, wanted, None))

    @contextmanager
    def snapshot(self, table: str, columns: Iterable[str], since: Since | None = None) -> Iterator[Snapshot]:
        """Read the files as they are; whoever replaces a file meanwhile must rename a new one into its place."""
        names, files = list(columns), self._files(table)
        require_columns(self.label, table, names, self._format.columns(files, names))
        yield Snapshot(self._format.rows(files, since), self._format.batches(files, names, since))

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


def _format(label: str, settings: FileSource) -> Format:
    if settings.kind == "csv":
        return CsvFormat(label, settings)
    return JsonLinesFormat(label) if settings.kind == "json_lines" else ParquetFormat(label)
