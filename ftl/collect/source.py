"""Where rows come from: one small protocol, and the readers of each kind of source behind it."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import pyarrow as pa

from ftl.consortium import Node
from ftl.errors import SourceError

if TYPE_CHECKING:
    from ftl.consortium.model import Source as SourceSettings
    from ftl.consortium.stores import DltSource, FileSource

Position = int | float | date | datetime
"""A value of a cursor column, after mapping. A `datetime` is aware and in UTC."""

BATCH_ROWS = 65_536
"""Rows per batch that a reader aims at: some megabytes of Arrow, so that memory stays flat."""


@dataclass(frozen=True)
class Since:
    """Asks for the rows of `column` from `value` on. A hint: a reader may return more rows, never fewer."""

    column: str
    value: Position


@dataclass(frozen=True)
class Snapshot:
    """One consistent read of a table.

    Attributes:
        rows: how many rows the batches must hold together; None where the source cannot say without reading.
        batches: record batches of the asked columns. The type of a column may differ from batch to batch where the
            source has no fixed types (SQLite); the mapping casts each batch by itself.
    """

    rows: int | None
    batches: Iterator[pa.RecordBatch]


class Source(Protocol):
    """A party's database or folder of files."""

    def ping(self) -> None:
        """Connect and do nothing.

        Raises:
            SourceError: names the source, the setting that is wrong and its cure.
        """
        ...

    def tables(self) -> tuple[str, ...]:
        """Names of all tables, views or files."""
        ...

    def columns(self, table: str) -> dict[str, str]:
        """Column name to the source's own name of its type.

        Raises:
            SourceError: there is no such table; names the nearest one.
        """
        ...

    def position(self, table: str, cursor: str | None) -> str | None:
        """A text that differs when the table may have changed; None where the source cannot say.

        That of a :class:`Counting` source need not differ where only the number of rows does.

        Args:
            table: name at the source.
            cursor: source column that grows with every change, if there is one.
        """
        ...

    def snapshot(
        self, table: str, columns: Iterable[str], since: Since | None = None
    ) -> AbstractContextManager[Snapshot]:
        """Read the columns of one table as of now; rows that change meanwhile appear as they were.

        Raises:
            SourceError: there is no such table or column; names the nearest one, or what to grant.
        """
        ...


@runtime_checkable
class Counting(Protocol):
    """A source that counts the rows of a table at so high a cost that its `position` does without."""

    def count(self, table: str) -> int:
        """How many rows the table has now."""
        ...


def open_source(node: Node, name: str) -> Source:
    """The reader of the party's source `name`. Nothing is connected yet.

    Raises:
        SourceError: `consortium.yaml` declares no such source, or its password cannot be found.
    """
    if name not in node.party.sources:
        raise SourceError(
            f"Party {node.name} has no source {name!r}.{nearest(name, node.party.sources)}",
            cure=f"Declare it under parties.{node.name}.sources in consortium.yaml.",
        )
    return _reader(node, f"parties.{node.name}.sources.{name}", node.party.sources[name])


def _reader(node: Node, label: str, settings: "SourceSettings") -> Source:
    if settings.kind == "sqlite":
        from ftl.collect.sqlite import SqliteReader

        return SqliteReader(label, node.root / settings.path)
    if settings.kind == "postgresql":
        from ftl.collect.postgres import PostgresReader

        return PostgresReader.of(label, settings, node.root)
    if settings.kind == "mariadb" or settings.kind == "mysql":  # noqa: PLR1714 - narrows the type
        from ftl.collect.mariadb import MariaReader

        return MariaReader.of(label, settings, node.root)
    if settings.kind == "kafka":
        from ftl.collect.kafka import KafkaReader

        return KafkaReader.of(label, settings, node.root)
    if settings.kind == "windows":
        from ftl.collect.window_source import WindowReader

        return WindowReader(label, settings, node)
    return _file_reader(node, label, settings)


def _file_reader(node: Node, label: str, settings: "FileSource | DltSource") -> Source:
    if settings.kind == "dlt":
        from ftl.collect.dlt_source import DltReader

        return DltReader(label, settings, node.root)
    from ftl.collect.files import FileReader

    return FileReader.of(label, settings, node)


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?``, or what there is, or nothing; starts with a space so that it can follow a sentence."""
    names = sorted(known)
    lower = {candidate.lower(): candidate for candidate in names}
    close = get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {lower[close[0]]!r}?"
    return f" There is: {', '.join(names[:20])}." if names else ""


def require_columns(label: str, table: str, asked: Iterable[str], known: Iterable[str]) -> None:
    """Refuse columns that the source table does not have.

    Raises:
        SourceError: names the first missing column and the nearest one.
    """
    names = set(known)
    for column in asked:
        if column not in names:
            raise SourceError(
                f"{label}: table {table!r} has no column {column!r}.{nearest(column, names)}",
                cure="Correct the column's `from` in consortium.yaml, or grant the reading user that column.",
            )
