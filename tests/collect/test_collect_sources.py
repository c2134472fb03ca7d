import shutil
import sqlite3
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collect_bank import KINDS, NAMES, Bank, Server, customer, make_node

from ftl.collect import Lake, Since, collect, current, open_source
from ftl.consortium import Node
from ftl.errors import SourceError, SourceUnavailable

DAY = datetime(2024, 5, 2, tzinfo=UTC)


def node_of(root: Path, source: dict[str, Any], **changes: Any) -> Node:
    return make_node(root, source, **changes)


def test_a_source_lists_its_tables_and_columns(bank: Bank) -> None:
    source = open_source(bank.node, "core")
    table = bank.node.party.tables["customers"].table
    assert table in source.tables()
    assert tuple(source.columns(table)) == NAMES
    source.ping()


def test_a_wrong_table_names_the_nearest_one(bank: Bank) -> None:
    table = bank.node.party.tables["customers"].table
    wrong = table.replace("customers", "custmers")
    with pytest.raises(SourceError, match=rf"parties\.bank\.sources\.core: .*{wrong}.* Did you mean '{table}'\?"):
        open_source(bank.node, "core").columns(wrong)


def test_a_wrong_column_names_the_nearest_one(bank: Bank) -> None:
    table = bank.node.party.tables["customers"].table
    with (
        pytest.raises(SourceError, match=r"has no column 'LIMIT'. Did you mean 'LIM'\?"),
        open_source(bank.node, "core").snapshot(table, ["KNR", "LIMIT"]),
    ):
        pass


def test_a_position_moves_with_a_change_and_only_then(bank: Bank) -> None:
    source, table = open_source(bank.node, "core"), bank.node.party.tables["customers"].table
    bank.write([customer(1)])
    first = source.position(table, "UPD")
    assert source.position(table, "UPD") == first
    bank.write([customer(1), customer(2)])
    assert source.position(table, "UPD") != first


def test_a_snapshot_since_a_moment_misses_no_row_from_then_on(bank: Bank) -> None:
    moments = ["2024-05-01 23:59:59", "2024-05-02 00:00:00", "2024-05-02 00:00:01", "2025-01-01 00:00:00"]
    bank.write([customer(number, UPD=moment) for number, moment in enumerate(moments)])
    source, table = open_source(bank.node, "core"), bank.node.party.tables["customers"].table
    with source.snapshot(table, ["KNR"], Since("UPD", DAY)) as snapshot:
        found = [key for batch in snapshot.batches for key in batch.column("KNR").to_pylist()]
    assert {customer(number)["KNR"] for number in (1, 2, 3)} <= set(found)
    assert snapshot.rows in (None, len(found))


@pytest.mark.parametrize("bank", ["sqlite", "postgresql"], indirect=True)
def test_rows_written_during_a_read_are_not_in_the_snapshot(bank: Bank) -> None:
    bank.write([customer(1)])
    source, table = open_source(bank.node, "core"), bank.node.party.tables["customers"].table
    with source.snapshot(table, ["KNR"]) as snapshot:
        # SQLite lets the writer wait for us, PostgreSQL lets it through.
        writer = threading.Thread(target=bank.write, args=([customer(1), customer(2)],), daemon=True)
        writer.start()
        time.sleep(0.5)
        assert sum(batch.num_rows for batch in snapshot.batches) == snapshot.rows == 1
    writer.join(timeout=30)
    with source.snapshot(table, ["KNR"]) as snapshot:
        assert snapshot.rows == 2


def test_an_unknown_source_names_what_there_is(tmp_path: Path) -> None:
    node = node_of(tmp_path, {"kind": "sqlite", "path": "core.db"})
    with pytest.raises(SourceError, match=r"Party bank has no source 'cor'. Did you mean 'core'\?"):
        open_source(node, "cor")


def test_a_missing_file_names_the_setting_and_the_nearest_file(tmp_path: Path) -> None:
    (tmp_path / "core.db").touch()
    node = node_of(tmp_path, {"kind": "sqlite", "path": "cor.db"})
    with pytest.raises(
        SourceError, match=r"sources\.core\.path: there is no file .*cor\.db. Did you mean 'core\.db'\?"
    ):
        open_source(node, "core").ping()


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "core.db").write_text("this is no database, and long enough to be looked at " * 40)
    node = node_of(tmp_path, {"kind": "sqlite", "path": "core.db"})
    with pytest.raises(SourceError, match=r"core\.db cannot be read: file is not a database"):
        open_source(node, "core").ping()


def test_a_locked_database_can_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftl.collect.sqlite.LOCK_SECONDS", 0.1)
    node = node_of(tmp_path, {"kind": "sqlite", "path": "core.db"})
    with closing(sqlite3.connect(tmp_path / "core.db", isolation_level=None)) as writer:
        writer.execute("CREATE TABLE customers (KNR TEXT)")
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SourceUnavailable, match="another program has locked"):
            open_source(node, "core").ping()


