"""A source whose columns change while it is followed, and one event in very many that cannot be read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from collect_bank import customer
from stream_run import lake_rows, now, started, streaming, until
from test_collect_stream_mariadb import Table as MariaTable
from test_collect_stream_postgres import Table as PostgresTable

from ftl.collect import Lake, current
from ftl.collect.stream import Pace
from ftl.errors import SourceError

EVENTS = 100_000


class Followed:
    """The customers' table of one kind of server."""

    def __init__(self, kind: str, request: pytest.FixtureRequest) -> None:
        self.kind = kind
        if kind == "mariadb":
            self.table: Any = MariaTable(request.getfixturevalue("mariadb"))
            self.sql: Callable[..., None] = self.table.run
        else:
            self.table = PostgresTable(request.getfixturevalue("postgres"))
            self.sql = self.table.sql

    def retype(self, column: str, kind: str) -> None:
        how = f'ALTER "{column}" TYPE {kind}' if self.kind == "postgresql" else f"MODIFY {column} {kind}"
        self.sql(f"ALTER TABLE customers {how}")

    def rename(self, column: str, name: str) -> None:
        quote = '"' if self.kind == "postgresql" else "`"
        self.sql(f"ALTER TABLE customers RENAME COLUMN {quote}{column}{quote} TO {name}")

    def insert(self, number: int) -> None:
        """A customer with nothing but a key and a number of children; what is known here says nothing of it."""
        quote = '"' if self.kind == "postgresql" else "`"
        self.sql(f"INSERT INTO customers ({quote}KNR{quote}, {quote}KIDS{quote}) VALUES ('k{number}', 2)")


@pytest.fixture(params=["postgresql", "mariadb"])
def followed(request: pytest.FixtureRequest) -> Any:
    made = Followed(request.param, request)
    yield made
    if made.kind == "postgresql":
        made.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active_pid IS NOT NULL")
        until(lambda: _dropped(made))


def _dropped(followed: Followed) -> bool:
    try:
        followed.sql(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()"
        )
    except Exception:  # noqa: BLE001 - still in use
        return False
    return True


def _kids(node: Any) -> list[tuple[str, int | None]]:
    return [(row["id_number"], row["children"]) for row in lake_rows(node)]


def test_a_renamed_column_is_missing_from_then_on_where_the_contract_lets_it_evolve(
    followed: Followed, tmp_path: Path
) -> None:
    node = followed.table.node(tmp_path, contract={"lost_columns": "evolve"})
    followed.table.change((1, customer(1)))
    with streaming(node):
        until(lambda: len(lake_rows(node)) == 1)
        followed.rename("TEL", "phone")
        followed.table.change((2, None))
        followed.insert(2)
        until(lambda: len(lake_rows(node)) == 2)
    assert [(row["id_number"], row["phone"]) for row in lake_rows(node)] == [("AB0001X", "861380001"), ("K2", None)]


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        ({"lost_columns": "discard"}, r"has lost a column.*discard.*Correct the mapping, run a full sync"),
        ({"changed_types": "freeze"}, r"at the source KIDS has another type.*`contract.changed_types` is freeze"),
        ({"new_columns": "freeze"}, r"at the source more is new, and `contract.new_columns` is freeze"),
    ],
)
def test_a_change_that_the_contract_does_not_let_in_stops_the_stream_and_keeps_the_table(
    contract: dict[str, str], message: str, followed: Followed, tmp_path: Path
) -> None:
    node = followed.table.node(tmp_path, contract=contract)
    with pytest.raises(SourceError, match=message), streaming(node) as alive:  # noqa: PT012
        until(lambda: started(node))
        followed.insert(1)
        until(lambda: _kids(node) == [("K1", 2)])
        if "lost_columns" in contract:
            followed.rename("TEL", "phone")
        elif "changed_types" in contract:
            followed.retype("KIDS", "varchar(9)")
        else:
            followed.sql("ALTER TABLE customers ADD COLUMN more int")
        followed.insert(2)
        until(lambda: alive() is None)
    assert _kids(node) == [("K1", 2)]


def test_a_change_while_the_stream_was_down_is_compared_with_what_it_had_accepted(
    followed: Followed, tmp_path: Path
) -> None:
    node = followed.table.node(tmp_path, contract={"new_columns": "freeze"})
    with streaming(node):
        until(lambda: started(node))
        followed.insert(1)
        until(lambda: _kids(node) == [("K1", 2)])
    followed.sql("ALTER TABLE customers ADD COLUMN more int")
    followed.insert(2)
    frozen = r"more is new, and `contract.new_columns` is freeze"
    with pytest.raises(SourceError, match=frozen), streaming(node) as alive:
        until(lambda: alive() is None)
    assert _kids(node) == [("K1", 2)]


def test_a_retyped_column_is_missing_from_then_on_where_the_contract_discards_it(
    followed: Followed, tmp_path: Path
) -> None:
    node = followed.table.node(tmp_path, contract={"changed_types": "discard"})
    with streaming(node):
        until(lambda: started(node))
        followed.insert(1)
        until(lambda: len(_kids(node)) == 1)
        followed.retype("KIDS", "varchar(9)")
        followed.insert(2)
        until(lambda: len(_kids(node)) == 2)
    assert _kids(node) == [("K1", 2), ("K2", 0)]  # the default of what is missing


@pytest.mark.parametrize("followed", ["postgresql"], indirect=True)
def test_of_100_000_events_the_one_that_cannot_be_read_is_quarantined_and_the_others_land(
    followed: Followed, tmp_path: Path
) -> None:
    node = followed.table.node(tmp_path)
    with streaming(node, Pace(rows=20_000, seconds=0.2)):
        until(lambda: started(node))
        followed.sql(
            'INSERT INTO customers ("KNR", "LIM", "SCORE") '
            "SELECT 'k' || n, n, CASE WHEN n = 77777 THEN 'poison' ELSE '5' END "
            f"FROM generate_series(1, {EVENTS}) n"
        )
        lake = Lake(node.landed("customers"))
        until(lambda: lake.count() == EVENTS - 1, seconds=300)
    rows = lake.read(["id_number", "limit", "score"]).sort_by("limit")
    assert rows.column("limit").to_pylist() == [n for n in range(1, EVENTS + 1) if n != 77_777]
    assert rows.column("score").unique().to_pylist() == [5]
    refused = current(node, "customers").to_pylist()
    assert [(row["key"], row["reason"]) for row in refused] == [("K77777", "score: cannot be read as int64")]
    assert refused[0]["at"] <= now()
