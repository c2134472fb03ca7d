"""Files as a source: a store knows where they lie, each format how to read its own."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from ftl.collect.csv_files import CsvFormat
from ftl.collect.excel_files import ExcelFormat
from ftl.collect.json_files import JsonLinesFormat
from ftl.collect.parquet_files import ParquetFormat
from ftl.collect.password import secrets_of
from ftl.collect.pieces import NOTHING_YET, Asked, Earlier, Pieces, runs
from ftl.collect.source import Since, Snapshot, nearest, require_columns
from ftl.collect.stores import LocalFolder, RemoteFolder, Store
from ftl.consortium import Node
from ftl.consortium.stores import FileSource
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
        store: where the files lie.
    """

    def __init__(self, label: str, settings: FileSource, store: Store) -> None:
        self.label = label
        self.settings = settings
        self.store = store
        self._format = _format(label, settings)

    @classmethod
    def of(cls, label: str, settings: FileSource, node: Node) -> "FileReader":
        """A reader of a folder of this machine, or of the store behind a URL.

        Raises:
            SourceError: a secret's file or environment variable is missing.
        """
        if not settings.remote:
            return cls(label, settings, LocalFolder(label, node.root / settings.path))
        secrets = secrets_of(label, settings.secrets, node.root)
        options = {**settings.options, **secrets}
        staging = node.home / "staging"
        return cls(label, settings, RemoteFolder(label, settings.path, options, tuple(secrets.values()), staging))

    def ping(self) -> None:
        """Look whether the folder can be listed."""
        self.tables()

    def tables(self) -> tuple[str, ...]:
        """Names of all files of the folder, relative to it."""
        return self.store.names()

    def columns(self, table: str) -> dict[str, str]:
        """Column name to type; every CSV column is `string`."""
        with self.store.local(self._matching(table)) as files:
            return self._format.columns(files)

    def position(self, table: str, cursor: str | None) -> str | None:  # noqa: ARG002 - the files say it
        """Name and state of every file of the table."""
        return "+".join(f"{name.rpartition('/')[2]}:{state}" for name, state in self.files(table).items())

    def files(self, table: str) -> dict[str, str]:
        """Every file of the table, by its name in the folder, to a text that differs when it may have changed."""
        return {name: self.store.state(name) for name in self._matching(table)}

    def present(self, table: str) -> dict[str, str]:
        """As :meth:`files`; none where nothing matches yet."""
        self.store.names()
        return {name: self.store.state(name) for name in self.store.matching(table)}

    @contextmanager
    def part(self, table: str, columns: Iterable[str], names: Iterable[str]) -> Iterator[Snapshot]:
        """Read some files of the table, by their names in the folder."""
        wanted, named = list(columns), list(names)
        if not named:
            yield Snapshot(0, iter(()))
            return
        with self.store.local(named) as files:
            require_columns(self.label, table, wanted, self._format.columns(files, wanted))
            yield Snapshot(self._format.rows(files, None), self._format.batches(files, wanted, None))

    @contextmanager
    def snapshot(self, table: str, columns: Iterable[str], since: Since | None = None) -> Iterator[Snapshot]:
        """Read the files as they are; whoever replaces a file meanwhile must rename a new one into its place."""
        names = list(columns)
        with self.store.local(self._matching(table)) as files:
            require_columns(self.label, table, names, self._format.columns(files, names))
            yield Snapshot(self._format.rows(files, since), self._format.batches(files, names, since))

    @contextmanager
    def pieces(self, table: str, asked: Asked, earlier: Earlier = NOTHING_YET) -> Iterator[Pieces]:
        """Runs of rows of each file; they hold for as long as the file's state is the same."""
        names, states = list(asked.columns), self.files(table)
        labels = [f"{name}@{state}" for name, state in states.items()]
        with self.store.local(list(states)) as files:
            require_columns(self.label, table, names, self._format.columns(files, names))
            held = earlier.held(lambda name, _: name.rpartition(":")[0] in labels)
            items = (
                item
                for file, label in zip(files, labels, strict=True)
                for item in runs(self._format.batches([file], names, None), label, held)
            )
            yield Pieces(self._format.rows(files, None), items, kept=held)

    def _matching(self, table: str) -> list[str]:
        known = self.store.names()
        files = self.store.matching(table)
        if not files:
            raise SourceError(
                f"{self.label}: no file in {self.store} matches {table!r}.{nearest(table, known)}",
                cure="Correct the table's `table` in consortium.yaml: a file name or a glob such as 'accounts-*.csv'.",
            )
        return files


def _format(label: str, settings: FileSource) -> Format:
    if settings.kind == "csv":
        return CsvFormat(label, settings)
    if settings.kind == "excel":
        return ExcelFormat(label, settings)
    return JsonLinesFormat(label) if settings.kind == "json_lines" else ParquetFormat(label)
