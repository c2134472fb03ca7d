"""Full syncs that are cut off go on where they were, whatever changed at the source meanwhile."""

import csv
import json
import logging
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collect_bank import Server, make_node
from mariadb_server import Maria

from benchmarks.collect.killing import run
from ftl.collect import Lake, collect, current
from ftl.collect.unfinished import NOTE
from ftl.consortium import Node
from ftl.errors import SourceError

ROWS = 2000
COLUMNS = {
    "number": {"from": "id", "type": "int64"},
    "name": {"from": "name", "type": "string"},
    "amount": {"from": "amount", "type": "int64"},
    "changed": {"from": "changed", "type": "timestamp"},
}
Row = tuple[int, str, str, str]


def _row(number: int, amount: str | None = None, changed: str = "2024-05-01 10:00:00") -> Row:
    """Every hundredth has no amount that can be read."""
    return number, f"name {number}", amount or ("?" if number % 100 == 0 else str(number)), changed


def _source() -> dict[int, Row]:
    return {number: _row(number) for number in range(1, ROWS + 1)}


@dataclass
class Ledger:
    """A node over one table, and how its source is given another content."""

    node: Node
    write: Callable[[dict[int, Row], dict[int, Row]], None]
    """From the rows that are there to those that shall be."""


CREATE = "CREATE TABLE ledger (id bigint PRIMARY KEY, name varchar(40), amount varchar(10), changed {})"


def _open(kind: str, root: Path, request: pytest.FixtureRequest) -> Ledger:
    if kind in {"csv", "parquet"}:
        folder = root / "files"
        folder.mkdir()
        return Ledger(_node(root, {"kind": kind, "path": "files"}, f"*.{kind}"), partial(_rewrite, folder, kind))
    source, execute = _database(kind, root, request)
    return Ledger(_node(root, source), partial(_change, execute))


def _node(root: Path, source: dict[str, Any], table: str = "ledger", **changes: Any) -> Node:
    settings = {"columns": COLUMNS, "derived": {}, "key": ["number"], "cursor": "changed"}
    return make_node(root, source, table, **settings | changes)


Execute = Callable[[list[str]], None]


def _database(kind: str, root: Path, request: pytest.FixtureRequest) -> tuple[dict[str, Any], Execute]:
    """An empty table, and what does statements in one transaction."""
    if kind == "postgresql":
        server: Server = request.getfixturevalue("postgres")
        database = server.create_database()
        server.psql(database, CREATE.format("timestamp"))
        return server.source(database), lambda asked: server.psql(database, f"BEGIN;{';'.join(asked)}; COMMIT")
    if kind == "mariadb":
        maria: Maria = request.getfixturevalue("mariadb")
        database = maria.create_database()
        maria.run(database, CREATE.format("datetime"))
        return maria.source(database), lambda asked: maria.run(database, "BEGIN", *asked, "COMMIT")

    def execute(asked: list[str]) -> None:
        with closing(sqlite3.connect(root / "core.db")) as connection, connection:
            for statement in asked:
                connection.execute(statement)

    execute([CREATE.format("TEXT")])
    return {"kind": "sqlite", "path": "core.db"}, execute


def _change(execute: Execute, was: dict[int, Row], shall: dict[int, Row]) -> None:
    statements = [f"DELETE FROM ledger WHERE id = {number}" for number in was if number not in shall]
    fresh = [row for number, row in shall.items() if number not in was]
    if fresh:
        statements.append(f"INSERT INTO ledger VALUES {', '.join(map(str, fresh))}")
    statements += [
        f"UPDATE ledger SET amount = '{row[2]}', changed = '{row[3]}' WHERE id = {number}"
        for number, row in shall.items()
        if number in was and was[number] != row
    ]
    execute(statements)


