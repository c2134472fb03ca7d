"""Reads MariaDB and MySQL: tables through connectorx in the binary protocol, everything small through PyMySQL."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from ftl.collect.key_order import KEY, TOTALS, WHOLE_NUMBERS, KeyOrder, holds_still, last_key, watched
from ftl.collect.password import password_of
from ftl.collect.pieces import NOTHING_YET, Asked, Earlier, Pieces
from ftl.collect.source import BATCH_ROWS, Since, Snapshot, nearest, require_columns
from ftl.consortium.servers import MariaSource
from ftl.errors import SourceError, SourceUnavailable

CONNECT_SECONDS = 10
"""Longest wait for a server to accept the connection."""
ANSWER_SECONDS = 600
"""Longest wait for an answer: counting a large table takes its time."""

_SESSION = "SET time_zone = '+00:00', sql_mode = 'NO_ZERO_DATE,NO_ZERO_IN_DATE'"
"""Times are UTC, and a cast makes dates such as 0000-00-00 or 2020-05-00 null."""
_COUNT = "_ftl_rows"
_COLUMNS = (
    "SELECT column_name, column_type FROM information_schema.columns "
    "WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position"
)
_KEY = (
    "SELECT column_name FROM information_schema.key_column_usage "
    "WHERE table_schema = %s AND table_name = %s AND constraint_name = 'PRIMARY' ORDER BY ordinal_position"
)
_ENGINE = "SELECT engine FROM information_schema.tables WHERE table_schema = %s AND table_name = %s"
_TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = %s ORDER BY 1"
_NUMBERS = {"tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double"}


class MariaReader:
    """A MariaDB or MySQL database.

    Args:
        label: how messages name this source.
        settings: its part of `consortium.yaml`.
        password: None for a user without one.
    """

    def __init__(self, label: str, settings: MariaSource, password: str | None) -> None:
        self.label = label
        self.settings = settings
        self._password = password or ""

    @classmethod
    def of(cls, label: str, settings: MariaSource, root: Path) -> "MariaReader":
        """Find the password where the settings say.

        Raises:
            SourceError: the file or the environment variable is missing.
        """
        return cls(label, settings, password_of(label, settings, root))

    def ping(self) -> None:
        """Connect."""
        with self.connection():
            pass

    def tables(self) -> tuple[str, ...]:
        """Names of tables and views that the user may see."""
        with self.connection() as connection:
            return self._tables(connection)

    def columns(self, table: str) -> dict[str, str]:
        """Column name to type, such as `decimal(12,2)`."""
        with self.connection() as connection:
            return self.columns_in(connection, table)

    def key(self, table: str) -> tuple[str, ...]:
        """Columns of the table's primary key, in its order; none where it declares none."""
        with self.connection() as connection, self.translated(table):
            return tuple(name for (name,) in answer(connection, _KEY, self.settings.database, table))

    def position(self, table: str, cursor: str | None) -> str | None:
        """Newest cursor; None without a cursor, as a change could then not be seen."""
        if cursor is None:
            return None
        with self.connection() as connection, self.translated(table):
            require_columns(self.label, table, [cursor], self.columns_in(connection, table))
            ((newest,),) = answer(connection, f"SELECT max({_quoted(cursor)}) FROM {_quoted(table)}")  # noqa: S608 - quoted names
            return str(newest)

    def count(self, table: str) -> int:
        """How many rows the table has now."""
        with self.connection() as connection, self.translated(table):
            ((rows,),) = answer(connection, f"SELECT count(*) FROM {_quoted(table)}")  # noqa: S608 - quoted names
            return int(rows)

    @contextmanager
    def snapshot(self, table: str, columns: Iterable[str], since: Since | None = None) -> Iterator[Snapshot]:
        """Count and read in one statement, which sees one state of the table."""
        names = list(columns)
        with self.connection() as connection, self.translated(table):
            types = self.columns_in(connection, table)
            require_columns(self.label, table, names, types)
            source = f"FROM {_quoted(table)}{_condition(types, since)}"
            answer(connection, f"SELECT {', '.join(map(_quoted, names))} {source} LIMIT 0")  # may the user?
        asked = ", ".join(_expression(name, types[name]) for name in names)
        batches = self._batches(table, f"SELECT {asked}, (SELECT count(*) {source}) AS {_COUNT} {source}")
        first = next(batches, None)
        if first is None:
            yield Snapshot(0, iter(()))
            return
        yield Snapshot(first.column(_COUNT)[0].as_py(), _rest(first, batches, names))

    @contextmanager
    def pieces(self, table: str, asked: Asked, earlier: Earlier = NOTHING_YET) -> Iterator[Pieces]:
        """Ranges of a whole-number primary key, read in its order by one statement, which sees one state of the table.

        A piece holds when the server's totals of key and cursor are those that were read. So a table without such a
        key, or without a cursor, is read anew; and so is what lies behind a piece that no longer holds.
        """
        names = list(asked.columns)
        with self.connection() as connection, self.translated(table):
            types = self.columns_in(connection, table)
            require_columns(self.label, table, names, types)
            answer(connection, f"SELECT {', '.join(map(_quoted, names))} FROM {_quoted(table)} LIMIT 0")  # noqa: S608 - quoted names
            order = self._order(connection, table, types, asked)
            held = frozenset[str]()
            if order is not None:
                held = order.held(earlier, lambda query: str(answer(connection, query)[0][0]))
        if order is None:
            with self.snapshot(table, names) as snapshot:
                yield Pieces(snapshot.rows, snapshot.batches)
            return
        columns = [_expression(column, types[column]) for column in names]
        for known in (held, frozenset[str]()):
            order = replace(order, after=last_key(known))
            batches = self._batches(table, order.query(columns))
            first = next(batches, None)
            rows, totals, proof = order.told(
                self._told(table, order) if first is None else first.column(TOTALS)[0].as_py()
            )
            if holds_still(proof, known):
                read = iter(()) if first is None else chain([first], batches)
                yield Pieces(rows, order.items(read, names, asked.cursor or ""), totals, "", known)
                return

    def _told(self, table: str, order: KeyOrder) -> str:
        with self.connection() as connection, self.translated(table):
            return str(answer(connection, f"SELECT {order.text}")[0][0])

    def _order(self, connection: Any, table: str, types: dict[str, str], asked: Asked) -> KeyOrder | None:
        """How the table can be read in the order of its key; None where it has no such key, or no cursor."""
        key = answer(connection, _KEY, self.settings.database, table)
        engine = answer(connection, _ENGINE, self.settings.database, table)
        if len(key) != 1 or engine != [("InnoDB",)] or asked.cursor is None:
            return None
        ((column,),) = key
        declared = types[asked.cursor]
        cursor = watched(_quoted(asked.cursor), _kind(declared), _value(asked.cursor, declared))
        if _kind(types.get(column, "")) not in WHOLE_NUMBERS or cursor is None:
            return None
        control = {name: total for name in asked.key if (total := _total(name, types[name]))}
        place = column if column in asked.columns else KEY
        return KeyOrder(_quoted(table), _quoted(column), place, cursor, None, control)

    def _batches(self, table: str, query: str) -> Iterator[pa.RecordBatch]:
        """Streamed; memory holds a few batches however long the table is."""
        import connectorx

        user, password = quote(self.settings.user, safe=""), quote(self._password, safe="")
        url = f"mysql://{user}:{password}@{self.settings.host}:{self.settings.port}/{quote(self.settings.database)}"
        with self.translated(table):
            reader = connectorx.read_sql(
                url,
                query,
                return_type="arrow_stream",
                protocol="binary",
                batch_size=BATCH_ROWS,
                pre_execution_query=_SESSION,
            )
            yield from (batch for batch in reader if batch.num_rows)

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """A PyMySQL connection whose times are UTC.

        Raises:
            SourceError: it cannot be opened; names the setting.
        """
        with self.translated():
            connection = self.connect(ANSWER_SECONDS)
        with closing(connection):
            yield connection

    def connect(self, answer_seconds: float) -> Any:
        """A bare PyMySQL connection, its errors untranslated.

        Args:
            answer_seconds: longest wait for any byte.
        """
        import pymysql

        return pymysql.connect(
            host=self.settings.host,
            port=self.settings.port,
            user=self.settings.user,
            password=self._password,
            database=self.settings.database,
            connect_timeout=CONNECT_SECONDS,
            read_timeout=answer_seconds,
            write_timeout=answer_seconds,
            autocommit=True,
            charset="utf8mb4",
            init_command=_SESSION,
        )

    def columns_in(self, connection: Any, table: str) -> dict[str, str]:
        """As :meth:`columns`, over an open connection."""
        with self.translated(table):
            found: dict[str, str] = dict(answer(connection, _COLUMNS, self.settings.database, table))
            if found:
                return found
            raise self._invisible(table, self._tables(connection))

    def _tables(self, connection: Any) -> tuple[str, ...]:
        with self.translated():
            return tuple(name for (name,) in answer(connection, _TABLES, self.settings.database))

    def _invisible(self, table: str, tables: Iterable[str]) -> SourceError:
        """A table that the user may not read looks like one that is not there."""
        return SourceError(
            f"{self.label}: database {self.settings.database!r} shows user {self.settings.user!r} no table "
            f"{table!r}.{nearest(table, tables)}",
            cure=f"Correct the table's `table` in consortium.yaml, or {self._grant(table)}",
        )

    def _grant(self, table: str) -> str:
        return f"GRANT SELECT ON {_quoted(self.settings.database)}.{_quoted(table)} TO '{self.settings.user}'@'…';"

    @contextmanager
    def translated(self, table: str = "") -> Iterator[None]:
        """Turn the drivers' errors into ours."""
        import pymysql

        try:
            yield
        except (pymysql.MySQLError, RuntimeError, pa.ArrowException, OSError) as exc:
            raise self.named(exc, table) from _without_password(exc, self._password)
        except BaseException as exc:
            # A connection that breaks while rows come, and a cell that connectorx cannot hold, end in a Rust panic,
            # which is no `Exception`.
            if type(exc).__name__ != "PanicException":
                raise
            if any(words in str(exc) for words in _BROKEN):
                raise self.named(ConnectionError(_ABSENT[0]), table) from None
            raise SourceError(
                f"{self.label}: a value of table {table!r} cannot be read.",
                cure="Read the table through a view that casts columns of unusual types to CHAR.",
            ) from None

    def named(self, exc: Exception, table: str = "") -> SourceError:
        """Say which setting is wrong and what to grant."""
        text, settings = " ".join(map(str, exc.args)), self.settings
        where = f"{settings.host}:{settings.port}"
        if "command denied" in text:
            return SourceError(f"{self.label}: user {settings.user!r} may not read {table}.", cure=self._grant(table))
        for words, setting, cure in _REFUSALS:
            if words in text:
                value = getattr(settings, setting, None)
                named = f"{setting} ({value})" if value and not setting.startswith("password") else setting
                return SourceError(f"{self.label}.{named}: the server at {where} answers {words!r}.", cure=cure)
        if any(words in text for words in _ABSENT):
            return SourceUnavailable(
                f"{self.label}: no MariaDB or MySQL answers at {where} (settings `host` and `port`).",
                cure="Check both settings and that the server is running and reachable from this machine.",
            )
        shown = text.replace(self._password, "…") if self._password else text
        return SourceError(f"{self.label}: {where} failed: {shown.strip()[:200]}", cure="See the server's log.")


