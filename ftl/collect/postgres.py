"""Reads PostgreSQL by binary COPY through ADBC, in one repeatable-read transaction."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import date, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pyarrow as pa

from ftl.collect.heap import HEAP, Heap, in_order, within, young
from ftl.collect.password import password_of
from ftl.collect.pieces import NOTHING_YET, WHOLE, Asked, Earlier, Pieces, Totals
from ftl.collect.source import Since, Snapshot, nearest, require_columns
from ftl.consortium.servers import PostgresSource
from ftl.errors import SourceError, SourceUnavailable

CONNECT_SECONDS = 10
"""Longest wait for a server to accept the connection."""

_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {schema} AND c.relname = {table} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_KEY = """
SELECT a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
WHERE n.nspname = {schema} AND c.relname = {table} AND i.indisprimary
ORDER BY array_position(i.indkey::int2[], a.attnum)
"""
_NUMBERS = {"smallint", "integer", "bigint", "numeric", "real", "double precision"}
_NATIVE = _NUMBERS | {"boolean", "text", "character varying", "date"}
_TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {schema} AND c.relkind IN ('r', 'v', 'm', 'p', 'f') ORDER BY 1
"""


class PostgresReader:
    """A schema of a PostgreSQL database.

    Args:
        label: how messages name this source.
        settings: its part of `consortium.yaml`.
        password: None leaves it to libpq (`~/.pgpass`, trust, peer).
    """

    def __init__(self, label: str, settings: PostgresSource, password: str | None) -> None:
        self.label = label
        self.settings = settings
        self._password = password

    @classmethod
    def of(cls, label: str, settings: PostgresSource, root: Path) -> "PostgresReader":
        """Find the password where the settings say.

        Raises:
            SourceError: the file or the environment variable is missing.
        """
        return cls(label, settings, password_of(label, settings, root))

    def ping(self) -> None:
        """Connect."""
        with self._cursor() as cursor:
            _rows(cursor, "SELECT 1")

    def tables(self) -> tuple[str, ...]:
        """Names of tables and views in the schema."""
        with self._cursor() as cursor:
            return self._tables(cursor)

    def columns(self, table: str) -> dict[str, str]:
        """Column name to PostgreSQL type, such as `numeric(12,2)`."""
        with self._cursor() as cursor:
            return self._columns(cursor, table)

    def key(self, table: str) -> tuple[str, ...]:
        """Columns of the table's primary key, in its order; none where it declares none."""
        with self._cursor() as cursor, self._translated(table):
            query = _KEY.format(schema=_literal(self.settings.db_schema), table=_literal(table))
            return tuple(name for (name,) in _rows(cursor, query))

    def position(self, table: str, cursor: str | None) -> str | None:
        """Newest cursor; None without a cursor, as a change could then not be seen."""
        if cursor is None:
            return None
        with self._cursor() as reader, self._translated(table):
            require_columns(self.label, table, [cursor], self._columns(reader, table))
            ((newest,),) = _rows(reader, f"SELECT max({_quoted(cursor)})::text FROM {self._name(table)}")  # noqa: S608 - quoted names
            return str(newest)

    def count(self, table: str) -> int:
        """How many rows the table has now."""
        with self._cursor() as cursor, self._translated(table):
            ((rows,),) = _rows(cursor, f"SELECT count(*) FROM {self._name(table)}")  # noqa: S608 - quoted names
            return int(rows)

    @contextmanager
    def snapshot(
        self, table: str, columns: Iterable[str], since: Since | None = None, exported: str | None = None
    ) -> Iterator[Snapshot]:
        """Count and read within one transaction.

        Args:
            table: name at the source.
            columns: to read.
            since: only rows from there on.
            exported: name of a snapshot that another transaction has exported, to see the same state as it does.
        """
        names = list(columns)
        with self._cursor(exported) as cursor:
            with self._translated(table):
                types = self._columns(cursor, table)
                require_columns(self.label, table, names, types)
                source = f"FROM {self._name(table)}{_condition(types, since)}"
                ((rows,),) = _rows(cursor, f"SELECT count(*) {source}")
            asked = ", ".join(_expression(name, types[name]) for name in names)
            yield Snapshot(rows, self._batches(cursor, table, f"SELECT {asked} {source}"))

    @contextmanager
    def pieces(self, table: str, asked: Asked, earlier: Earlier = NOTHING_YET) -> Iterator[Pieces]:
        """Ranges of the table's blocks, read in one snapshot, by as many connections as `readers` says.

        A piece holds when the server sees in its blocks as many rows as then, and none that is younger: whatever comes
        or changes gets a younger transaction, and what leaves is missing.
        """
        names = list(asked.columns)
        with self._cursor() as cursor:
            with self._translated(table):
                types = self._columns(cursor, table)
                require_columns(self.label, table, names, types)
                rows, totals = self._totals(cursor, table, {name: types[name] for name in asked.key})
                heap = self._heap(cursor, table)
            query = f"SELECT {', '.join(_expression(name, types[name]) for name in names)} FROM {self._name(table)}"  # noqa: S608 - quoted names
            if heap is None:
                yield Pieces(rows, self._batches(cursor, table, query), totals)
                return
            with self._translated(table):
                oldest = heap.oldest_of(earlier.state)
                held = earlier.held(
                    lambda name, had: oldest is not None and self._is_unchanged(cursor, table, name, had, oldest)
                )
            with self._in_ranges(cursor, table, query, heap.ranges(held)) as items:
                yield Pieces(rows, items, totals, heap.state, held)

    def _totals(self, cursor: Any, table: str, types: dict[str, str]) -> tuple[int, Totals]:
        """Number of rows, and control totals of the columns."""
        ((encoding,),) = _rows(cursor, "SELECT current_setting('server_encoding')")
        asked = {}
        for column, declared in types.items():
            name, kind = _quoted(column), declared.split("(", maxsplit=1)[0]
            if kind in {"smallint", "integer", "bigint"}:
                asked[column] = f"sum({name})::text"
            elif kind in {"text", "character varying"}:
                text = name if encoding == "UTF8" else f"convert_to({name}, 'UTF8')"
                asked[column] = f"sum(octet_length({text}))::text"
        query = f"SELECT {', '.join(['count(*)', *asked.values()])} FROM {self._name(table)}"  # noqa: S608 - quoted names
        ((rows, *found),) = _rows(cursor, query)
        return rows, {column: int(total or 0) % WHOLE for column, total in zip(asked, found, strict=True)}

    def _heap(self, cursor: Any, table: str) -> Heap | None:
        """Where the table's rows lie; None for what has no blocks of its own, and servers before 14."""
        query = HEAP.format(schema=_literal(self.settings.db_schema), table=_literal(table))
        found = _rows(cursor, query)
        return Heap(*found[0]) if found else None

    def _is_unchanged(self, cursor: Any, table: str, piece: str, had: int, oldest: int) -> bool:
        query = f"SELECT count(*), {young(oldest)} FROM {self._name(table)} WHERE {within(piece)}"  # noqa: S608 - numbers of our own
        return _rows(cursor, query) == [(had, 0)]

    @contextmanager
    def _in_ranges(
        self, cursor: Any, table: str, query: str, ranges: Sequence[str]
    ) -> Iterator[Iterator[pa.RecordBatch | str]]:
        """The rows of each range, then its name; with more than one reader whole ranges are read ahead."""
        if self.settings.readers == 1 or len(ranges) < 2:
            yield self._one_by_one(cursor, table, query, ranges)
            return
        with ExitStack() as opened:
            ((exported,),) = _rows(cursor, "SELECT pg_export_snapshot()")
            readers = min(self.settings.readers, len(ranges))
            free = SimpleQueue[Any]()
            for _ in range(readers):
                free.put(opened.enter_context(self._cursor(exported)))

            def read(piece: str) -> list[pa.RecordBatch]:
                reader = free.get()
                try:
                    return list(self._batches(reader, table, f"{query} WHERE {within(piece)}"))
                finally:
                    free.put(reader)

            pool = opened.enter_context(ThreadPoolExecutor(readers, thread_name_prefix="read"))
            yield in_order(pool, read, ranges, readers)

    def _one_by_one(self, cursor: Any, table: str, query: str, ranges: Iterable[str]) -> Iterator[pa.RecordBatch | str]:
        for piece in ranges:
            yield from self._batches(cursor, table, f"{query} WHERE {within(piece)}")
            yield piece

    def _batches(self, cursor: Any, table: str, query: str) -> Iterator[pa.RecordBatch]:
        with self._translated(table):
            cursor.execute(query)
            yield from cursor.fetch_record_batch()

    def _tables(self, cursor: Any) -> tuple[str, ...]:
        return tuple(name for (name,) in _rows(cursor, _TABLES.format(schema=_literal(self.settings.db_schema))))

    def _columns(self, cursor: Any, table: str) -> dict[str, str]:
        query = _COLUMNS.format(schema=_literal(self.settings.db_schema), table=_literal(table))
        found = dict(_rows(cursor, query))
        if not found:
            raise SourceError(
                f"{self.label}: schema {self.settings.db_schema!r} of database {self.settings.database!r} has no "
                f"table {table!r}.{nearest(table, self._tables(cursor))}",
                cure="Correct the table's `table`, or the source's `schema`, in consortium.yaml.",
            )
        return found

    def _name(self, table: str) -> str:
        return f"{_quoted(self.settings.db_schema)}.{_quoted(table)}"

    @contextmanager
    def _cursor(self, exported: str | None = None) -> Iterator[Any]:
        """A cursor in a read-only transaction that sees one state of the database."""
        from adbc_driver_postgresql import dbapi

        with self._translated():
            connection = dbapi.connect(self.conninfo())
        try:
            cursor = connection.cursor()
            try:
                with self._translated():
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                    if exported is not None:
                        cursor.execute(f"SET TRANSACTION SNAPSHOT {_literal(exported)}")
                yield cursor
            finally:
                cursor.close()
        finally:
            connection.close()

    def conninfo(self, **more: str) -> str:
        """For libpq; holds the password.

        Args:
            more: further parameters.
        """
        settings = self.settings
        options = {
            "host": settings.host,
            "port": str(settings.port),
            "dbname": settings.database,
            "user": settings.user,
            "connect_timeout": str(CONNECT_SECONDS),
            "application_name": "ftl collect",
            **more,
        }
        if self._password is not None:
            options["password"] = self._password
        escaped = {key: value.replace("\\", "\\\\").replace("'", "\\'") for key, value in options.items()}
        return " ".join(f"{key}='{value}'" for key, value in escaped.items())

    @contextmanager
    def _translated(self, table: str = "") -> Iterator[None]:
        from adbc_driver_manager import dbapi

        try:
            yield
        except (dbapi.Error, pa.ArrowException, OSError) as exc:
            raise self.named(exc, table) from exc

    def named(self, exc: Exception, table: str) -> SourceError:
        """Say which setting is wrong and what to grant; libpq's own words never hold a password or a row."""
        text, settings = str(exc), self.settings
        where = f"{settings.host}:{settings.port}"
        if "permission denied" in text:
            return SourceError(
                f"{self.label}: user {settings.user!r} may not read {settings.db_schema}.{table}.",
                cure=f"GRANT USAGE ON SCHEMA {settings.db_schema} TO {settings.user}; "
                f"GRANT SELECT ON {self._name(table)} TO {settings.user};",
            )
        for words, setting, cure in _REFUSALS:
            if words in text:
                value = getattr(settings, setting, None)
                named = f"{setting} ({value})" if value and not setting.startswith("password") else setting
                return SourceError(f"{self.label}.{named}: the server at {where} answers {words!r}.", cure=cure)
        if any(words in text for words in _ABSENT):
            return SourceUnavailable(
                f"{self.label}: no PostgreSQL answers at {where} (settings `host` and `port`).",
                cure="Check both settings and that the server is running and reachable from this machine.",
            )
        return SourceError(f"{self.label}: {where} failed: {_first_line(text)}", cure="See the server's log.")


