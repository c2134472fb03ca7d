"""Change streams: how many rows a second reach the lake, and how long one is under way.

Throughput: changes pile up at the source while nobody follows; then the stream starts and works them off. Latency: a
writer commits steadily, and each row's time runs from its commit to the moment at which a batch that holds it is
readable in the lake and in the online store.
"""

import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg2
import pymysql

from benchmarks.collect.invoices import party
from benchmarks.collect.servers import TABLE, MariaDb, Postgres, mariadb, postgres
from ftl.collect import Lake
from ftl.collect.stream import StreamStatus, follow
from ftl.consortium import Node

ROWS_PER_SECOND = 2_000
"""Of the writer whose rows are timed."""
_ROWS_PER_COMMIT = 100
_ROWS_PER_TRANSACTION = 1_000
_PATIENCE = 600.0
_ROW = (
    "({n}, '{n:08d}', '91{e:016d}', '92{n:016d}', '2024-05-01 10:00:00', '2024-05-31', {n}.25, 1.5, 'goods', 0, "
    "'2024-05-01 10:00:00')"
)


def figures(rows: int, seconds: float) -> dict[str, float]:
    """Measure both databases on servers of our own.

    Args:
        rows: changes to work off.
        seconds: for which the steady writer writes.

    Returns:
        `stream_rows_per_second_postgres`, `stream_rows_per_second_mariadb` and `stream_p99_seconds` (of PostgreSQL).
    """
    with tempfile.TemporaryDirectory() as folder, postgres() as server:
        server.psql(TABLE.format(time="timestamp", real="double precision"))
        node = _online(party(Path(folder), server.source, "invoices"))
        write = _postgres_writer(server)
        found = {"stream_rows_per_second_postgres": _throughput(node, write, rows)}
        found["stream_p99_seconds"] = _p99(node, write, rows, seconds)
    with tempfile.TemporaryDirectory() as folder, mariadb() as server:
        server.run("CREATE DATABASE benchmark; USE benchmark;" + TABLE.format(time="datetime(6)", real="double"))
        node = _online(party(Path(folder), server.source, "invoices"))
        found["stream_rows_per_second_mariadb"] = _throughput(node, _mariadb_writer(server), rows)
    return found


Write = Callable[[list[str]], None]
"""Runs statements in one transaction."""


def _throughput(node: Node, write: Write, rows: int) -> float:
    """Rows a second: nine inserts in ten, the tenth change updates a row of some transactions before."""
    _followed(node, lambda status: status.state == "streaming", lambda: None)
    fresh = rows * 9 // 10
    for first in range(0, fresh, _ROWS_PER_TRANSACTION):
        numbers = range(first, min(first + _ROWS_PER_TRANSACTION, fresh))
        write([_insert(numbers)])
    changed = f"UPDATE invoices SET amount = amount + 1 WHERE invoice_id < {rows - fresh}"
    write([changed])
    started = list[float]()

    def begins(status: StreamStatus) -> bool:
        if status.state == "streaming" and not started:
            started.append(time.monotonic())
        return status.rows >= rows

    _followed(node, begins, lambda: None)
    spent = time.monotonic() - started[0]
    assert Lake(node.landed("invoices")).count() == fresh
    return rows / spent


def _p99(node: Node, write: Write, first: int, seconds: float) -> float:
    """Seconds that 99 of 100 rows take at most; three of four rows are new, the others change an older one."""
    committed, arrived = list[float](), list[tuple[int, float]]()
    count = int(ROWS_PER_SECOND * seconds)

    def source() -> None:
        begun = time.monotonic()
        for done in range(0, count, _ROWS_PER_COMMIT):
            time.sleep(max(begun + done / ROWS_PER_SECOND - time.monotonic(), 0))
            fresh = range(first + done, first + done + _ROWS_PER_COMMIT * 3 // 4)
            older = f"BETWEEN {done // 4} AND {done // 4 + _ROWS_PER_COMMIT // 4 - 1}"
            write([_insert(fresh), f"UPDATE invoices SET amount = amount + 1 WHERE invoice_id {older}"])
            committed.extend([time.monotonic()] * _ROWS_PER_COMMIT)

    def ends(status: StreamStatus) -> bool:
        if status.state == "streaming":
            arrived.append((status.rows, time.monotonic()))
        return status.rows >= count

    _followed(node, ends, source)
    seen = np.array([rows for rows, _ in arrived])
    at = np.array([moment for _, moment in arrived])
    return float(np.percentile(at[np.searchsorted(seen, np.arange(count), side="right")] - np.array(committed), 99))


def _followed(node: Node, done: Callable[[StreamStatus], bool], meanwhile: Callable[[], None]) -> None:
    """Follow until `done` says so of a status; `meanwhile` runs once the stream is up."""
    stop, up = threading.Event(), threading.Event()

    def show(status: StreamStatus) -> None:
        if status.state == "streaming":
            up.set()
        if done(status):
            stop.set()

    thread = threading.Thread(target=follow, args=(node, ["invoices"], _now, stop, show))
    thread.start()
    if not up.wait(_PATIENCE):
        raise SystemExit("the stream did not start")
    meanwhile()
    thread.join(_PATIENCE)
    if thread.is_alive():
        raise SystemExit("the stream did not come to its end")


def _insert(numbers: range) -> str:
    return "INSERT INTO invoices VALUES " + ", ".join(_ROW.format(n=number, e=number % 20_000) for number in numbers)


def _postgres_writer(server: Postgres) -> Write:
    connection = psycopg2.connect(server.url)

    def write(statements: list[str]) -> None:
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    return write


def _mariadb_writer(server: MariaDb) -> Write:
    def write(statements: list[str]) -> None:
        with closing(_connected(server)) as connection, connection.cursor() as cursor:
            connection.begin()
            for statement in statements:
                cursor.execute(statement)
            connection.commit()

    return write


def _connected(server: MariaDb) -> Any:
    return pymysql.connect(
        host="127.0.0.1", port=server.port, user="steward", password=server.password, database="benchmark"
    )


def _online(node: Node) -> Node:
    """The same node, whose invoices are also kept in the online store."""
    table = node.party.tables["invoices"].model_copy(update={"online": True})
    return replace(node, party=node.party.model_copy(update={"tables": {"invoices": table}}))


def _now() -> datetime:
    return datetime.now(UTC)
