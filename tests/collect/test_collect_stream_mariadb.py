import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from collect_bank import customer, landed, make_node
from mariadb_server import Maria
from stream_run import lake_rows, now, started, streaming, until
from test_collect_mariadb import EXPECTED, ODD_COLUMNS, fill_odd

from benchmarks.collect.killing import FORKS
from ftl.collect import Lake, collect, current
from ftl.collect.stream import Pace, follow
from ftl.consortium import Node
from ftl.errors import SourceError


class Table:
    """The customers' table of a database of its own, with a copy of its content here."""

    def __init__(self, server: Maria) -> None:
        self.server, self.database = server, server.create_database()
        self.rows: dict[int, dict[str, Any]] = {}

    def change(self, *changes: tuple[int, dict[str, Any] | None]) -> None:
        """Insert, update or (None) delete customers in one transaction."""
        connection = self.server.connect(self.database)
        connection.begin()
        with connection.cursor() as cursor:
            for number, row in changes:
                if row is None:
                    if number in self.rows:
                        cursor.execute("DELETE FROM customers WHERE KNR = %s", (self.rows.pop(number)["KNR"],))
                elif number in self.rows:
                    names = ", ".join(f"{name} = %s" for name in row)
                    values = [*row.values(), self.rows[number]["KNR"]]
                    cursor.execute(f"UPDATE customers SET {names} WHERE KNR = %s", values)
                    self.rows[number] = row
                else:
                    cursor.execute(f"INSERT INTO customers VALUES ({', '.join(['%s'] * 9)})", list(row.values()))
                    self.rows[number] = row
        connection.commit()
        connection.close()

    def run(self, *statements: str) -> None:
        self.server.run(self.database, *statements)

    def purge(self) -> int:
        """Remove all binary logs but the newest; gives how many are left, more where one is being read."""
        connection = self.server.connect(self.database)
        with connection, connection.cursor() as cursor:
            cursor.execute("SHOW BINARY LOGS")
            cursor.execute("PURGE BINARY LOGS TO %s", (cursor.fetchall()[-1][0],))
            return cursor.execute("SHOW BINARY LOGS")

    def expected(self) -> list[dict[str, Any]]:
        rows = [landed(row) for row in self.rows.values() if row["SCORE"] != "?"]
        return sorted(rows, key=lambda row: row["id_number"])

    def node(self, root: Path, **changes: Any) -> Node:
        return make_node(root, self.server.source(self.database), **changes)


@pytest.fixture
def table(mariadb: Maria) -> Table:
    return Table(mariadb)