_REFUSALS = (
    ("password authentication failed", "password_file", "Correct the password in password_file or password_env."),
    ("no password supplied", "password_file", "Set password_file or password_env."),
    ("no pg_hba.conf entry", "user", "Allow this user from this machine in the server's pg_hba.conf."),
    ("could not translate host name", "host", "Correct the host name."),
    ("is not permitted to log in", "user", "ALTER ROLE … LOGIN."),
    ('role "', "user", "Create the role, or correct `user`."),
    ('database "', "database", "Correct `database`."),
)
_ABSENT = (
    "could not connect",
    "Connection refused",
    "timeout expired",
    "connection to server",
    "server closed",
    "terminating connection",
    "starting up",
    "shutting down",
    "too many clients",
    "No such file or directory",
)


def _rows(cursor: Any, query: str) -> list[tuple[Any, ...]]:
    cursor.execute(query)
    rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _expression(column: str, declared: str) -> str:
    """Types that Arrow has no plain type for come as text; so does `char(n)`, then without its padding."""
    name = _quoted(column)
    native = declared.split("(", maxsplit=1)[0] in _NATIVE or declared.startswith("timestamp")
    return name if native else f"{name}::text AS {name}"


def _condition(types: dict[str, str], since: Since | None) -> str:
    if since is None:
        return ""
    declared, value = types.get(since.column, ""), since.value
    if isinstance(value, datetime):
        if not declared.startswith("timestamp"):
            return ""
        # Unzoned times are UTC, as in the mapping.
        moment = value if "with time zone" in declared else value.replace(tzinfo=None)
        return f" WHERE {_quoted(since.column)} >= {_literal(moment.isoformat(sep=' '))}"
    if isinstance(value, date):
        return f" WHERE {_quoted(since.column)} >= {_literal(value.isoformat())}" if declared == "date" else ""
    numeric = declared.split("(")[0] in _NUMBERS
    return f" WHERE {_quoted(since.column)} >= {value!r}" if numeric else ""


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "without a word"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
