import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from collect_bank import Server, customer, landed, make_node
from ruamel.yaml import YAML
from stream_run import lake_rows, now, started, streaming, until

from benchmarks.collect.killing import FORKS
from ftl.collect import Lake, Mapping, Mode, collect, current
from ftl.collect.online import OnlineStore
from ftl.collect.stream import Pace, drop_stream, follow, status_of
from ftl.consortium import Node
from ftl.errors import LakeConflict, SourceError, SourceUnavailable


class Table:
    """The customers' table of a database of its own, with a copy of its content here."""

    def __init__(self, server: Server) -> None:
        self.server, self.database = server, server.create_database()
        server.psql(self.database, 'ALTER TABLE customers ADD PRIMARY KEY ("KNR")')
        self.rows: dict[int, dict[str, Any]] = {}

    def connect(self) -> Any:
        return psycopg2.connect(
            host="127.0.0.1",
            port=self.server.port,
            dbname=self.database,
            user="steward",
            password=self.server.password,
        )

    def change(self, *changes: tuple[int, dict[str, Any] | None]) -> None:
        """Insert, update or (None) delete customers in one transaction."""
        connection = self.connect()
        with connection, connection.cursor() as cursor:
            for number, row in changes:
                if number in self.rows:
                    cursor.execute('DELETE FROM customers WHERE "KNR" = %s', (self.rows.pop(number)["KNR"],))
                if row is not None:
                    self.rows[number] = row
                    cursor.execute(f"INSERT INTO customers VALUES ({', '.join(['%s'] * 9)})", list(row.values()))
        connection.close()

    def sql(self, *statements: str) -> None:
        connection = self.connect()
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        connection.close()

    def expected(self) -> list[dict[str, Any]]:
        rows = [landed(row) for row in self.rows.values() if row["SCORE"] != "?"]
        return sorted(rows, key=lambda row: row["id_number"])

    def node(self, root: Path, **changes: Any) -> Node:
        return make_node(root, self.server.source(self.database), **changes)


@pytest.fixture
def table(postgres: Server) -> Iterator[Table]:
    made = Table(postgres)
    yield made
    made.sql(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active_pid IS NOT NULL",
    )
    until(lambda: _dropped(made))


def _dropped(table: Table) -> bool:
    try:
        table.sql(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()"
        )
    except psycopg2.Error:
        return False
    return True


