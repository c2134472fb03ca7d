"""Clocks and time zones of the source that change between two syncs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from collect_bank import Bank, Server, customer, landed, make_node, open_bank
from mariadb_server import Maria

from ftl.collect import Lake, collect, watermark
from ftl.consortium import Node

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
COLUMNS = {
    "id_number": {"from": "id", "type": "string"},
    "zoned": {"from": "zoned", "type": "timestamp"},
    "plain": {"from": "plain", "type": "timestamp"},
}


@dataclass
class Moments:
    """A table with a column of moments and one of local times, at a server whose time zone can be set."""

    source: dict[str, Any]
    run: Callable[[str], None]
    set_zone: Callable[[int], None]

    def insert(self, number: int, moment: datetime) -> None:
        """A row of this moment, told in UTC, whatever the server's zone is."""
        text = f"{moment:%Y-%m-%d %H:%M:%S}"
        self.run(f"INSERT INTO moments VALUES ('k{number}', '{text}', '{text}')")


@pytest.fixture(params=["postgresql", "mariadb"])
def moments(request: pytest.FixtureRequest) -> Iterator[Moments]:
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgres")
        database = server.create_database()
        server.psql(database, "CREATE TABLE moments (id text, zoned timestamptz, plain timestamp)")
        yield Moments(
            server.source(database),
            lambda statement: server.psql(database, f"SET timezone = 'UTC'; {statement}"),
            lambda hours: server.psql(database, f"ALTER DATABASE {database} SET timezone = 'Etc/GMT{-hours:+d}'"),
        )
        return
    maria: Maria = request.getfixturevalue("mariadb")
    database = maria.create_database()
    maria.run(database, "CREATE TABLE moments (id varchar(9), zoned timestamp, plain datetime)")
    yield Moments(
        maria.source(database),
        lambda statement: maria.run(database, "SET time_zone = '+00:00'", statement),
        lambda hours: maria.run(database, f"SET GLOBAL time_zone = '{hours:+03d}:00'"),
    )
    maria.run(database, "SET GLOBAL time_zone = SYSTEM")


def _rows(node: Node) -> list[tuple[Any, ...]]:
    rows = Lake(node.landed("customers")).read(list(COLUMNS)).sort_by("id_number").to_pylist()
    return [(row["id_number"], row["zoned"], row["plain"]) for row in rows]


@pytest.mark.parametrize("cursor", ["zoned", "plain"])
def test_another_time_zone_of_the_server_moves_and_doubles_no_row(
    cursor: str, moments: Moments, tmp_path: Path, clock: Any
) -> None:
    node = make_node(tmp_path, moments.source, table="moments", columns=COLUMNS, derived={}, cursor=cursor)
    expected = []
    for number, hours in enumerate((0, 8, -5)):
        moments.set_zone(hours)
        moment = NOON + timedelta(minutes=number)
        moments.insert(number, moment)
        expected.append((f"k{number}", moment, moment))
        report = collect(node, "customers", "incremental", clock)
        assert report.rows_landed == 1
        assert _rows(node) == expected
        assert collect(node, "customers", "incremental", clock).rows_landed == 0
    assert watermark(node, "customers") == NOON + timedelta(minutes=2)
    moments.set_zone(0)
    assert collect(node, "customers", "incremental", clock).rows_landed == 0
    collect(node, "customers", "full", clock)
    assert _rows(node) == expected


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_rows_written_by_a_clock_that_went_back_land_within_the_lag_and_once(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, clock: Any
) -> None:
    bank: Bank = open_bank(kind, tmp_path, request, lag=3600)
    source = [customer(number, UPD=f"2024-05-02 10:00:{number:02d}") for number in range(5)]
    bank.write(source)
    collect(bank.node, "customers", "full", clock)
    source[2] = customer(2, LIM=5.0, UPD="2024-05-02 09:30:00")  # half an hour before what has landed
    source.append(customer(9, UPD="2024-05-02 09:30:01"))
    bank.write(source)
    assert collect(bank.node, "customers", "incremental", clock).rows_landed == 2
    assert collect(bank.node, "customers", "incremental", clock).rows_landed == 0
    assert watermark(bank.node, "customers") == datetime(2024, 5, 2, 10, 0, 4, tzinfo=UTC)
    rows = Lake(bank.node.landed("customers")).read().drop_columns(["_sync"]).sort_by("id_number").to_pylist()
    assert rows == [landed(row) for row in source]