def _rewrite(folder: Path, kind: str, was: dict[int, Row], shall: dict[int, Row]) -> None:
    """Two files, of which only one that is to have other rows is written."""
    for place, low, high in ((0, 0, ROWS // 2), (1, ROWS // 2, 10 * ROWS)):
        before, rows = ([row for key, row in some.items() if low < key <= high] for some in (was, shall))
        if before == rows:
            continue
        path = folder / f"{place}.{kind}"
        if kind == "parquet":
            names = [column["from"] for column in COLUMNS.values()]
            pq.write_table(pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))), path)
            continue
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([[column["from"] for column in COLUMNS.values()], *rows])


def _in_small_pieces() -> None:
    """Let a source give its rows in pieces of some hundred, each of which is noted."""
    import ftl.collect.csv_files
    import ftl.collect.full
    import ftl.collect.heap
    import ftl.collect.key_order
    import ftl.collect.mariadb
    import ftl.collect.parquet_files
    import ftl.collect.pieces
    import ftl.collect.sqlite

    ftl.collect.full.CHAPTER_ROWS = 1
    ftl.collect.heap.BLOCKS = 2
    for room in (ftl.collect.pieces, ftl.collect.key_order):
        room.PIECE_ROWS = 150
    for source in (ftl.collect.sqlite, ftl.collect.mariadb, ftl.collect.csv_files, ftl.collect.parquet_files):
        source.BATCH_ROWS = 64
    ftl.collect.csv_files._BLOCK_BYTES = 4096


def _moment() -> datetime:
    return datetime(2024, 6, 1, tzinfo=UTC)


def _killed_after(node: Node, chapters: int) -> None:
    """In a process of its own: sync, and die when so many chapters are noted."""
    from ftl.collect.unfinished import Chapter, Unfinished

    _in_small_pieces()
    noted, add = [], Unfinished.add

    def fragile(self: Unfinished, chapter: Chapter) -> None:
        add(self, chapter)
        noted.append(chapter)
        if len(noted) == chapters:
            os.kill(os.getpid(), signal.SIGKILL)

    Unfinished.add = fragile  # type: ignore[method-assign]
    collect(node, "customers", "full", _moment)


def _kill(node: Node, chapters: int = 3) -> int:
    """How many rows are noted as finished."""
    assert run(_killed_after, node, chapters) == -signal.SIGKILL
    noted = json.loads((node.landed("customers") / NOTE).read_text())
    return sum(chapter["seen"]["scanned"] for chapter in noted["chapters"])


@contextmanager
def _resumed(caplog: pytest.LogCaptureFixture) -> Iterator[list[int]]:
    """How many rows the sync inside did not read again; empty where it began anew."""
    found = list[int]()
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="ftl.collect.unfinished"):
        yield found
    found += [record.rows for record in caplog.records if record.message == "collect.resumed"]


def _expect(node: Node, source: dict[int, Row]) -> None:
    """The landed table and the quarantine are the source, row for row, and no file lies about."""
    landed = Lake(node.landed("customers"))
    rows = landed.read(["number", "name", "amount", "changed"]).sort_by("number").to_pylist()
    assert rows == [
        {
            "number": number,
            "name": name,
            "amount": int(amount),
            "changed": datetime.fromisoformat(changed).replace(tzinfo=UTC),
        }
        for number, name, amount, changed in (source[key] for key in sorted(source))
        if amount != "?"
    ]
    refused = [int(json.loads(raw)["id"]) for raw in current(node, "customers").column("raw").to_pylist()]
    assert sorted(refused) == sorted(number for number, row in source.items() if row[2] == "?")
    assert not (landed.path / NOTE).exists()
    named = {part.path.name for part in landed.parts()}
    assert {path.name for path in landed.path.glob("rewrite-*")} >= named
    assert not list(landed.path.glob("*refused*"))