def test_mixed_types_in_one_sqlite_column_become_text(tmp_path: Path, clock: Any) -> None:
    with closing(sqlite3.connect(tmp_path / "core.db")) as connection, connection:
        connection.execute("CREATE TABLE customers (ID, X)")
        connection.executemany("INSERT INTO customers VALUES (?, ?)", [("a", 1), ("b", "2"), ("c", 3.0), ("d", "x")])
    columns = {"id_number": {"from": "ID", "type": "string"}, "x": {"from": "X", "type": "int64"}}
    node = node_of(tmp_path, {"kind": "sqlite", "path": "core.db"}, columns=columns, derived={}, cursor=None)
    collect(node, "customers", "full", clock)
    assert Lake(node.landed("customers")).read(["id_number", "x"]).to_pylist() == [
        {"id_number": "a", "x": 1},
        {"id_number": "b", "x": 2},
        {"id_number": "c", "x": 3},
    ]
    assert current(node, "customers").column("key").to_pylist() == ["d"]


FILES = {"columns": {"id_number": {"from": "编号", "type": "string"}, "x": {"from": "X", "type": "int64"}}}


def test_several_csv_files_of_another_dialect_and_encoding_are_one_table(tmp_path: Path, clock: Any) -> None:
    (tmp_path / "a-1.csv").write_bytes('编号;X\n"甲;1";1\n乙;\n'.encode("gb18030"))
    (tmp_path / "a-2.csv").write_bytes("X;编号\n3;丙\n".encode("gb18030"))
    source = {"kind": "csv", "path": ".", "delimiter": ";", "encoding": "gb18030"}
    node = node_of(tmp_path, source, table="a-*.csv", derived={}, cursor=None, **FILES)
    collect(node, "customers", "full", clock)
    rows = Lake(node.landed("customers")).read(["id_number", "x"]).to_pylist()
    assert [(row["id_number"], row["x"]) for row in rows] == [("甲;1", 1), ("乙", None), ("丙", 3)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ID,X\nsecret-id,1,2\n", r"customers\.csv, line 2: expected 2 fields, found 3"),
        (b"ID,X\n\xff\xfe,1\n", r"customers\.csv, line 2, column 'ID': expected utf-8 text"),
        (b"", "is empty"),
        (b"ID,ID\n1,2\n", "names a column twice"),
    ],
)
def test_a_broken_csv_is_named_without_its_content(tmp_path: Path, clock: Any, content: bytes, message: str) -> None:
    (tmp_path / "customers.csv").write_bytes(content)
    columns = {"id_number": {"from": "ID", "type": "string"}}
    source = {"kind": "csv", "path": "."}
    node = node_of(tmp_path, source, table="customers.csv", columns=columns, derived={}, cursor=None)
    with pytest.raises(SourceError, match=message) as caught:
        collect(node, "customers", "full", clock)
    assert "secret-id" not in str(caught.value)


def test_csv_files_of_one_table_must_have_the_same_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("ID,X\n")
    (tmp_path / "b.csv").write_text("ID,Y\n")
    node = node_of(tmp_path, {"kind": "csv", "path": "."})
    with pytest.raises(SourceError, match=r"b.csv and a.csv belong to one table but differ in: X, Y"):
        open_source(node, "core").columns("*.csv")


