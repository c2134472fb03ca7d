"""MariaDB's row-based binary log as a change stream, followed by GTID.

The server sends a heartbeat whenever it has nothing else to say, so silence always means that the connection is dead.
"""

import hashlib
import struct
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from ftl.collect.identity import identity_of
from ftl.collect.mapping import Mapping as FieldMapping
from ftl.collect.mariadb import MariaReader, answer
from ftl.collect.stream.binlog import RowDecoder, table_map
from ftl.collect.stream.binlog_cells import Declared, UnsupportedError
from ftl.collect.stream.change import Gathered, Pace, Slice, Start
from ftl.collect.stream.terms import Terms
from ftl.errors import SourceError, SourceUnavailable

_HEARTBEAT = 0.1
"""Seconds; also the longest that a finished batch waits for the server's next word."""
_DUMP = 0x12
_HEADER = struct.Struct("<IBIIIH")
"""Of an event: time, type, server, size, next place, flags."""
_QUERY, _FORMAT, _XID, _TABLE_MAP, _GTID = 2, 15, 16, 19, 162
_INSERTS, _UPDATES, _DELETES = {23, 166}, {24, 167}, {25, 168}
_COMPRESSED = {166, 167, 168}
_CATALOGUE = (
    "SELECT column_name, column_type, character_set_name FROM information_schema.columns "
    "WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position"
)
_NEEDED = (
    ("log_bin", "1", "--log-bin"),
    ("binlog_format", "ROW", "binlog_format=ROW"),
    ("binlog_row_image", "FULL", "binlog_row_image=FULL"),
)