@pytest.mark.parametrize("kind", ["sqlite", "csv", "parquet", "postgresql", "mariadb"])
def test_a_full_sync_that_was_killed_reads_only_the_rest(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = _open(kind, tmp_path, request)
    ledger.write({}, _source())
    noted = _kill(ledger.node)
    told = []
    with _resumed(caplog) as resumed:
        report = collect(ledger.node, "customers", "full", _moment, told.append)
    assert resumed == [noted]
    assert 3 * 100 <= noted < ROWS
    assert next(step.rows for step in told if step.step == "mapped") > resumed[0]  # goes on counting from there
    assert (report.rows_read, report.rows_landed, report.rows_quarantined) == (ROWS, ROWS - ROWS // 100, ROWS // 100)
    _expect(ledger.node, _source())
    assert collect(ledger.node, "customers", "full", _moment).skipped


@pytest.mark.parametrize("kind", ["sqlite", "csv", "postgresql", "mariadb"])
def test_what_changed_while_a_killed_sync_lay_there_is_read_again(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    ledger, source = _open(kind, tmp_path, request), _source()
    ledger.write({}, source)
    noted = _kill(ledger.node, 5)
    # One is changed in the last chapter that is noted, one leaves it, one comes; all others stand.
    later = source | {700: _row(700, "77", "2024-05-03 10:00:00"), 5000: _row(5000, changed="2024-05-03 10:00:00")}
    del later[701]
    ledger.write(source, later)
    with _resumed(caplog) as resumed:
        collect(ledger.node, "customers", "full", _moment)
    _expect(ledger.node, later)
    if kind in {"postgresql", "mariadb"}:  # a write to the database, or to the file, makes all of it doubtful
        assert 0 < resumed[0] < noted
    else:
        assert resumed == []


def test_postgresql_needs_no_cursor_to_see_what_changed(
    tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    ledger, source = _open("postgresql", tmp_path, request), _source()
    ledger.write({}, source)
    _kill(ledger.node, 5)
    later = source | {3: _row(3, "33"), 4: _row(4, "44")}  # with the old time of change
    del later[5]
    later[6000] = _row(6000)
    ledger.write(source, later)
    with _resumed(caplog) as resumed:
        collect(ledger.node, "customers", "full", _moment)
    _expect(ledger.node, later)
    assert 0 < resumed[0] < ROWS


def test_a_table_of_postgresql_that_was_written_anew_is_read_anew(
    tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = _open("postgresql", tmp_path, request)
    ledger.write({}, _source())
    _kill(ledger.node)
    server: Server = request.getfixturevalue("postgres")
    server.psql(ledger.node.party.sources["core"].database, "VACUUM FULL ledger")
    with _resumed(caplog) as resumed:
        collect(ledger.node, "customers", "full", _moment)
    assert resumed == []
    _expect(ledger.node, _source())


def test_a_file_that_changed_is_read_again_and_its_sibling_is_not(
    tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    ledger, source = _open("csv", tmp_path, request), _source()
    ledger.write({}, source)
    _kill(ledger.node, 9)  # some of them are of the second file
    later = source | {ROWS: _row(ROWS, "1")}
    ledger.write(source, later)
    with _resumed(caplog) as resumed:
        collect(ledger.node, "customers", "full", _moment)
    assert 0 < resumed[0] <= ROWS // 2
    _expect(ledger.node, later)


def test_a_sync_may_be_killed_again_and_again(
    tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    ledger, source = _open("postgresql", tmp_path, request), _source()
    ledger.write({}, source)
    for attempt in range(3):
        _kill(ledger.node, 2)
        later = source | {10 + attempt: _row(10 + attempt, "7")}
        ledger.write(source, later)
        source = later
    with _resumed(caplog) as resumed:
        collect(ledger.node, "customers", "full", _moment)
    assert resumed[0] > 500
    _expect(ledger.node, source)


def test_a_primary_key_need_not_be_mapped_to_go_on_in_its_order(
    tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    ledger, source = _open("mariadb", tmp_path, request), _source()
    ledger.write({}, source)
    columns = {name: column for name, column in COLUMNS.items() if name != "number"}
    settings = ledger.node.party.sources["core"].model_dump(mode="json", by_alias=True)
    node = _node(tmp_path, settings, columns=columns, key=["name"])
    noted = _kill(node)
    with _resumed(caplog) as resumed:
        collect(node, "customers", "full", _moment)
    assert resumed == [noted]
    names = Lake(node.landed("customers")).read(["name"]).column("name").to_pylist()
    assert sorted(names) == sorted(name for _, name, amount, _ in source.values() if amount != "?")


@pytest.mark.parametrize("what", ["mapping", "commit", "file"])
def test_what_no_longer_fits_is_read_anew(
    what: str, tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    ledger, source = _open("postgresql", tmp_path, request), _source()
    node = ledger.node
    if what == "commit":
        ledger.write({}, {})
        collect(node, "customers", "full", _moment)
    ledger.write({}, source)
    _kill(node)
    if what == "mapping":
        changed = COLUMNS | {"name": {"from": "name", "type": "string", "normalise": "upper"}}
        settings = node.party.sources["core"].model_dump(mode="json", by_alias=True)
        node = _node(tmp_path, settings, columns=changed)
    elif what == "commit":
        lake = Lake(node.landed("customers"))
        rows = lake.read()
        lake.merge(rows, ["number"], rows.select(["number"]), {"other": 1})
    else:
        for path in node.landed("customers").glob("rewrite-*.parquet"):
            path.write_bytes(path.read_bytes()[:-20])
    with _resumed(caplog) as resumed:
        collect(node, "customers", "full", _moment)
    assert resumed == []
    if what == "mapping":
        names = Lake(node.landed("customers")).read(["name"]).column("name").to_pylist()
        assert all(name == name.upper() for name in names)
    else:
        _expect(node, source)


def test_several_readers_see_one_state_of_a_table_that_changes(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ftl.collect.heap

    monkeypatch.setattr(ftl.collect.heap, "BLOCKS", 2)
    ledger, server = _open("postgresql", tmp_path, request), request.getfixturevalue("postgres")
    settings = ledger.node.party.sources["core"].model_dump(mode="json", by_alias=True) | {"readers": 3}
    node = _node(tmp_path, settings, cursor=None)
    ledger.write({}, {number: _row(number, "0") for number in range(1, ROWS + 1)})
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            server.psql(settings["database"], "UPDATE ledger SET amount = (amount::int + 1)::text")

    worker = threading.Thread(target=work)
    worker.start()
    try:
        seen = set()
        for _ in range(5):
            collect(node, "customers", "full", _moment)
            rows = Lake(node.landed("customers")).read(["number", "amount"])
            assert sorted(rows.column("number").to_pylist()) == list(range(1, ROWS + 1))
            (amount,) = set(rows.column("amount").to_pylist())
            seen.add(amount)
            time.sleep(0.2)
        assert len(seen) > 1
    finally:
        stop.set()
        worker.join()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_keys_other_than_those_of_the_source_land_nowhere(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftl.collect.mariadb import MariaReader
    from ftl.collect.postgres import PostgresReader
    from ftl.collect.sqlite import SqliteReader

    reader: Any = {"sqlite": SqliteReader, "postgresql": PostgresReader, "mariadb": MariaReader}[kind]
    whole = reader._batches

    def twice(*arguments: Any) -> Iterator[pa.RecordBatch]:
        for batch in whole(*arguments):
            yield pa.concat_batches([batch.slice(0, batch.num_rows - 1), batch.slice(batch.num_rows - 2, 1)])

    ledger = _open(kind, tmp_path, request)
    ledger.write({}, _source())
    monkeypatch.setattr(reader, "_batches", twice)
    with pytest.raises(SourceError, match=r"parties\.bank\.tables\.customers: .* control total of 'id'"):
        collect(ledger.node, "customers", "full", _moment)
    assert Lake(ledger.node.landed("customers")).count() == 0
    monkeypatch.undo()
    collect(ledger.node, "customers", "full", _moment)
    _expect(ledger.node, _source())
