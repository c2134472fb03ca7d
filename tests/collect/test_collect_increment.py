"""Rows that come late, go, come back, or come twice."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from collect_bank import Bank, customer, landed, make_node, open_bank

from ftl.collect import Interval, Lake, changes, collect, current, follows, query, watermark
from ftl.errors import LakeError, MappingError, SourceError


@pytest.fixture
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return lambda kind="sqlite", **changes: open_bank(kind, tmp_path, request, **changes)


def rows_of(bank: Bank) -> list[dict[str, Any]]:
    rows = Lake(bank.node.landed("customers")).read().drop_columns(["_sync"]).to_pylist()
    return sorted(rows, key=lambda row: row["id_number"])


def at(hour: int, minute: int = 0) -> str:
    return f"2024-05-02 {hour:02d}:{minute:02d}:00"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "parquet"])
def test_a_row_that_comes_late_within_the_lag_lands_once(opened: Any, clock: Any, kind: str) -> None:
    bank = opened(kind, lag=3600)
    source = [customer(1, UPD=at(9)), customer(2, UPD=at(10))]
    bank.write(source)
    collect(bank.node, "customers", "full", clock)
    source += [customer(3, UPD=at(9, 15)), customer(4, UPD=at(8, 15))]
    bank.write(source)
    report = collect(bank.node, "customers", "incremental", clock)
    assert report.rows_landed == 1  # what is older than the lag waits for the next full sync
    assert rows_of(bank) == [landed(row) for row in source[:3]]
    assert collect(bank.node, "customers", "incremental", clock).skipped


def test_a_row_changed_while_the_clock_of_the_source_is_back_lands_within_the_lag(opened: Any, clock: Any) -> None:
    bank = opened(lag=7200)
    bank.write([customer(1, UPD=at(9)), customer(2, UPD=at(10))])
    collect(bank.node, "customers", "full", clock)
    source = [customer(1, UPD=at(8, 30), LIM=5.0), customer(2, UPD=at(10))]
    bank.write(source)
    collect(bank.node, "customers", "incremental", clock)
    assert rows_of(bank) == [landed(row) for row in source]
    assert watermark(bank.node, "customers") == datetime(2024, 5, 2, 10, tzinfo=UTC)


def test_a_source_that_went_back_to_an_earlier_state_is_read_in_full(opened: Any, clock: Any) -> None:
    bank = opened()
    bank.write([customer(1, UPD=at(9)), customer(2, UPD=at(12))])
    collect(bank.node, "customers", "full", clock)
    restored = [customer(1, UPD=at(9)), customer(3, UPD=at(10))]
    bank.write(restored)
    assert collect(bank.node, "customers", "incremental", clock).mode == "full"
    assert rows_of(bank) == [landed(row) for row in restored]
    assert watermark(bank.node, "customers") == datetime(2024, 5, 2, 10, tzinfo=UTC)


@pytest.mark.parametrize("policy", ["wait", "always", "refuse"])
def test_a_row_without_a_cursor_does_what_the_policy_says(opened: Any, clock: Any, policy: str) -> None:
    bank = opened(null_cursor=policy)
    bank.write([customer(1, UPD=at(9))])
    collect(bank.node, "customers", "full", clock)
    bank.write([customer(1, UPD=at(9)), customer(2, UPD=None)])
    collect(bank.node, "customers", "incremental", clock)
    keys = [row["id_number"] for row in rows_of(bank)]
    assert keys == (["AB0001X", "AB0002X"] if policy == "always" else ["AB0001X"])
    bank.write([customer(1, UPD=at(9)), customer(2, UPD=None), customer(3, UPD=at(11))])
    collect(bank.node, "customers", "full", clock)
    reasons = current(bank.node, "customers").column("reason").to_pylist()
    assert len(rows_of(bank)) == (2 if policy == "refuse" else 3)
    assert reasons == (["updated_at: the cursor is missing"] if policy == "refuse" else [])


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "csv"])
def test_a_row_that_the_source_marks_as_deleted_leaves_and_may_return(opened: Any, clock: Any, kind: str) -> None:
    bank = opened(kind, deleted="NOT active")
    source = [customer(number, UPD=at(9), ACTIVE="yes") for number in range(5)]
    bank.write([*source, customer(7, UPD=at(9), ACTIVE="no")])
    first = collect(bank.node, "customers", "full", clock)
    assert (first.rows_landed, first.rows_deleted) == (5, 1)
    bank.write([customer(0, UPD=at(10), ACTIVE="no"), *source[1:]])
    report = collect(bank.node, "customers", "incremental", clock)
    assert (report.rows_landed, report.rows_deleted) == (0, 1)
    assert rows_of(bank) == [landed(row) for row in source[1:]]
    assert collect(bank.node, "customers", "incremental", clock).skipped
    returned = [customer(0, UPD=at(11), ACTIVE="yes"), *source[1:]]
    bank.write(returned)
    collect(bank.node, "customers", "incremental", clock)
    assert rows_of(bank) == [landed(row) for row in returned]


def test_a_wrong_expression_for_deleted_rows_is_named(opened: Any, clock: Any) -> None:
    bank = opened(deleted="aktive = false")
    with pytest.raises(MappingError, match=r'customers\.deleted: .*"aktive"'):
        collect(bank.node, "customers", "full", clock)


def test_rows_of_a_key_of_two_columns_are_told_apart(opened: Any, clock: Any) -> None:
    bank = opened(key=["id_number", "phone"])
    source = [customer(1, TEL="1", UPD=at(9)), customer(1, TEL="2", UPD=at(9))]
    bank.write(source)
    collect(bank.node, "customers", "full", clock)
    source[1] = customer(1, TEL="2", LIM=9.0, UPD=at(10))
    bank.write(source)
    assert collect(bank.node, "customers", "incremental", clock).rows_landed == 1
    assert sorted(row["limit"] for row in rows_of(bank)) == [9.0, 1001.5]


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_of_rows_with_one_key_the_newest_lands_where_the_table_says_so(opened: Any, clock: Any, mode: Any) -> None:
    bank = opened(repeated="newest")
    if mode == "incremental":
        bank.write([customer(1, UPD=at(8))])
        collect(bank.node, "customers", "full", clock)
    bank.write([customer(1, UPD=at(8)), customer(1, UPD=at(11), LIM=3.0), customer(1, UPD=at(9), LIM=2.0)])
    collect(bank.node, "customers", mode, clock)
    assert [row["limit"] for row in rows_of(bank)] == [3.0]


def test_a_backfill_merges_one_interval_and_leaves_the_watermark(opened: Any, clock: Any) -> None:
    bank = opened()
    source = [customer(number, UPD=at(number)) for number in range(1, 9)]
    bank.write(source)
    collect(bank.node, "customers", "full", clock)
    late = [customer(number, UPD=at(number), LIM=0.5) for number in range(1, 9)] + [customer(20, UPD=at(3, 30))]
    bank.write(late)
    report = collect(bank.node, "customers", "incremental", clock, interval=Interval(at(3), at(5)))
    assert (report.rows_read, report.rows_landed) == (3, 3)
    changed = {row["id_number"] for row in rows_of(bank) if row["limit"] == 0.5}
    assert changed == {"AB0003X", "AB0004X"}
    assert any(row["id_number"] == "AB0020X" for row in rows_of(bank))
    assert watermark(bank.node, "customers") == datetime(2024, 5, 2, 8, tzinfo=UTC)
    assert collect(bank.node, "customers", "incremental", clock, interval=Interval(at(3), at(5))).skipped


@pytest.mark.parametrize(
    ("interval", "message"),
    [
        (Interval("yesterday", None), r"'yesterday' cannot be read as a timestamp, the cursor's type"),
        (Interval(at(5), at(5)), "the interval ends before it begins"),
    ],
)
def test_an_interval_that_is_none_is_refused(opened: Any, clock: Any, interval: Interval, message: str) -> None:
    with pytest.raises(MappingError, match=message):
        collect(opened().node, "customers", "incremental", clock, interval=interval)


def test_a_folder_is_followed_file_by_file(tmp_path: Path, clock: Any) -> None:
    columns = {"id_number": {"from": "ID", "type": "string"}, "x": {"from": "X", "type": "int64"}}
    settings = {"table": "in/*.csv", "columns": columns, "derived": {}, "cursor": None, "repeated": "newest"}
    node = make_node(tmp_path, {"kind": "csv", "path": "."}, **settings)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.csv").write_text("ID,X\na,1\nb,1\n")
    assert not follows(node, "customers")
    collect(node, "customers", "full", clock)
    assert follows(node, "customers")
    (tmp_path / "in" / "2.csv").write_text("ID,X\nb,2\nc,2\n")
    (tmp_path / "in" / "3.csv").write_text("ID,X\nc,3\n")
    report = collect(node, "customers", "incremental", clock)
    assert (report.rows_read, report.rows_landed) == (3, 2)  # the first file is not read again
    rows = Lake(node.landed("customers")).read(["id_number", "x"]).sort_by("id_number").to_pylist()
    assert [tuple(row.values()) for row in rows] == [("a", 1), ("b", 2), ("c", 3)]
    assert collect(node, "customers", "incremental", clock).skipped
    (tmp_path / "in" / "1.csv").write_text("ID,X\na,4\nb,2\n")
    assert collect(node, "customers", "incremental", clock).rows_landed == 1


def test_history_keeps_every_state_with_its_times(opened: Any, clock: Any) -> None:
    bank = opened(history=True)
    bank.write([customer(1, UPD=at(9)), customer(2, UPD=at(9)), customer(3, UPD=at(9))])
    collect(bank.node, "customers", "full", clock)
    bank.write([customer(1, UPD=at(9)), customer(2, UPD=at(10), LIM=7.0), customer(3, UPD=at(9))])
    collect(bank.node, "customers", "incremental", clock)
    bank.write([customer(2, UPD=at(10), LIM=7.0), customer(3, UPD=at(9))])
    collect(bank.node, "customers", "full", clock)
    found = query(bank.node, 'SELECT id_number, "limit", valid_from, valid_until, current FROM history.customers')
    rows = sorted(tuple(row.values()) for row in found.to_pylist())
    first, second, third = sorted({row[2] for row in rows} | {row[3] for row in rows if row[3]})
    assert rows == [
        ("AB0001X", 1001.5, first, third, False),
        ("AB0002X", 7.0, second, None, True),
        ("AB0002X", 1002.5, first, second, False),
        ("AB0003X", 1003.5, first, None, True),
    ]


def test_a_history_behind_the_landed_table_catches_up(opened: Any, clock: Any) -> None:
    bank = opened(history=True)
    bank.write([customer(1, UPD=at(9))])
    collect(bank.node, "customers", "full", clock)
    without = open_without_history(bank)
    for hour in (10, 11):
        bank.write([customer(1, UPD=at(hour), LIM=float(hour))])
        collect(without, "customers", "incremental", clock)
    bank.write([customer(1, UPD=at(12), LIM=12.0)])
    collect(bank.node, "customers", "incremental", clock)
    found = query(bank.node, 'SELECT "limit" FROM history.customers ORDER BY valid_from')
    assert found.column("limit").to_pylist() == [1001.5, 10.0, 11.0, 12.0]


def open_without_history(bank: Bank) -> Any:
    source = bank.node.party.sources["core"].model_dump(by_alias=True, mode="json")
    return make_node(bank.node.root, source, bank.node.party.tables["customers"].table)


def test_the_change_feed_tells_inserts_updates_and_deletes(opened: Any, clock: Any) -> None:
    bank = opened()
    bank.write([customer(number, UPD=at(9)) for number in range(6)])
    version = collect(bank.node, "customers", "full", clock).version
    source = [customer(number, UPD=at(9)) for number in range(1, 6)]
    source[1] = customer(2, UPD=at(10), LIM=1.0)
    bank.write([*source, customer(9, UPD=at(11))])
    middle = collect(bank.node, "customers", "incremental", clock).version
    collect(bank.node, "customers", "full", clock)  # writes every row anew, and finds one gone
    told = {row["id_number"]: row["_change"] for row in changes(bank.node, "customers", version).to_pylist()}
    assert told == {"AB0000X": "delete", "AB0002X": "update", "AB0009X": "insert"}
    told = {row["id_number"]: row["_change"] for row in changes(bank.node, "customers", middle).to_pylist()}
    assert told == {"AB0000X": "delete"}
    with pytest.raises(LakeError, match=r"bank\.customers has no version 99"):
        changes(bank.node, "customers", 99)


def test_a_query_sees_the_table_as_it_was(opened: Any, clock: Any) -> None:
    bank = opened()
    bank.write([customer(1)])
    version = collect(bank.node, "customers", "full", clock).version
    bank.write([customer(1), customer(2, UPD=at(9))])
    collect(bank.node, "customers", "incremental", clock)
    counted = "SELECT count(*) AS n FROM landed.customers"
    assert query(bank.node, counted, at=version).to_pylist() == [{"n": 1}]
    assert query(bank.node, counted).to_pylist() == [{"n": 2}]
    later = datetime.now(UTC) + timedelta(hours=1)
    assert query(bank.node, counted, at=later).to_pylist() == [{"n": 2}]


@pytest.mark.parametrize("policy", ["evolve", "freeze", "discard"])
def test_a_new_column_does_what_the_contract_says(tmp_path: Path, clock: Any, policy: str) -> None:
    node = contracted(tmp_path, new_columns=policy)
    (tmp_path / "a.csv").write_text("ID,X,U\na,1,1\n")
    collect(node, "customers", "full", clock)
    (tmp_path / "a.csv").write_text("ID,X,U,Gender Code\na,1,1,m\nb,2,2,f\n")
    if policy == "freeze":
        with pytest.raises(SourceError, match=r"Gender Code is new, and `contract.new_columns` is freeze"):
            collect(node, "customers", "incremental", clock)
        return
    collect(node, "customers", "incremental", clock)
    rows = Lake(node.landed("customers")).read().drop_columns(["_sync"]).sort_by("id_number").to_pylist()
    beside = {"gender_code": None} if policy == "evolve" else {}
    assert rows[0] == {"id_number": "a", "x": 1, "u": 1} | beside | ({"gender_code": "m"} if beside else {})
    assert rows[1] == {"id_number": "b", "x": 2, "u": 2} | ({"gender_code": "f"} if beside else {})
    counted = query(node, "SELECT count(*) AS n, count(x) AS x FROM landed.customers").to_pylist()
    assert counted == [{"n": 2, "x": 2}]


@pytest.mark.parametrize("policy", ["evolve", "freeze", "discard"])
def test_a_lost_column_does_what_the_contract_says(tmp_path: Path, clock: Any, policy: str) -> None:
    node = contracted(tmp_path, lost_columns=policy, changed_types="freeze")
    (tmp_path / "a.csv").write_text("ID,X,U\na,1,1\n")
    collect(node, "customers", "full", clock)
    (tmp_path / "a.csv").write_text("ID,U\na,2\n")
    if policy == "freeze":
        with pytest.raises(SourceError, match=r"X is gone, and `contract.lost_columns` is freeze"):
            collect(node, "customers", "full", clock)
        return
    report = collect(node, "customers", "full", clock)
    rows = Lake(node.landed("customers")).read(["id_number", "x"]).to_pylist()
    assert report.skipped == (policy == "discard")
    assert rows == [{"id_number": "a", "x": 1 if policy == "discard" else None}]


@pytest.mark.parametrize("policy", ["evolve", "freeze", "discard"])
def test_a_changed_type_does_what_the_contract_says(tmp_path: Path, clock: Any, policy: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    node = contracted(tmp_path, kind="parquet", changed_types=policy)
    pq.write_table(pa.table({"ID": ["a"], "X": [1], "U": [1]}), tmp_path / "a.parquet")
    collect(node, "customers", "full", clock)
    pq.write_table(pa.table({"ID": ["a"], "X": ["7"], "U": [2]}), tmp_path / "a.parquet")
    if policy == "freeze":
        with pytest.raises(SourceError, match=r"X has another type, and `contract.changed_types` is freeze"):
            collect(node, "customers", "incremental", clock)
        return
    for _ in range(2):
        collect(node, "customers", "incremental", clock)
    assert Lake(node.landed("customers")).read(["x"]).to_pylist() == [{"x": 7 if policy == "evolve" else None}]


def contracted(root: Path, kind: str = "csv", **contract: str) -> Any:
    columns = {
        "id_number": {"from": "ID", "type": "string"},
        "x": {"from": "X", "type": "int64"},
        "u": {"from": "U", "type": "int64"},
    }
    settings = {"table": f"a.{kind}", "columns": columns, "derived": {}, "cursor": "u", "contract": contract}
    return make_node(root, {"kind": kind, "path": "."}, **settings)