def test_a_damaged_parquet_file_is_named(tmp_path: Path, clock: Any) -> None:
    (tmp_path / "customers.parquet").write_bytes(b"PAR1 and nothing else")
    node = node_of(tmp_path, {"kind": "parquet", "path": "."}, table="customers.parquet")
    with pytest.raises(SourceError, match=r"customers\.parquet cannot be read as parquet"):
        collect(node, "customers", "full", clock)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"user": "stewart"}, SourceError, r"sources\.core\.\w+.*password authentication failed|user \(stewart\)"),
        ({"database": "nowhere"}, SourceError, r"sources\.core\.database \(nowhere\)"),
        ({"port": 1}, SourceUnavailable, r"no PostgreSQL answers at 127\.0\.0\.1:1"),
        ({"password_file": "absent"}, SourceError, r"password_file: .*absent cannot be read"),
        ({"password_file": None, "password_env": "FTL_TESTS_ABSENT"}, SourceError, "FTL_TESTS_ABSENT is not set"),
        ({"password_file": None}, SourceError, r"password_file: .*no password supplied"),
    ],
)
def test_a_wrong_postgresql_setting_is_named(
    postgres: Server, tmp_path: Path, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    node = node_of(tmp_path, postgres.source("postgres", **changes))
    with pytest.raises(kind, match=message) as caught:
        open_source(node, "core").ping()
    assert postgres.password not in str(caught.value)


def test_a_wrong_postgresql_password_is_named_and_not_shown(postgres: Server, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    node = node_of(tmp_path, postgres.source("postgres", password_file=str(tmp_path / "password")))
    with pytest.raises(SourceError, match=r"core\.password_file: .*password authentication failed") as caught:
        open_source(node, "core").ping()
    assert "hunter2" not in str(caught.value)


def test_a_missing_privilege_says_what_to_grant(postgres: Server, tmp_path: Path, clock: Any) -> None:
    database = postgres.create_database()
    postgres.psql(database, f"CREATE ROLE reader LOGIN PASSWORD '{postgres.password}'")
    node = node_of(tmp_path, postgres.source(database, user="reader"))
    with pytest.raises(SourceError, match=r"user 'reader' may not read public\.customers") as caught:
        collect(node, "customers", "full", clock)
    assert 'GRANT SELECT ON "public"."customers" TO reader;' in str(caught.value)


def test_every_postgresql_type_of_a_customer_is_read(postgres: Server, tmp_path: Path, clock: Any) -> None:
    database = postgres.create_database()
    postgres.psql(
        database,
        "CREATE TABLE odd (id uuid, amount numeric, since timestamptz, born date, ok bool, r real, j jsonb, n bigint);"
        "INSERT INTO odd VALUES ('11111111-2222-3333-4444-555555555555', 12345678901.25, '2024-05-01 08:00+08', "
        "'1980-02-03', true, 0.5, '{\"a\": 1}', 7), (gen_random_uuid(), null, null, null, null, null, null, null)",
    )
    kinds = {
        "amount": "float64",
        "since": "timestamp",
        "born": "date",
        "ok": "bool",
        "r": "float64",
        "j": "string",
        "n": "int64",
    }
    columns = {"id_number": {"from": "id", "type": "string"}} | {n: {"from": n, "type": k} for n, k in kinds.items()}
    node = node_of(tmp_path, postgres.source(database), table="odd", columns=columns, derived={}, cursor=None)
    assert collect(node, "customers", "full", clock).rows_quarantined == 0
    rows = Lake(node.landed("customers")).read(list(columns)).to_pylist()
    assert rows[0] == {
        "id_number": "11111111-2222-3333-4444-555555555555",
        "amount": 12345678901.25,
        "since": datetime(2024, 5, 1, tzinfo=UTC),
        "born": datetime(1980, 2, 3, tzinfo=UTC).date(),
        "ok": True,
        "r": 0.5,
        "j": '{"a": 1}',
        "n": 7,
    }
    assert set(list(rows[1].values())[1:]) == {None}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in {"postgresql", "mariadb"}])
def test_150_000_rows_of_12_columns_take_less_than_five_seconds_of_processor_time(
    kind: str, tmp_path: Path, clock: Any
) -> None:
    rows, draw = 150_000, np.random.default_rng(0)
    numbers = np.arange(rows)
    table = {
        "KNR": np.char.add("ab", numbers.astype(str)),
        "TEL": np.char.add("+86 ", numbers.astype(str)),
        "SEX": draw.choice(["1", "2", "NA"], rows),
        "UPD": np.full(rows, "2024-05-01 10:00:00"),
        **{f"X{column}": draw.normal(size=rows).round(6) for column in range(8)},
    }
    source = pa.table({name: pa.array(values) for name, values in table.items()})
    path = {"sqlite": "core.db"}.get(kind, ".")
    if kind == "sqlite":
        source.to_pandas().to_sql("customers", sqlite3.connect(tmp_path / "core.db"), index=False)
    elif kind == "csv":
        source.to_pandas().to_csv(tmp_path / "customers.csv", index=False)
    else:
        pq.write_table(source, tmp_path / "customers.parquet")
    columns = {
        "id_number": {"from": "KNR", "type": "string", "normalise": "upper"},
        "phone": {"from": "TEL", "type": "string", "normalise": "digits"},
        "sex": {"from": "SEX", "type": "string", "missing": ["NA"], "recode": {"1": "male", "2": "female"}},
        "updated_at": {"from": "UPD", "type": "timestamp"},
        **{f"x{column}": {"from": f"X{column}", "type": "float64"} for column in range(8)},
    }
    named = "customers" if kind == "sqlite" else f"customers.{kind}"
    node = node_of(
        tmp_path, {"kind": kind, "path": path}, table=named, columns=columns, derived={"d": "x0 / nullif(x1, 0)"}
    )
    collect(node, "customers", "full", clock)
    shutil.rmtree(node.home)
    started = time.process_time()
    assert collect(node, "customers", "full", clock).rows_landed == rows
    assert time.process_time() - started < 5