class MariaFeed:
    """The changes of one table.

    Args:
        reader: of the source.
        mapping: of the table.
        owner: consortium, party and table, by which the server tells streams apart.
        silence: seconds without a sign of life after which the connection counts as dead.
    """

    def __init__(self, reader: MariaReader, mapping: FieldMapping, owner: Sequence[str], silence: float) -> None:
        self._reader, self._mapping = reader, mapping
        self._table, self._silence = mapping.settings.table, silence
        named = "\0".join([*owner, reader.settings.database, self._table])
        self._server_id = int.from_bytes(hashlib.sha256(named.encode()).digest()[:4], "big") | 1
        self._connection: Any = None
        self._marks: dict[str, int] = {}
        self._gtid: tuple[int, int, int] | None = None
        self._maps: dict[int, RowDecoder | None] = {}
        self._decoder: RowDecoder | None = None
        self._declared: list[Declared] = []
        self.terms = Terms(reader.label, mapping)
        self._missing = frozenset[str]()

    def mark_names(self) -> tuple[str, ...]:
        """Sequence number and server of the last transaction, per replication domain that the server knows."""
        with self._reader.connection() as connection, self._reader.translated():
            ((state,),) = answer(connection, "SELECT @@gtid_binlog_state")
        domains = sorted({gtid.split("-")[0] for gtid in state.split(",") if gtid})
        return tuple(f"gtid.{domain}{part}" for domain in domains for part in ("", ".server"))

    @contextmanager
    def begin(self) -> Iterator[Start]:
        """Take the log's position at a consistent state, then read the table, which holds at least that state.

        What the read saw already and the log brings again lands again with the same result: a row is told by its key.
        """
        reader = self._reader
        with reader.connection() as connection, reader.translated(self._table):
            self._check(connection)
            answer(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
            place = dict(answer(connection, "SHOW STATUS LIKE 'binlog_snapshot_%'"))
            file, offset = place["Binlog_snapshot_file"], int(place["Binlog_snapshot_position"])
            ((position,),) = answer(connection, "SELECT binlog_gtid_pos(%s, %s)", file, offset)
        with reader.snapshot(self._table, self._mapping.source_columns) as snapshot:
            yield Start(snapshot, _parsed(position or ""))

    def resume(self, marks: Mapping[str, int]) -> None:
        """Ask for the log from the position on."""
        self.close()
        self._marks, self._gtid, self._checksum = dict(marks), None, 0
        self._maps, self._decoder, self._declared = {}, None, self._columns()
        reader = self._reader
        with reader.translated(self._table), reader.connection() as connection:
            self._check(connection)
        with self._translated():
            self._connection = reader.connect(self._silence)
            for statement in (
                "SET @mariadb_slave_capability = 4",
                "SET @master_binlog_checksum = 'NONE'",
                f"SET @master_heartbeat_period = {int(_HEARTBEAT * 1e9)}",
                f"SET @slave_connect_state = '{_position(self._marks)}'",
                "SET @slave_gtid_strict_mode = 0",
                "SET @slave_gtid_ignore_duplicates = 0",
            ):
                answer(self._connection, statement)
            self._connection._execute_command(_DUMP, struct.pack("<IHI", 4, 0, self._server_id))  # noqa: SLF001

    def take(self, pace: Pace) -> Slice:
        """Whole transactions, or a piece of one that alone is larger than a batch.

        The position stays before a transaction of which only a piece has landed. Should it come again, every row of
        it ends as its last change says, as it did the first time.
        """
        gathered = Gathered()
        with self._translated():
            anew = self._gather(gathered, pace)
        self._flush(gathered)
        return gathered.slice(self._marks, None, anew=anew)

    def landed(self, marks: Mapping[str, int]) -> None:
        """The server keeps its log by its own rules."""

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection._force_close()  # noqa: SLF001 - a dump never ends by itself
            self._connection = None

    def drop(self) -> None:
        """Nothing was created at the source."""
        self.close()

    def _gather(self, gathered: Gathered, pace: Pace) -> bool:
        """Read events until the batch is complete; says whether the table has to be read anew."""
        until = time.monotonic() + pace.seconds
        while True:
            packet = self._connection._read_packet()  # noqa: SLF001 - PyMySQL has no public way to read a dump
            data = packet.get_all_data()
            if data[0] == 0xFE and len(data) < 9:
                raise SourceUnavailable(
                    f"{self._reader.label}: the server ended the stream of {self._table!r}.",
                    cure="It goes on by itself; look whether another stream of this table runs.",
                )
            moment, kind, _, _, _, _ = _HEADER.unpack_from(data, 1)
            if kind == _FORMAT:
                self._checksum = 4 if data[-5] else 0  # the algorithm of this log file stands before its own checksum
            elif self._event(kind, data[: len(data) - self._checksum], moment, gathered):
                return True
            if gathered.rows >= pace.rows or (self._gtid is None and time.monotonic() >= until):
                return False

    def _event(self, kind: int, data: bytes, moment: int, gathered: Gathered) -> bool:
        """Take one event in; whether the table has to be read anew. Its body begins at 20."""
        if kind in _INSERTS or kind in _UPDATES or kind in _DELETES:
            self._rows(kind, data, gathered)
            gathered.written = datetime.fromtimestamp(moment, UTC)
        elif kind == _TABLE_MAP:
            return self._map(data, gathered)
        elif kind == _GTID:
            self._ends()
            sequence, domain = struct.unpack_from("<QI", data, 20)
            (server,) = struct.unpack_from("<I", data, 6)
            self._gtid = domain, server, sequence
        elif kind == _XID:
            self._ends()
        elif kind == _QUERY:
            return self._query(data, gathered)
        return False

    def _rows(self, kind: int, data: bytes, gathered: Gathered) -> None:
        decoder = self._maps.get(int.from_bytes(data[20:26], "little"))
        if decoder is None:
            return
        columns, place = data[28], 29
        if columns >= 251:
            columns, place = int.from_bytes(data[29:31], "little"), 31
        place += (columns + 7) // 8 * (2 if kind in _UPDATES else 1)
        if kind in _COMPRESSED:
            skipped = place + 1 + (data[place] & 7)
            data, place = zlib.decompress(data[skipped:]), 0
        read = decoder.insert if kind in _INSERTS else decoder.update if kind in _UPDATES else decoder.delete
        gathered.rows += read(data, place)

    def _map(self, data: bytes, gathered: Gathered) -> bool:
        number = int.from_bytes(data[20:26], "little")
        if number in self._maps:
            return False
        found = table_map(data, 20)
        if (found.schema, found.table) != (self._reader.settings.database, self._table):
            self._maps[number] = None
            return False
        self._flush(gathered)
        if len(found.types) != len(self._declared):
            return True  # the events are of another time than the catalogue
        columns = self._mapping.source_columns
        try:
            self._decoder = RowDecoder(found, self._declared, columns, identity_of(self._mapping), self._missing)
        except UnsupportedError as exc:
            raise SourceError(
                f"{self._reader.label}: column {exc.args[0]} of {self._table!r} cannot be streamed.",
                cure="Leave the column out of the mapping, or sync the table with --mode incremental.",
            ) from exc
        self._maps = {number: self._decoder}
        return False

    def _query(self, data: bytes, gathered: Gathered) -> bool:
        size_of_schema, size_of_status = data[28], int.from_bytes(data[31:33], "little")
        text = data[33 + size_of_status + size_of_schema + 1 :].decode(errors="replace").strip()
        word = text.split(maxsplit=1)[0].upper() if text else ""
        if word == "BEGIN":
            return False
        if word not in {"COMMIT", "ROLLBACK"} and self._table in text:
            self._flush(gathered)
            self._ends()
            self._maps, self._declared = {}, self._columns()
            return word in {"TRUNCATE", "DROP", "RENAME", "CREATE"}
        self._ends()
        return False

    def _ends(self) -> None:
        """The transaction under way is over: the position is behind it."""
        if self._gtid is not None:
            domain, server, sequence = self._gtid
            self._marks |= {f"gtid.{domain}": sequence, f"gtid.{domain}.server": server}
            self._gtid = None

    def _flush(self, gathered: Gathered) -> None:
        if self._decoder is not None and len(self._decoder):
            gathered.changes.append(self._decoder.take())

    def _columns(self) -> list[Declared]:
        """The table's columns now.

        Raises:
            SourceError: the table, or a column that the mapping needs, is gone.
        """
        reader = self._reader
        with reader.connection() as connection, reader.translated(self._table):
            known = reader.columns_in(connection, self._table)
            self._missing = self.terms.missing(known)
            return [Declared(*row) for row in answer(connection, _CATALOGUE, reader.settings.database, self._table)]

    def _check(self, connection: Any) -> None:
        for name, needed, cure in _NEEDED:
            ((value,),) = answer(connection, f"SELECT @@GLOBAL.{name}")
            if str(value).upper() != needed:
                raise SourceError(
                    f"{self._reader.label}: the server's {name} is {value}; a stream needs {needed}.",
                    cure=f"Set {cure} in the server's configuration and restart it.",
                )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        import pymysql

        try:
            yield
        except (pymysql.MySQLError, OSError) as exc:
            raise self._named(exc) from exc

    def _named(self, exc: Exception) -> SourceError:
        text, reader = " ".join(map(str, exc.args)), self._reader
        if "REPLICATION SLAVE" in text or ("1045" in text and self._connection is not None):
            return SourceError(
                f"{reader.label}: user {reader.settings.user!r} may not read the binary log.",
                cure=f"GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO '{reader.settings.user}'@'…';",
            )
        if "1236" in text:
            return SourceError(
                f"{reader.label}: the server no longer has its binary log after our position "
                f"{_position(self._marks)!r}, so changes of {self._table!r} are lost to the stream.",
                cure=f"ftl collect DIR --mode full --table {self._mapping.label.rsplit('.', 1)[1]}, then start the "
                "stream again; keep the log longer (binlog_expire_logs_seconds).",
            )
        return reader.named(exc, self._table)


def _parsed(position: str) -> dict[str, int]:
    """Marks of a GTID position such as `0-7-14,1-7-3`."""
    marks: dict[str, int] = {}
    for gtid in filter(None, position.split(",")):
        domain, server, sequence = map(int, gtid.split("-"))
        marks |= {f"gtid.{domain}": sequence, f"gtid.{domain}.server": server}
    return marks


def _position(marks: Mapping[str, int]) -> str:
    domains = [name for name in marks if name.startswith("gtid.") and name.count(".") == 1]
    return ",".join(f"{name[5:]}-{marks[f'{name}.server']}-{marks[name]}" for name in sorted(domains))