_REFUSALS = (
    ("to database", "database", "Correct `database`, or GRANT SELECT on it to this user."),
    ("Access denied", "password_file", "Correct `user` and the password in password_file or password_env."),
    ("Unknown database", "database", "Correct `database`."),
    ("Name or service not known", "host", "Correct the host name."),
    ("Temporary failure in name resolution", "host", "Correct the host name."),
    ("is not allowed to connect", "user", "Create the user for connections from this machine."),
)
_ABSENT = (
    "Can't connect",
    "Could not connect",
    "Lost connection",
    "gone away",
    "Connection refused",
    "Connection reset",
    "Broken pipe",
    "timed out",
    "shutdown in progress",
    "Too many connections",
    "Packet sequence number wrong",
)


_BROKEN = ("CodecError", "IoError", "IO error", "DriverError")
"""What connectorx panics with when the server goes away."""


def answer(connection: Any, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """All rows of one statement's answer."""
    with connection.cursor() as cursor:
        cursor.execute(query, values or None)
        return list(cursor.fetchall())


def _rest(first: pa.RecordBatch, batches: Iterator[pa.RecordBatch], names: list[str]) -> Iterator[pa.RecordBatch]:
    yield first.select(names)
    for batch in batches:
        yield batch.select(names)


def _expression(column: str, declared: str) -> str:
    name, value = _quoted(column), _value(column, declared)
    return name if value == name else f"{value} AS {name}"


def _value(column: str, declared: str) -> str:
    """What connectorx cannot hold exactly comes as text; a date with a zero in it is unknown, see :data:`_SESSION`."""
    name, kind = _quoted(column), _kind(declared)
    if kind in {"decimal", "time"}:
        return f"CAST({name} AS CHAR)"
    if kind == "bit":
        return f"CAST({name} + 0 AS UNSIGNED)"
    if kind == "date":
        return f"CAST({name} AS DATE)"
    return f"CAST({name} AS DATETIME(6))" if kind in {"datetime", "timestamp"} else name


def _kind(declared: str) -> str:
    """The type's name alone."""
    return declared.split("(", maxsplit=1)[0].split(" ", maxsplit=1)[0]


def _total(column: str, declared: str) -> str | None:
    """SQL of a column's control total; None for a type of which there is none."""
    if _kind(declared) in WHOLE_NUMBERS:
        return f"sum({_quoted(column)})"
    return f"sum(length(CONVERT({_quoted(column)} USING utf8mb4)))" if _kind(declared) == "varchar" else None


def _condition(types: dict[str, str], since: Since | None) -> str:
    if since is None:
        return ""
    kind, value = _kind(types.get(since.column, "")), since.value
    if isinstance(value, datetime):
        moment = value.astimezone(UTC).replace(tzinfo=None)
        return f" WHERE {_quoted(since.column)} >= '{moment}'" if kind in {"datetime", "timestamp"} else ""
    if isinstance(value, date):
        return f" WHERE {_quoted(since.column)} >= '{value}'" if kind == "date" else ""
    return f" WHERE {_quoted(since.column)} >= {value!r}" if kind in _NUMBERS else ""


def _without_password(exc: Exception, password: str) -> Exception | None:
    return None if password and password in str(exc) else exc


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
