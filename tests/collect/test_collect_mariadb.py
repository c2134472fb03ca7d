from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from collect_bank import make_node
from mariadb_server import Maria

from ftl.collect import Lake, collect, open_source
from ftl.errors import SourceError, SourceUnavailable

ODD = """
CREATE TABLE odd (id varchar(40) PRIMARY KEY, big bigint unsigned, tiny tinyint, flag tinyint(1), bits bit(10),
  amount decimal(30, 8), price decimal(12, 2), ratio float, share double, at datetime(6), stamp timestamp(3) NULL,
  born date, length time(2), year year, kind enum('a', 'b'), kinds set('x', 'y'), document json, code char(5),
  name varchar(20), bytes blob) CHARACTER SET utf8mb4
"""
VALUES = (
    "('k1', 18446744073709551615, -1, 1, b'1010101010', 12345678901234567890.12345678, 1.10, 0.5, 1e300, "
    "'2024-05-01 10:00:00.123456', '2024-05-01 08:00:00.5', '1980-02-03', '-12:30:00.25', 2024, 'b', 'x,y', "
    "'{\"a\": 1}', 'ab', 'é中', x'41')"
)
KINDS = {
    "id_number": ("id", "string"),
    "big": ("big", "string"),
    "tiny": ("tiny", "int64"),
    "flag": ("flag", "bool"),
    "bits": ("bits", "int64"),
    "amount": ("amount", "string"),
    "price": ("price", "float64"),
    "ratio": ("ratio", "float64"),
    "share": ("share", "float64"),
    "at": ("at", "timestamp"),
    "stamp": ("stamp", "timestamp"),
    "born": ("born", "date"),
    "length": ("length", "string"),
    "year": ("year", "int64"),
    "kind": ("kind", "string"),
    "kinds": ("kinds", "string"),
    "document": ("document", "string"),
    "code": ("code", "string"),
    "name": ("name", "string"),
    "bytes": ("bytes", "string"),
}
ODD_COLUMNS = {name: {"from": column, "type": kind} for name, (column, kind) in KINDS.items()}
EXPECTED = {
    "id_number": "k1",
    "big": "18446744073709551615",
    "tiny": -1,
    "flag": True,
    "bits": 0b1010101010,
    "amount": "12345678901234567890.12345678",
    "price": 1.1,
    "ratio": 0.5,
    "share": 1e300,
    "at": datetime(2024, 5, 1, 10, 0, 0, 123456, tzinfo=UTC),
    "stamp": datetime(2024, 5, 1, 0, 0, 0, 500000, tzinfo=UTC),  # written at +08:00
    "born": date(1980, 2, 3),
    "length": "-12:30:00.25",
    "year": 2024,
    "kind": "b",
    "kinds": "x,y",
    "document": '{"a": 1}',
    "code": "ab",
    "name": "é中",
    "bytes": "A",
}


def fill_odd(mariadb: Maria, database: str) -> None:
    """Three rows: of values, of NULLs, and of the zero dates that MySQL allows."""
    mariadb.run(
        database,
        ODD,
        "SET time_zone = '+08:00'",
        "SET NAMES utf8mb4",
        f"INSERT INTO odd VALUES {VALUES}",
        "INSERT INTO odd (id) VALUES ('k2')",
        "SET sql_mode = ''",
        "INSERT INTO odd (id, at, stamp, born) VALUES ('k3', '0000-00-00', '0000-00-00', '2024-00-10')",
    )


def test_every_mariadb_type_of_a_customer_is_read(mariadb: Maria, tmp_path: Path, clock: Any) -> None:
    database = mariadb.create_database()
    fill_odd(mariadb, database)
    source = mariadb.source(database)
    node = make_node(tmp_path, source, table="odd", columns=ODD_COLUMNS, derived={}, cursor=None)
    assert collect(node, "customers", "full", clock).rows_quarantined == 0
    rows = {row["id_number"]: row for row in Lake(node.landed("customers")).read(list(ODD_COLUMNS)).to_pylist()}
    assert rows["k1"] == EXPECTED
    assert set(list(rows["k2"].values())[1:]) == {None}
    assert [rows["k3"][name] for name in ("at", "stamp", "born")] == [None] * 3


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"user": "nobody"}, SourceError, r"core\.password_file: .*'Access denied'"),
        ({"database": "nowhere"}, SourceError, r"core\.database \(nowhere\)"),
        ({"host": "nowhere.invalid"}, SourceError, r"core\.host \(nowhere\.invalid\)"),
        ({"port": 1}, SourceUnavailable, r"no MariaDB or MySQL answers at 127\.0\.0\.1:1"),
        ({"password_file": "absent"}, SourceError, r"password_file: .*absent cannot be read"),
    ],
)
def test_a_wrong_mariadb_setting_is_named(
    mariadb: Maria, tmp_path: Path, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    node = make_node(tmp_path, mariadb.source("mysql", **changes))
    with pytest.raises(kind, match=message) as caught:
        open_source(node, "core").ping()
    assert mariadb.password not in str(caught.value)


def test_a_missing_mariadb_privilege_says_what_to_grant(mariadb: Maria, tmp_path: Path, clock: Any) -> None:
    database = mariadb.create_database()
    mariadb.run(
        database,
        "CREATE TABLE other (a int)",
        f"CREATE USER reader_{database}@'127.0.0.1' IDENTIFIED BY '{mariadb.password}'",
        f"GRANT SELECT ON other TO reader_{database}@'127.0.0.1'",
        f"GRANT INSERT ON customers TO reader_{database}@'127.0.0.1'",
    )
    node = make_node(tmp_path, mariadb.source(database, user=f"reader_{database}"))
    with pytest.raises(SourceError, match=r"may not read customers") as caught:
        collect(node, "customers", "full", clock)
    assert f"GRANT SELECT ON `{database}`.`customers` TO 'reader_{database}'@'…';" in str(caught.value)
    mariadb.run(database, f"REVOKE INSERT ON customers FROM reader_{database}@'127.0.0.1'")
    with pytest.raises(SourceError, match=r"shows user .* no table 'customers'.*GRANT SELECT ON"):
        collect(node, "customers", "full", clock)


def test_rows_written_during_a_read_do_not_appear_in_it(mariadb: Maria, tmp_path: Path) -> None:
    database = mariadb.create_database()
    mariadb.run(
        database, "CREATE TABLE numbers (n int PRIMARY KEY)", "INSERT INTO numbers SELECT seq FROM seq_1_to_200000"
    )
    node = make_node(tmp_path, mariadb.source(database))
    with open_source(node, "core").snapshot("numbers", ["n"]) as snapshot:
        mariadb.run(database, "INSERT INTO numbers SELECT seq FROM seq_200001_to_200100", "DELETE FROM numbers LIMIT 9")
        batches = list(snapshot.batches)
        assert snapshot.rows == 200_000
    assert sorted(value for batch in batches for value in batch.column(0).to_pylist()) == list(range(1, 200_001))
    assert len(batches) > 3
