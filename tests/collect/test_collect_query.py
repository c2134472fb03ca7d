import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collect_bank import Bank, customer, make_node, open_bank

from ftl.collect import Lake, collect, query
from ftl.errors import LakeError


@pytest.fixture
def bank(tmp_path: Path, request: pytest.FixtureRequest, clock: Any) -> Bank:
    opened = open_bank("sqlite", tmp_path, request)
    opened.write([customer(number) for number in range(50)])
    collect(opened.node, "customers", "full", clock)
    return opened


def test_a_query_groups_what_has_landed(bank: Bank) -> None:
    statement = 'SELECT sex, count(*) n, max("limit") FROM landed.customers GROUP BY ALL ORDER BY n DESC, sex'
    answer = query(bank.node, statement)
    assert [tuple(row.values()) for row in answer.to_pylist()] == [
        ("female", 20, 1049.5),
        ("male", 20, 1048.5),
        (None, 10, 1045.5),
    ]


def test_a_query_sees_published_rows_beside_landed_ones(bank: Bank) -> None:
    rows = query(bank.node, "FROM landed.customers WHERE children = 1")
    Lake(bank.node.validated("customers")).append(rows)
    joined = query(bank.node, "SELECT count(*) n FROM landed.customers ANTI JOIN validated.customers USING (id_number)")
    assert joined.to_pylist() == [{"n": 50 - rows.num_rows}]


def test_a_limit_caps_the_answer(bank: Bank) -> None:
    assert query(bank.node, "SELECT id_number FROM landed.customers ORDER BY 1 DESC", limit=2).to_pylist() == [
        {"id_number": "AB0049X"},
        {"id_number": "AB0048X"},
    ]


@pytest.mark.parametrize(
    ("sql", "rows"), [("DESCRIBE landed.customers", 11), ("SHOW ALL TABLES", 1), ("EXPLAIN FROM landed.customers", 1)]
)
def test_the_lake_can_be_explored(bank: Bank, sql: str, rows: int) -> None:
    assert query(bank.node, sql).num_rows >= rows


@pytest.mark.parametrize(
    "sql",
    [
        "DROP VIEW landed.customers",
        "DELETE FROM landed.customers",
        "CREATE TABLE mine AS FROM landed.customers",
        "COPY landed.customers TO '{here}/out.csv'",
        "ATTACH '{here}/core.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT 1; SELECT 2",
        "",
    ],
)
def test_a_statement_that_does_not_only_read_is_refused(bank: Bank, tmp_path: Path, sql: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(LakeError, match="This is not one statement that only reads"):
        query(bank.node, sql.replace("{here}", str(tmp_path)))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('{here}/secret.txt')",
        "SELECT * FROM '{here}/secret.csv'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_parquet('https://example.org/x.parquet')",
    ],
)
def test_a_query_reaches_no_file_and_no_network(bank: Bank, tmp_path: Path, sql: str) -> None:
    (tmp_path / "secret.txt").write_text("hidden")
    (tmp_path / "secret.csv").write_text("hidden")
    with pytest.raises(LakeError, match=r"it may not touch files|does not exist") as caught:
        query(bank.node, sql.replace("{here}", str(tmp_path)))
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT lmit FROM landed.customers", r'Referenced column "lmit" not found'),
        ("FROM landed.custmers", r"custmers does not exist.*The tables are: landed\.customers\.$"),
        ("SELCT 1", "syntax error"),
        ("SELECT max(phone::INT1) FROM landed.customers", "fails: ConversionException"),
    ],
)
def test_a_wrong_query_is_explained_without_a_value_of_a_row(bank: Bank, sql: str, message: str) -> None:
    with pytest.raises(LakeError, match=message) as caught:
        query(bank.node, sql)
    assert "86138" not in str(caught.value)


def test_a_python_variable_is_no_table(bank: Bank) -> None:
    local_rows = pa.table({"x": [1]})
    with pytest.raises(LakeError, match="local_rows does not exist"):
        query(bank.node, "FROM local_rows")
    assert local_rows.num_rows == 1


def test_an_empty_lake_says_what_to_do(tmp_path: Path) -> None:
    node = make_node(tmp_path, {"kind": "sqlite", "path": "core.db"})
    with pytest.raises(LakeError, match="Collect a table first"):
        query(node, "FROM landed.customers")


def test_a_group_by_over_a_million_rows_takes_less_than_a_second_of_processor_time(tmp_path: Path, clock: Any) -> None:
    numbers = range(1_000_000)
    source = {"ID": pa.array(numbers), "G": pa.array([n % 10 for n in numbers]), "X": pa.array(numbers, pa.float64())}
    pq.write_table(pa.table(source), tmp_path / "a.parquet")
    columns = {
        "id_number": {"from": "ID", "type": "int64"},
        "g": {"from": "G", "type": "int64"},
        "x": {"from": "X", "type": "float64"},
    }
    node = make_node(
        tmp_path, {"kind": "parquet", "path": "."}, table="a.parquet", columns=columns, derived={}, cursor=None
    )
    collect(node, "customers", "full", clock)
    started = time.process_time()
    answer = query(node, "SELECT g, count(*) n, sum(x) s FROM landed.customers GROUP BY g ORDER BY g")
    assert time.process_time() - started < 1
    assert answer.to_pylist()[3] == {"g": 3, "n": 100_000, "s": float(sum(range(3, 1_000_000, 10)))}
