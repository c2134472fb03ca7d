"""Reads SQLite databases, each table in one read transaction."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from ftl.collect.pieces import NOTHING_YET, WHOLE, Asked, Earlier, Pieces, runs
from ftl.collect.source import BATCH_ROWS, Since, Snapshot, nearest, require_columns
from ftl.errors import SourceError, SourceUnavailable

LOCK_SECONDS = 10.0
"""How long a writer of the database may keep us waiting."""

_NUMBERS = ("INT", "REAL", "FLOA", "DOUB", "NUM", "DEC")
_TEXTS = ("CHAR", "CLOB", "TEXT")


class SqliteReader:
    """A SQLite database file, opened read-only.

    Args:
        label: how messages name this source.
        path: the file.
    """

    def __init__(self, label: str, path: Path) -> None:
        self.label = label
        self.path = path

    def ping(self) -> None:
        """Open the file and read its catalogue."""
        self.tables()

    def tables(self) -> tuple[str, ...]:
        """Names of tables and views."""
        with self._translated(), closing(self._open()) as connection:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name")
            return tuple(name for (name,) in rows if not name.startswith("sqlite_"))

    def columns(self, table: str) -> dict[str, str]:
        """Column name to declared type; empty text where none is declared."""
        with self._translated(), closing(self._open()) as connection:
            return self._columns(connection, table)

    def key(self, table: str) -> tuple[str, ...]:
        """Columns of the table's primary key, in its order; none where it declares none."""
        with self._translated(), closing(self._open()) as connection:
            found = connection.execute(f"PRAGMA table_info({_quoted(table)})").fetchall()
            return tuple(name for _, name, *_, place in sorted(found, key=lambda row: row[-1]) if place)

    def position(self, table: str, cursor: str | None) -> str | None:  # noqa: ARG002 - the file says it for all tables
        """Change counter, size and time of the file and of its write-ahead log: any write to the database moves it."""
        self.ping()
        with self.path.open("rb") as file:
            parts = [file.read(28)[24:].hex()]  # "File change counter" in SQLite's file format
        for path in (self.path, self.path.with_name(self.path.name + "-wal")):
            if path.exists() and path.stat().st_size:
                parts.append(f"{path.stat().st_size}@{path.stat().st_mtime_ns}")
        return "+".join(parts)

    @contextmanager
    def snapshot(self, table: str, columns: Iterable[str], since: Since | None = None) -> Iterator[Snapshot]:
        """Count and read within one transaction."""
        names = list(columns)
        with closing(self._open()) as connection:
            with self._translated():
                rows, reader = self._select(connection, table, names, since)
            yield Snapshot(rows, self._batches(reader, names))

    @contextmanager
    def pieces(self, table: str, asked: Asked, earlier: Earlier = NOTHING_YET) -> Iterator[Pieces]:
        """Runs of rows in the order of their rowid; they hold for as long as nobody writes to the database."""
        names, before = list(asked.columns), self.position(table, None)
        with closing(self._open()) as connection:
            with self._translated():
                types = self._columns(connection, table)
                require_columns(self.label, table, names, types)
                connection.execute("BEGIN")
                rows, totals = _totals(connection, table, {name: types[name] for name in asked.key})
                rowid = _rowid(connection, table, types)
                order = f" ORDER BY {rowid}" if rowid else ""
                reader = connection.execute(f"SELECT {', '.join(map(_quoted, names))} FROM {_quoted(table)}{order}")  # noqa: S608 - quoted names
            state = before if rowid and before == self.position(table, None) else ""
            held = earlier.held(lambda *_: state not in {"", None} and state == earlier.state)
            batches = self._batches(reader, names)
            yield Pieces(rows, runs(batches, "rows", held) if state else batches, totals, state or "", held)

    def _select(
        self, connection: sqlite3.Connection, table: str, names: list[str], since: Since | None
    ) -> tuple[int, sqlite3.Cursor]:
        types = self._columns(connection, table)
        require_columns(self.label, table, names, types)
        where, values = _condition(types, since)
        source = f"FROM {_quoted(table)}{where}"
        connection.execute("BEGIN")
        (rows,) = connection.execute(f"SELECT count(*) {source}", values).fetchone()
        return rows, connection.execute(f"SELECT {', '.join(map(_quoted, names))} {source}", values)

    def _batches(self, reader: sqlite3.Cursor, names: list[str]) -> Iterator[pa.RecordBatch]:
        reader.arraysize = BATCH_ROWS
        with self._translated():
            while rows := reader.fetchmany():
                yield pa.record_batch([_array(values) for values in zip(*rows, strict=True)], names=names)

    def _columns(self, connection: sqlite3.Connection, table: str) -> dict[str, str]:
        found = {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({_quoted(table)})")}
        if not found:
            raise SourceError(
                f"{self.label}: {self.path} has no table {table!r}.{nearest(table, self.tables())}",
                cure="Correct the table's `table` in consortium.yaml.",
            )
        return found

    def _open(self) -> sqlite3.Connection:
        if not _is_file(self.path):
            raise SourceError(
                f"{self.label}.path: there is no file {self.path}.{_nearest_file(self.path)}",
                cure="Correct the path; a relative one starts at the folder of consortium.yaml.",
            )
        with self._translated():
            uri = f"{self.path.resolve().as_uri()}?mode=ro"
            return sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as exc:
            raise self._unavailable(exc) from exc
        except sqlite3.DatabaseError as exc:
            raise SourceError(
                f"{self.label}.path: {self.path} cannot be read: {exc}.",
                cure="Give a SQLite 3 database that is whole (`sqlite3 FILE 'PRAGMA integrity_check'`).",
            ) from exc

    def _unavailable(self, exc: sqlite3.OperationalError) -> SourceError:
        if "locked" in str(exc) or "busy" in str(exc):
            return SourceUnavailable(
                f"{self.label}: another program has locked {self.path} for {LOCK_SECONDS:.0f} s.",
                cure="Try again when it has finished writing.",
            )
        return SourceError(
            f"{self.label}.path: {self.path} cannot be read: {exc}.", cure="Let this user read the file and its folder."
        )


def _rowid(connection: sqlite3.Connection, table: str, columns: Iterable[str]) -> str | None:
    """The name by which the table's own order can be asked for; None for a view and a table without it."""
    kind = connection.execute("SELECT type FROM sqlite_master WHERE lower(name) = lower(?)", (table,)).fetchone()
    known = {column.lower() for column in columns}
    name = next((name for name in ("rowid", "_rowid_", "oid") if name not in known), None)
    if kind != ("table",) or name is None:
        return None
    try:
        connection.execute(f"SELECT {name} FROM {_quoted(table)} LIMIT 0")  # noqa: S608 - quoted names
    except sqlite3.OperationalError:
        return None
    return name


def _totals(connection: sqlite3.Connection, table: str, types: dict[str, str]) -> tuple[int, dict[str, int | None]]:
    """Number of rows, and control totals of the columns; whole numbers in halves, as no sum may overflow."""
    asked = {}
    for column, declared in types.items():
        name = _quoted(column)
        if "INT" in declared.upper():
            asked[column] = f"sum({name} >> 32)", f"sum({name} & 4294967295)"
        elif any(word in declared.upper() for word in _TEXTS):
            asked[column] = "0", f"sum(length(CAST({name} AS BLOB)))"
    halves = [half for pair in asked.values() for half in pair]
    query = f"SELECT {', '.join(['count(*)', *halves])} FROM {_quoted(table)}"  # noqa: S608 - quoted names
    rows, *found = connection.execute(query).fetchone()
    pairs = zip(found[::2], found[1::2], strict=True)
    sums = [(((high or 0) << 32) + (low or 0)) % WHOLE for high, low in pairs]
    return rows, dict(zip(asked, sums, strict=True))


def _array(values: tuple[Any, ...]) -> pa.Array:
    """SQLite keeps any type in any cell; a column of mixed types becomes text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: Any) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def _condition(types: dict[str, str], since: Since | None) -> tuple[str, tuple[Any, ...]]:
    """A lower bound that SQLite can apply without missing a row, where the column's declared type allows one.

    Times are kept as ISO 8601 text or as Unix seconds. All ISO spellings of a moment start with its date, which in
    another time zone may be a day earlier. Columns declared DATE or the like may hold either and are not filtered.
    """
    if since is None:
        return "", ()
    declared, value = types.get(since.column, "").upper(), since.value
    bound: Any = None
    if any(word in declared for word in _NUMBERS):
        bound = _unix_day(value) if isinstance(value, date) else value
    elif isinstance(value, date) and any(word in declared for word in _TEXTS):
        bound = (_utc_day(value) - timedelta(days=1)).isoformat()
    return ("", ()) if bound is None else (f" WHERE {_quoted(since.column)} >= ?", (bound,))


def _utc_day(value: date) -> date:
    return value.astimezone(UTC).date() if isinstance(value, datetime) else value


def _unix_day(value: date) -> int:
    day = _utc_day(value)
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def _is_file(path: Path) -> bool:
    """Whether it is there, as far as this user may see; one in a folder that it may not enter is opened in vain."""
    try:
        return path.is_file()
    except PermissionError:
        return True


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f" There is no folder {path.parent} either."
    return nearest(path.name, (entry.name for entry in path.parent.iterdir() if entry.is_file()))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
