"""A disk that is full at some step or other: what is full is said, and nothing is lost."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from collect_bank import Bank, customer, landed, make_node, open_bank
from small_disk import SmallDisk, small_disk
from stream_run import lake_rows, started, streaming, until
from test_collect_stream_mariadb import Table

from ftl.collect import Lake, collect, current
from ftl.collect.stream import status_of
from ftl.errors import LakeError

ROOMS = (0, 4_096, 12_288, 24_576, 49_152, 98_304, 196_608, 393_216, 1 << 20, 4 << 20)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as made:
        yield made


def rows_of(bank: Bank) -> list[dict[str, Any]]:
    rows = Lake(bank.node.landed("customers")).read().drop_columns(["_sync"]).to_pylist()
    return sorted(rows, key=lambda row: row["id_number"])


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_a_sync_on_a_full_disk_says_so_and_loses_nothing(
    mode: Any, disk: SmallDisk, request: pytest.FixtureRequest, clock: Any
) -> None:
    bank = open_bank("sqlite", disk.folder, request, online=True, history=True)
    source = [customer(number) for number in range(1000)]
    bank.write(source)
    collect(bank.node, "customers", "full", clock)
    before = [landed(row) for row in source]
    for number in range(0, 1000, 2):
        source[number] = customer(number, LIM=7.0, SCORE="?" if number % 100 == 0 else "1", UPD="2024-05-02 00:00:00")
    bank.write(source)
    after = [landed(row) for row in source if row["SCORE"] != "?"]
    said = list[str]()
    for room in ROOMS:
        try:
            with disk.leaving(room):
                collect(bank.node, "customers", mode, clock)
        except LakeError as error:
            said.append(str(error))
        else:
            break
        assert rows_of(bank) in (before, after)
    assert len(said) >= 2
    for message in said:
        assert re.search(rf"Cannot .* {disk.folder}.*the disk is full.*run the same command again", message)
    collect(bank.node, "customers", mode, clock)
    assert rows_of(bank) == after
    assert len(current(bank.node, "customers").column("key").unique()) == 10
    assert collect(bank.node, "customers", mode, clock).skipped


def test_a_stream_ends_on_a_full_disk_and_goes_on_where_it_was(table: Table, disk: SmallDisk) -> None:
    node = make_node(disk.folder, table.server.source(table.database))
    table.change(*((number, customer(number)) for number in range(50)))
    with pytest.raises(LakeError, match="the disk is full"), streaming(node) as alive:  # noqa: PT012
        until(lambda: started(node))
        with disk.leaving(0):
            table.change((1, customer(1, LIM=2)), (2, None), (60, customer(60)))
            until(
                lambda: alive() is None or (status := status_of(node, "customers")) is None or status.state == "failed"
            )
    with streaming(node):
        until(lambda: lake_rows(node) == table.expected())
    assert Lake(node.landed("customers")).marks("full") == (1,)  # not read again


def test_a_running_stream_keeps_its_history_and_frees_what_it_need_not_keep(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["ftl.collect.stream.follow"], "_TIDY_SECONDS", 0)
    monkeypatch.setattr("ftl.collect.vacuum.READER_SECONDS", 0)
    node = table.node(tmp_path, history=True, keep={"days": 0})
    history, lake = Lake(node.history("customers")), Lake(node.landed("customers"))
    with streaming(node):
        until(lambda: started(node))
        for number in range(4):
            table.change((1, customer(1, LIM=number)))
            until(lambda number=number: history.count() == number + 1)  # type: ignore[misc]
        until(lambda: lake.oldest >= 3)
    assert lake_rows(node) == table.expected()
    limits = history.read(["limit", "current"]).sort_by("limit").to_pylist()
    assert limits == [{"limit": float(number), "current": number == 3} for number in range(4)]
    assert len(list(lake.path.glob("*.parquet"))) <= 3


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Table:
    return Table(request.getfixturevalue("mariadb"))
