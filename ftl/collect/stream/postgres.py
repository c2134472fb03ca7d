"""PostgreSQL's logical replication as a change stream: a publication and a slot of our own per table."""

import hashlib
import select
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ftl.collect.identity import identity_of
from ftl.collect.mapping import Mapping as FieldMapping
from ftl.collect.postgres import PostgresReader
from ftl.collect.stream.change import Gathered, Pace, Slice, Start
from ftl.collect.stream.pgoutput import Relation, UnchangedError, decode, relation
from ftl.collect.stream.terms import Terms
from ftl.errors import SourceError, SourceUnavailable

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_SIGN_SECONDS = 5.0
"""How often the server is asked for a sign of life, and told what need not be kept."""
_SESSION = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=1 -c bytea_output=hex"
_ALIVE = {
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
    "options": _SESSION,
}
_IDENTITY = """
SELECT c.relreplident::text, coalesce(array_agg(a.attname::text) FILTER (WHERE a.attname IS NOT NULL), '{}')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index i ON i.indrelid = c.oid
  AND CASE c.relreplident WHEN 'd' THEN i.indisprimary ELSE i.indisreplident END
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey)
WHERE n.nspname = %s AND c.relname = %s GROUP BY c.relreplident
"""


class PostgresFeed:
    """The changes of one table, decoded by `pgoutput`.

    Args:
        reader: of the source.
        mapping: of the table.
        owner: consortium, party and table, after which slot and publication are named.
    """

    def __init__(self, reader: PostgresReader, mapping: FieldMapping, owner: Sequence[str]) -> None:
        self._reader, self._mapping = reader, mapping
        self._table = mapping.settings.table
        settings = reader.settings
        at = hashlib.sha256(f"{settings.database}\0{settings.db_schema}\0{self._table}".encode()).hexdigest()[:8]
        self.name = f"ftl_{'_'.join(owner)}"[:54] + f"_{at}"
        self._connection: Any = None
        self._cursor: Any = None
        self._relation: Relation | None = None
        self.terms = Terms(reader.label, mapping)
        self._missing = frozenset[str]()
        self._marks = {"lsn": 0, "within": 0}
        self._heard = self._asked = 0.0
        self._open: _Transaction | None = None

    def mark_names(self) -> tuple[str, ...]:
        """`lsn`: end of the last transaction; `within`: changes of the next one that have landed already."""
        return "lsn", "within"

    @contextmanager
    def begin(self) -> Iterator[Start]:
        """Create publication and slot, and read the table in the snapshot that the slot begins with."""
        self._check_identity()
        self.drop()
        name, table = _quoted(self.name), f"{_quoted(self._reader.settings.db_schema)}.{_quoted(self._table)}"
        self._sql(f"CREATE PUBLICATION {name} FOR TABLE {table} WITH (publish_via_partition_root = true)")
        with self._translated(), closing(self._replication()) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput EXPORT_SNAPSHOT")
            _, position, exported, _ = cursor.fetchone()
            columns = self._mapping.source_columns
            with self._reader.snapshot(self._table, columns, exported=exported) as snapshot:
                yield Start(snapshot, {"lsn": _number(position), "within": 0})

    def resume(self, marks: Mapping[str, int]) -> None:
        """Start the slot after the last transaction that has landed."""
        self.close()
        self._check_slot()
        self._marks = dict(marks)
        with self._translated():
            self._connection = self._replication()
            self._cursor = self._connection.cursor()
            options = {"proto_version": "1", "publication_names": _quoted(self.name)}
            self._cursor.start_replication(
                slot_name=self.name, decode=False, start_lsn=marks["lsn"], options=options, status_interval=10
            )
        self._relation, self._open = None, None
        self._heard = self._asked = time.monotonic()

    def take(self, pace: Pace) -> Slice:
        """Whole transactions, or a piece of one that alone is larger than a batch."""
        gathered, self._pending = Gathered(), list[bytes]()
        with self._translated():
            anew = self._gather(gathered, pace)
            self._decode(gathered)
        behind = max(self._cursor.wal_end - self._marks["lsn"], 0) if gathered.rows else 0
        return gathered.slice(self._marks, behind, anew=anew)

    def landed(self, marks: Mapping[str, int]) -> None:
        """Tell the server that it need not keep this any more."""
        with self._translated():
            self._cursor.send_feedback(flush_lsn=marks["lsn"])

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = self._cursor = None

    def drop(self) -> None:
        """Drop slot and publication."""
        self.close()
        slot = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s"
        self._sql(slot, self.name)
        self._sql(f"DROP PUBLICATION IF EXISTS {_quoted(self.name)}")

    def _gather(self, gathered: Gathered, pace: Pace) -> bool:
        """Read messages until the batch is complete; says whether the table was truncated."""
        begun, read = time.monotonic(), self._cursor.read_message
        until, latest = begun + pace.seconds, begun + max(pace.seconds, pace.catching_up)
        while True:
            message = read()
            if message is None:
                if self._open is None and time.monotonic() >= until:
                    return False
                self._wait(until, gathered, pace)
                continue
            payload = message.payload
            kind = payload[:1]
            if kind in _ROWS and self._open is not None:
                self._open.seen += 1
                if 0 <= self._open.skip < self._open.seen:
                    self._pending.append(payload)
                    gathered.rows += 1
                    if gathered.rows >= pace.rows:
                        self._marks["within"] = self._open.seen
                        return False
            elif kind == b"C":
                self._end(payload)
                if gathered.rows >= pace.rows or time.monotonic() >= latest:
                    return False
            elif kind == b"T":
                return True
            else:
                self._other(kind, payload, gathered)

    def _other(self, kind: bytes, payload: bytes, gathered: Gathered) -> None:
        if kind == b"B":
            (final, moment) = struct.unpack_from(">qq", payload, 1)
            gathered.written = _EPOCH + timedelta(microseconds=moment)
            known = final < self._marks["lsn"]
            self._open = _Transaction(skip=-1 if known else self._marks["within"])
        elif kind == b"R":
            self._decode(gathered)
            self._relation = relation(payload)
            types = map(str, self._relation.types)
            self._missing = self.terms.missing(dict(zip(self._relation.names, types, strict=True)))

    def _end(self, payload: bytes) -> None:
        (end,) = struct.unpack_from(">q", payload, 10)
        if end > self._marks["lsn"]:
            self._marks = {"lsn": end, "within": 0}
        self._open = None

    def _decode(self, gathered: Gathered) -> None:
        if not self._pending or self._relation is None:
            return
        columns, identity = self._mapping.source_columns, identity_of(self._mapping)
        try:
            gathered.changes.append(decode(self._pending, self._relation, columns, identity, self._missing))
        except UnchangedError as exc:
            raise SourceError(
                f"{self._reader.label}: the stream of {self._table!r} leaves out the long value of column "
                f"{exc.args[0]!r}, which an update did not change.",
                cure=f"ALTER TABLE {self._table} REPLICA IDENTITY FULL; then run a full sync and start the stream.",
            ) from exc
        self._pending = []

    def _wait(self, until: float, gathered: Gathered, pace: Pace) -> None:
        """Wait for the next message; once in a while ask for a sign of life and let go of what has landed."""
        now = time.monotonic()
        if now - self._asked > min(_SIGN_SECONDS, pace.silence / 3):
            if not gathered.rows and self._open is None:
                self._cursor.send_feedback(flush_lsn=max(self._cursor.wal_end, self._marks["lsn"]), reply=True)
            else:
                self._cursor.send_feedback(reply=True)
            self._asked = now
        readable, _, _ = select.select([self._cursor], [], [], min(max(until - now, 0.001), 1.0))
        if readable:
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > pace.silence:
            raise SourceUnavailable(
                f"{self._reader.label}: the stream of {self._table!r} has been silent for {pace.silence:.0f} s.",
                cure="Look whether the server hangs or the network is down; the stream goes on by itself.",
            )

    def _check_identity(self) -> None:
        """Whether deletions and moved rows can be told by the columns that the key is made of."""
        found = self._sql(_IDENTITY, self._reader.settings.db_schema, self._table)
        if not found:
            self._reader.columns(self._table)  # says that there is no such table
            return
        ((kind, names),) = found
        missing = [name for name in identity_of(self._mapping) if name not in names]
        if kind != "f" and missing:
            raise SourceError(
                f"{self._reader.label}: the stream of {self._table!r} would not tell which rows are deleted: column "
                f"{missing[0]!r}, of which the key is made, is not in the table's replica identity.",
                cure=f"ALTER TABLE {self._table} REPLICA IDENTITY FULL; or make the key of the primary key's columns.",
            )

    def _check_slot(self) -> None:
        found = self._sql("SELECT wal_status, active_pid FROM pg_replication_slots WHERE slot_name = %s", self.name)
        if not found or found[0][0] == "lost":
            what = "no longer has" if not found else "has thrown away the log that belonged to"
            raise SourceError(
                f"{self._reader.label}: the server {what} replication slot {self.name!r}, so changes of "
                f"{self._table!r} since the last batch are lost to the stream.",
                cure=f"ftl collect DIR --mode full --table {self._mapping.label.rsplit('.', 1)[1]}, then start the "
                "stream again.",
            )

    def _sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        import psycopg2

        with self._translated(), closing(psycopg2.connect(self._reader.conninfo(options=_SESSION))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(query, values or None)
                return list(cursor.fetchall()) if cursor.description else []

    def _replication(self) -> Any:
        import psycopg2
        from psycopg2.extras import LogicalReplicationConnection

        return psycopg2.connect(self._reader.conninfo(**_ALIVE), connection_factory=LogicalReplicationConnection)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        import psycopg2

        try:
            yield
        except psycopg2.Error as exc:
            raise self._named(exc) from exc

    def _named(self, exc: Exception) -> SourceError:
        text, label, settings = str(exc), self._reader.label, self._reader.settings
        for words, cure in _CURES:
            if words in text:
                filled = cure.format(user=settings.user, table=self._table, name=self.name, database=settings.database)
                return SourceError(f"{label}: the stream of {self._table!r} cannot start: {_line(text)}", cure=filled)
        if "is active for PID" in text:
            return SourceUnavailable(
                f"{label}: replication slot {self.name!r} is still in use.",
                cure="Stop the other stream of this table; one that was killed lets go within a minute.",
            )
        if self._cursor is not None:  # it ran; whatever ended it, trying again says more
            return SourceUnavailable(
                f"{label}: the stream of {self._table!r} broke off at {settings.host}:{settings.port}: {_line(text)}",
                cure="It goes on by itself once the server is back.",
            )
        return self._reader.named(exc, self._table)


@dataclass
class _Transaction:
    """A transaction under way.

    Attributes:
        skip: how many of its first changes have landed already; -1 when all of them have.
        seen: changes so far.
    """

    skip: int
    seen: int = 0


_ROWS = frozenset({b"I", b"U", b"D"})
_CURES = (
    ("requires wal_level", "Set wal_level = logical in postgresql.conf and restart the server."),
    ("must be superuser or replication role", "ALTER ROLE {user} REPLICATION;"),
    ("permission denied to start WAL sender", "ALTER ROLE {user} REPLICATION;"),
    ("must be owner of", "Let {user} own {table}, or have its owner run: CREATE PUBLICATION {name} FOR TABLE {table};"),
    ("permission denied for database", "GRANT CREATE ON DATABASE {database} TO {user};"),
    ("all replication slots are in use", "Raise max_replication_slots, or drop slots that nobody uses."),
    ("number of requested standby connections", "Raise max_wal_senders."),
    ("can no longer get changes from replication slot", "Run a full sync, then start the stream again."),
)


def _number(position: str) -> int:
    high, low = position.split("/")
    return int(high, 16) << 32 | int(low, 16)


def _line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