def test_a_mariadb_stream_lands_every_insert_update_and_deletion(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    table.change(*((number, customer(number)) for number in range(200)))
    with streaming(node):
        until(lambda: len(lake_rows(node)) == 200)
        table.change((3, customer(3, LIM=1.5)), (4, None), (500, customer(500)))
        table.change((6, customer(906)))
        table.run("UPDATE customers SET LIM = 7 WHERE KNR LIKE '%000%'")
        table.rows |= {n: row | {"LIM": 7} for n, row in table.rows.items() if "000" in row["KNR"]}
        until(lambda: lake_rows(node) == table.expected())
    table.change((1, customer(1, LIM=2)), (2, None), (60, customer(60, LIM=0.25)))
    with streaming(node):
        until(lambda: lake_rows(node) == table.expected())
    assert Lake(node.landed("customers")).marks("full") == (1,)  # not read again


def test_every_mariadb_type_streams_as_it_is_read(mariadb: Maria, tmp_path: Path) -> None:
    database = mariadb.create_database()
    mariadb.run(database, "SET sql_mode = ''")
    fill_odd(mariadb, database)
    settings = {"table": "odd", "columns": ODD_COLUMNS, "derived": {}, "cursor": None}
    node = make_node(tmp_path, mariadb.source(database), **settings)
    with streaming(node):
        until(lambda: len(lake_rows(node)) == 3)
        read = lake_rows(node)
        mariadb.run(
            database,
            "CREATE TABLE copy AS SELECT * FROM odd",
            "DELETE FROM odd",
            "SET sql_mode = ''",
            "INSERT INTO odd SELECT * FROM copy ORDER BY id DESC",
            "INSERT INTO odd (id, amount, price, length) VALUES ('k4', -0.00000001, -9999999999.99, '838:59:59')",
        )
        until(lambda: len(lake_rows(node)) == 4)
    rows = lake_rows(node)
    assert rows[0] == EXPECTED
    assert rows[:3] == read
    assert rows[3]["amount"] == "-0.00000001"
    assert rows[3]["price"] == -9999999999.99
    assert rows[3]["length"] == "838:59:59.00"


def test_one_poisoned_event_among_many_is_quarantined(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    with streaming(node, Pace(rows=300, seconds=0.05)):
        until(lambda: started(node))
        table.change(*((number, customer(number, SCORE="?" if number == 777 else "1")) for number in range(1000)))
        until(lambda: lake_rows(node) == table.expected())
    assert current(node, "customers").column("key").to_pylist() == ["AB0777X"]


def test_a_mariadb_table_that_is_truncated_or_altered_goes_on(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    table.change((1, customer(1)), (2, customer(2)))
    with streaming(node):
        until(lambda: len(lake_rows(node)) == 2)
        table.run("TRUNCATE TABLE customers")
        table.rows.clear()
        table.change((7, customer(7)))
        until(lambda: lake_rows(node) == table.expected())
        table.run("ALTER TABLE customers ADD COLUMN more int FIRST")
        table.run("ALTER TABLE customers DROP COLUMN more, MODIFY KIDS bigint")
        table.change((8, customer(8)))
        until(lambda: lake_rows(node) == table.expected())


def test_a_column_dropped_from_a_mariadb_table_stops_the_stream_by_name(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    with pytest.raises(SourceError, match="table 'customers' has no column 'TEL'"), streaming(node) as alive:  # noqa: PT012
        until(lambda: started(node))
        table.run("ALTER TABLE customers DROP COLUMN TEL")
        until(lambda: alive() is None)


def test_a_purged_binary_log_says_which_command_repairs_it(table: Table, tmp_path: Path, clock: Any) -> None:
    node = table.node(tmp_path)
    table.change((1, customer(1)))
    with streaming(node):
        until(lambda: started(node))
    table.change((2, customer(2)))
    table.run("FLUSH BINARY LOGS")
    table.change((3, customer(3)))
    table.run("FLUSH BINARY LOGS")
    until(lambda: table.purge() == 1)
    message = r"no longer has its binary log .*--mode full --table customers"
    with pytest.raises(SourceError, match=message), streaming(node) as alive:
        until(lambda: alive() is None)
    collect(node, "customers", "full", clock)
    with streaming(node):
        table.change((4, customer(4)))
        until(lambda: lake_rows(node) == table.expected())


def test_what_a_mariadb_stream_needs_is_said(table: Table, tmp_path: Path) -> None:
    reader = f"reader_{table.database}"
    table.run(
        f"CREATE USER {reader}@'127.0.0.1' IDENTIFIED BY '{table.server.password}'",
        f"GRANT SELECT ON customers TO {reader}@'127.0.0.1'",
    )
    node = make_node(tmp_path, table.server.source(table.database, user=reader))
    with pytest.raises(SourceError, match="GRANT REPLICATION SLAVE, BINLOG MONITOR"):
        follow(node, ["customers"], now, threading.Event())
    table.run("SET GLOBAL binlog_row_image = 'MINIMAL'")
    try:
        with pytest.raises(SourceError, match=r"binlog_row_image is MINIMAL; a stream needs FULL"):
            follow(table.node(tmp_path / "other"), ["customers"], now, threading.Event())
    finally:
        table.run("SET GLOBAL binlog_row_image = 'FULL'")


def test_a_stream_rides_out_a_crash_of_mariadb(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    table.change(*((number, customer(number)) for number in range(50)))
    with streaming(node) as alive:
        until(lambda: len(lake_rows(node)) == 50)
        table.server.stop(signal.SIGKILL)
        until(lambda: (status := alive()) is not None and status.state == "waiting")
        table.server.start()
        table.change((1, None), (2, customer(2, LIM=3)), (70, customer(70)))
        until(lambda: lake_rows(node) == table.expected())


def test_a_server_that_falls_silent_is_noticed_and_ridden_out(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    assert table.server.process is not None
    with streaming(node, Pace(seconds=0.05, silence=1.5, patience=90)) as alive:
        until(lambda: (status := alive()) is not None and status.state == "streaming")
        table.server.process.send_signal(signal.SIGSTOP)
        try:
            until(lambda: (status := alive()) is not None and status.state == "waiting")
        finally:
            table.server.process.send_signal(signal.SIGCONT)
        table.change((1, customer(1)))
        until(lambda: lake_rows(node) == table.expected())


def _follow_forever(node: Node) -> None:
    follow(node, ["customers"], now, threading.Event(), pace=Pace(rows=40, seconds=0.02))


def test_a_mariadb_stream_killed_at_random_moments_ends_equal_to_the_source(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    draw = random.Random(2)
    table.change(*((number, customer(number)) for number in range(100)))
    for _ in range(5):
        process = FORKS.Process(target=_follow_forever, args=(node,))
        process.start()
        ends = time.monotonic() + draw.uniform(0.3, 1.5)
        while time.monotonic() < ends:
            changes: list[tuple[int, dict[str, Any] | None]] = []
            for number in draw.sample(range(150), 12):
                score = "?" if draw.random() < 0.05 else "5"
                row = customer(number, LIM=draw.randrange(99), SCORE=score)
                changes.append((number, None if draw.random() < 0.3 else row))
            table.change(*changes)
        process.kill()
        process.join(60)
    with streaming(node):
        until(lambda: lake_rows(node) == table.expected())
