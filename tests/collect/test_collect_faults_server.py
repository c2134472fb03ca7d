"""A database that dies while a table is read whole, and comes back."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from collect_bank import Server, make_node
from mariadb_server import Maria

from ftl.collect import Lake, collect
from ftl.consortium import Node
from ftl.errors import SourceUnavailable

ROWS = 150_000
"""Of 300 bytes: more than lies in buffers between the server and the lake when the first of them are mapped."""
COLUMNS = {
    "id_number": {"from": "KNR", "type": "string"},
    "phone": {"from": "TEL", "type": "string"},
    "limit": {"from": "LIM", "type": "float64"},
}


def _node(root: Path, source: dict[str, Any]) -> Node:
    return make_node(root, source, columns=COLUMNS, derived={}, cursor=None)


def _survives(node: Node, clock: Any, die: Callable[[], object], rise: Callable[[], None]) -> None:
    """The read that is cut off lands nothing and says where to look; the next one lands every row."""
    told = []

    def on_progress(progress: Any) -> None:
        if progress.step == "mapped" and not told:
            told.append(progress.rows)
            die()

    try:
        with pytest.raises(
            SourceUnavailable, match=r"parties\.bank\.sources\.core: .*127\.0\.0\.1:\d+ .*`host` and `port`"
        ):
            collect(node, "customers", "full", clock, on_progress)
        assert 0 < told[0] < ROWS
        lake = Lake(node.landed("customers"))
        assert lake.count() == 0
        assert list(lake.path.glob("*.parquet")) == []
    finally:
        rise()
    assert collect(node, "customers", "full", clock).rows_landed == ROWS
    rows = lake.read(["id_number", "limit"]).sort_by("limit")
    assert rows.column("limit").combine_chunks().equals(pa.array(range(1, ROWS + 1), pa.float64()))
    assert pc.all(pc.equal(rows.column("id_number"), pc.cast(pa.array(range(1, ROWS + 1)), pa.string()))).as_py()


def test_a_full_sync_survives_postgresql_that_dies_while_it_reads(
    postgres: Server, tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftl.collect.postgres import PostgresReader

    whole = PostgresReader._batches

    def in_small_batches(self: PostgresReader, cursor: Any, *asked: Any) -> Any:
        cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": "1000000"})
        return whole(self, cursor, *asked)

    monkeypatch.setattr(PostgresReader, "_batches", in_small_batches)
    database = postgres.create_database()
    postgres.psql(
        database,
        'ALTER TABLE customers ALTER "TEL" TYPE text;'
        'INSERT INTO customers ("KNR", "TEL", "LIM") '
        f"SELECT n::text, repeat('1', 280), n FROM generate_series(1, {ROWS}) n",
    )
    _survives(_node(tmp_path, postgres.source(database)), clock, postgres.crash, postgres.start)


def test_a_full_sync_survives_mariadb_that_dies_while_it_reads(
    mariadb: Maria, tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftl.collect.mariadb.BATCH_ROWS", 5_000)
    database = mariadb.create_database()
    mariadb.run(
        database,
        "ALTER TABLE customers MODIFY TEL text",
        f"INSERT INTO customers (KNR, TEL, LIM) SELECT seq, repeat('1', 280), seq FROM seq_1_to_{ROWS}",
    )
    node = _node(tmp_path, mariadb.source(database))
    _survives(node, clock, lambda: mariadb.stop(signal.SIGKILL), mariadb.start)