def test_a_stream_starts_with_the_whole_table_and_goes_on_with_every_change(
    table: Table, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    node = table.node(tmp_path)
    table.change(*((number, customer(number)) for number in range(200)))
    with streaming(node):
        until(lambda: len(lake_rows(node)) == 200)
        table.change((3, customer(3, LIM=1.5)), (4, None), (500, customer(500)))
        table.sql('UPDATE customers SET "LIM" = 7 WHERE "KNR" = \' ab0005x \'')
        table.rows[5]["LIM"] = 7
        table.sql("UPDATE customers SET \"KNR\" = ' ab0906x ' WHERE \"KNR\" = ' ab0006x '")
        table.rows[6]["KNR"] = " ab0906x "
        until(lambda: lake_rows(node) == table.expected())
    status = status_of(node, "customers")
    assert status is not None
    assert (status.state, status.refused) == ("stopped", 0)
    assert status.lag_seconds is None
    batches = [record.batch for record in caplog.records if record.message == "collect.batch"]  # type: ignore[attr-defined]
    assert [batch["table"] for batch in batches] == ["customers"] * status.batches
    assert batches[-1]["rows"] == status.rows
    assert batches[-1]["bytes"] > 0
    assert batches[-1]["lag_seconds"] >= 0


def test_a_stream_keeps_the_online_store_as_new_as_the_lake(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path, online=True)
    table.change(*((number, customer(number)) for number in range(20)))
    with streaming(node):
        until(lambda: len(lake_rows(node)) == 20)
        table.change((3, customer(3, LIM=1.5)), (4, None), (21, customer(21)), (5, customer(5, SCORE="?")))
        until(lambda: lake_rows(node) == table.expected())
    with closing(OnlineStore.of(node, "customers", Mapping(node, "customers"))) as online:
        rows = online.latest([(f"AB{number:04d}X",) for number in range(30)]).to_pylist()
        assert online.number == Lake(node.landed("customers")).marks("sync")[0]
    assert rows == table.expected()


def test_rows_that_the_source_marks_as_deleted_leave(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path, deleted="score = 9")
    table.change((1, customer(1)), (2, customer(2, SCORE="9")), (3, customer(3)))
    with streaming(node):
        until(lambda: len(lake_rows(node)) == 2)
        table.change((1, customer(1, SCORE="9")), (4, customer(4, SCORE="9")), (2, customer(2)))
        until(lambda: [row["id_number"] for row in lake_rows(node)] == ["AB0002X", "AB0003X"])


def test_a_lost_column_is_missing_from_now_on_where_the_contract_lets_it_evolve(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path, contract={"lost_columns": "evolve"})
    with streaming(node):
        until(lambda: started(node))
        table.change((1, customer(1)))
        until(lambda: len(lake_rows(node)) == 1)
        table.sql('ALTER TABLE customers DROP COLUMN "TEL"', "INSERT INTO customers (\"KNR\") VALUES ('x')")
        until(lambda: len(lake_rows(node)) == 2)
    assert [(row["id_number"], row["phone"]) for row in lake_rows(node)] == [("AB0001X", "861380001"), ("X", None)]


def test_the_last_change_of_a_key_within_a_batch_counts(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    with streaming(node):
        until(lambda: started(node))
        for _ in range(3):
            table.change((1, customer(1)), (2, customer(2)), (1, None), (2, None), (1, customer(1, LIM=9)))
        table.change((2, customer(2)), (2, customer(2, LIM=8)))
        until(lambda: lake_rows(node) == table.expected())


def test_a_stream_that_was_stopped_goes_on_where_it_was(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    table.change(*((number, customer(number)) for number in range(50)))
    with streaming(node):
        until(lambda: len(lake_rows(node)) == 50)
    table.change((1, customer(1, LIM=2)), (2, None), (60, customer(60)))
    with streaming(node):
        until(lambda: lake_rows(node) == table.expected())
    assert Lake(node.landed("customers")).marks("full") == (1,)  # not read again


def test_a_transaction_larger_than_a_batch_lands_in_pieces_and_once(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    with streaming(node, Pace(rows=64, seconds=0.05)):
        until(lambda: started(node))
        table.change(*((number, customer(number)) for number in range(1000)))
        until(lambda: lake_rows(node) == table.expected())
    lake = Lake(node.landed("customers"))
    assert lake.marks("sync")[0] > 10
    assert lake.count() == 1000


def test_a_poisoned_event_is_quarantined_and_the_stream_goes_on(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    table.change((1, customer(1)), (2, customer(2)))
    with streaming(node):
        until(lambda: len(lake_rows(node)) == 2)
        table.change((1, customer(1, SCORE="?")), (3, customer(3, SCORE="?")), (4, customer(4)))
        until(lambda: lake_rows(node) == table.expected())
        refused = current(node, "customers")
        assert sorted(refused.column("key").to_pylist()) == ["AB0001X", "AB0003X"]
        table.change((1, customer(1)), (5, customer(5)))
        until(lambda: lake_rows(node) == table.expected())
    assert current(node, "customers").column("key").to_pylist() == ["AB0003X"]


def test_a_truncated_table_is_read_again(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    table.change((1, customer(1)), (2, customer(2)))
    with streaming(node):
        until(lambda: len(lake_rows(node)) == 2)
        table.sql("TRUNCATE customers")
        table.rows.clear()
        table.change((7, customer(7)))
        until(lambda: lake_rows(node) == table.expected())


def test_a_column_that_is_dropped_while_streaming_stops_it_by_name(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    with pytest.raises(SourceError, match="table 'customers' has no column 'TEL'"), streaming(node) as alive:  # noqa: PT012
        until(lambda: started(node))
        table.sql('ALTER TABLE customers DROP COLUMN "TEL"', "INSERT INTO customers (\"KNR\") VALUES ('x')")
        until(lambda: alive() is None)
    status = status_of(node, "customers")
    assert status is not None
    assert status.state == "failed"
    assert "TEL" in (status.error or "")


def test_a_new_column_changes_nothing_until_it_is_mapped(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    with streaming(node):
        until(lambda: started(node))
        table.change((1, customer(1)))
        table.sql("ALTER TABLE customers ADD COLUMN more int", 'ALTER TABLE customers ALTER "KIDS" TYPE bigint')
        table.change((2, customer(2)))
        until(lambda: lake_rows(node) == table.expected())


def test_a_lost_slot_says_which_command_repairs_it_and_that_repairs_it(
    table: Table, tmp_path: Path, clock: Any
) -> None:
    node = table.node(tmp_path)
    table.change((1, customer(1)))
    with streaming(node):
        until(lambda: len(lake_rows(node)) == 1)
    table.sql(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()"
    )
    table.change((1, None), (2, customer(2)))
    message = r"no longer has replication slot .* are lost.*ftl collect DIR --mode full --table customers"
    with pytest.raises(SourceError, match=message), streaming(node) as alive:
        until(lambda: alive() is None)
    collect(node, "customers", "full", clock)
    assert lake_rows(node) == table.expected()
    with streaming(node):
        table.change((3, customer(3)))
        until(lambda: lake_rows(node) == table.expected())


def test_what_a_stream_needs_at_the_server_is_said(table: Table, tmp_path: Path) -> None:
    table.sql("ALTER TABLE customers DROP CONSTRAINT customers_pkey")
    with pytest.raises(SourceError, match=r"'KNR', of which the key is made.*REPLICA IDENTITY FULL"):
        follow(table.node(tmp_path), ["customers"], now, threading.Event())
    role = f"reader_{table.database}"
    table.sql(
        "ALTER TABLE customers REPLICA IDENTITY FULL",
        f"CREATE ROLE {role} LOGIN PASSWORD '{table.server.password}'",
        f"GRANT SELECT ON customers TO {role}",
    )
    node = make_node(tmp_path, table.server.source(table.database, user=role))
    with pytest.raises(SourceError, match=rf"GRANT CREATE ON DATABASE {table.database} TO {role}"):
        follow(node, ["customers"], now, threading.Event())
    table.sql(f"GRANT CREATE ON DATABASE {table.database} TO {role}")
    with pytest.raises(SourceError, match=r"must be owner.*CREATE PUBLICATION"):
        follow(node, ["customers"], now, threading.Event())
    table.sql(f"ALTER TABLE customers OWNER TO {role}")
    with pytest.raises(SourceError, match=rf"ALTER ROLE {role} REPLICATION"):
        follow(node, ["customers"], now, threading.Event())


def test_deletions_are_told_by_the_whole_row_where_a_table_has_no_key(table: Table, tmp_path: Path) -> None:
    table.sql("ALTER TABLE customers DROP CONSTRAINT customers_pkey", "ALTER TABLE customers REPLICA IDENTITY FULL")
    node = table.node(tmp_path)
    table.change(*((number, customer(number)) for number in range(9)))
    with streaming(node):
        until(lambda: len(lake_rows(node)) == 9)
        table.sql('UPDATE customers SET "LIM" = 7', "UPDATE customers SET \"KNR\" = ' ab0906x ' WHERE \"KNR\" ~ '0006'")
        table.rows |= {number: row | {"LIM": 7} for number, row in table.rows.items()}
        table.rows[6]["KNR"] = " ab0906x "
        table.change((4, None))
        until(lambda: lake_rows(node) == table.expected())


def test_two_streams_of_one_table_do_not_write_it_together(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    with streaming(node):
        until(lambda: started(node))
        with pytest.raises(LakeConflict, match=r"stream bank\.customers: another process is writing"):
            follow(node, ["customers"], now, threading.Event())


def test_a_stream_leaves_room_for_others_between_two_batches_and_goes_on_after_them(
    table: Table, tmp_path: Path, clock: Any
) -> None:
    node = table.node(tmp_path)
    table.change((1, customer(1)))
    with streaming(node):
        until(lambda: len(lake_rows(node)) == 1)
        until(lambda: _synced(node, "incremental", clock))
        table.change((1, customer(1, LIM=2)), (2, customer(2)))
        until(lambda: lake_rows(node) == table.expected())
        until(lambda: _synced(node, "full", clock))
        table.change((1, None), (3, customer(3)))
        until(lambda: lake_rows(node) == table.expected())
    lake = Lake(node.landed("customers"))
    assert lake.marks("full") == lake.marks("stream")


def _synced(node: Node, mode: Mode, clock: Any) -> bool:
    try:
        collect(node, "customers", mode, clock)
    except LakeConflict:
        return False
    return True


def test_a_dropped_stream_leaves_nothing_at_the_server(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    with streaming(node):
        until(lambda: started(node))
    drop_stream(node, "customers")
    connection = table.connect()
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()), "
            "(SELECT count(*) FROM pg_publication)"
        )
        assert cursor.fetchone() == (0, 0)
    connection.close()


def test_an_absent_server_is_named_when_patience_ends(tmp_path: Path, postgres: Server) -> None:
    node = make_node(tmp_path, postgres.source("postgres", port=1))
    with pytest.raises(SourceUnavailable, match=r"no PostgreSQL answers at 127\.0\.0\.1:1"):
        follow(node, ["customers"], now, threading.Event(), pace=Pace(patience=0.3))


def test_a_server_that_falls_silent_is_noticed_and_ridden_out(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    with streaming(node, Pace(seconds=0.05, silence=3, patience=90)) as alive:
        until(lambda: (status := alive()) is not None and status.state == "streaming")
        connection = table.connect()
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT active_pid FROM pg_replication_slots WHERE database = current_database()")
            (process,) = cursor.fetchone()
        connection.close()
        os.kill(process, signal.SIGSTOP)
        try:
            until(lambda: (status := alive()) is not None and status.state == "waiting")
            status = alive()
            assert status is not None
            assert "has been silent for 3 s" in (status.error or "")
        finally:
            os.kill(process, signal.SIGCONT)
        table.change((1, customer(1)))
        until(lambda: lake_rows(node) == table.expected())


def _follow_forever(node: Node) -> None:
    follow(node, ["customers"], now, threading.Event(), pace=Pace(rows=5, seconds=0.02))


def test_a_stream_killed_at_random_moments_ends_equal_to_the_source(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    draw = random.Random(1)
    table.change(*((number, customer(number)) for number in range(100)))
    for _ in range(6):
        process = FORKS.Process(target=_follow_forever, args=(node,))
        process.start()
        ends = time.monotonic() + draw.uniform(0.3, 1.5)
        while time.monotonic() < ends:
            numbers = draw.sample(range(150), 12)
            scores = ["?" if draw.random() < 0.05 else "5" for _ in numbers]
            table.change(
                *(
                    (number, None if draw.random() < 0.3 else customer(number, LIM=draw.randrange(99), SCORE=score))
                    for number, score in zip(numbers, scores, strict=True)
                )
            )
        process.kill()
        process.join(60)
    with streaming(node):
        until(lambda: lake_rows(node) == table.expected())
    refused = {f"AB{number:04d}X" for number, row in table.rows.items() if row["SCORE"] == "?"}
    assert refused <= set(current(node, "customers").column("key").to_pylist())


def test_a_stream_rides_out_a_crash_of_the_server(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    table.change(*((number, customer(number)) for number in range(50)))
    with streaming(node) as alive:
        until(lambda: len(lake_rows(node)) == 50)
        table.server.crash()
        until(lambda: (status := alive()) is not None and status.state == "waiting")
        table.server.start()
        table.change((1, None), (2, customer(2, LIM=3)), (70, customer(70)))
        until(lambda: lake_rows(node) == table.expected())


def test_a_log_that_the_server_threw_away_is_told(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    with streaming(node):
        until(lambda: started(node))
    table.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()")
    try:
        for number in range(5):
            table.change((number, customer(number)))
            table.sql("SELECT pg_switch_wal()")
        table.sql("CHECKPOINT")
        with pytest.raises(SourceError, match=r"thrown away the log.*--mode full --table customers"):
            follow(node, ["customers"], now, threading.Event())
    finally:
        table.sql("ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")


def test_the_command_follows_until_it_is_told_to_end_and_finishes_its_batch(table: Table, tmp_path: Path) -> None:
    node = table.node(tmp_path)
    settings = json.loads(node.consortium.model_dump_json(by_alias=True, exclude_defaults=True))
    bank = settings["parties"]["bank"]
    settings["parties"]["office"] = {name: bank[name] for name in bank if name != "label"} | {"role": "passive"}
    with (tmp_path / "consortium.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(settings, file)
    command = [
        sys.executable,
        "-m",
        "ftl.cli",
        "collect",
        str(tmp_path),
        "--party",
        "bank",
        "--mode",
        "stream",
        "--json",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        until(lambda: started(node) or process.poll() is not None)
        table.change((1, customer(1)), (2, customer(2)))
        until(lambda: len(lake_rows(node)) == 2)
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    (status,) = json.loads(printed)
    assert (status["table"], status["state"], status["rows"]) == ("customers", "stopped", 2)
