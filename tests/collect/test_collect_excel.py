from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from collect_bank import make_node
from xlsx_file import write_xlsx

from ftl.collect import Lake, collect, open_source
from ftl.consortium import Node
from ftl.errors import SourceError

COLUMNS = {
    "id_number": {"from": "ID", "type": "string"},
    "x": {"from": "X", "type": "float64"},
    "born": {"from": "BORN", "type": "date"},
    "at": {"from": "AT", "type": "timestamp"},
    "ok": {"from": "OK", "type": "bool"},
}
HEADER = ["ID", "X", "BORN", "AT", "OK"]


def node_of(root: Path, table: str = "*.xlsx", columns: dict[str, Any] = COLUMNS, **source: Any) -> Node:
    settings = {"kind": "excel", "path": "."} | source
    return make_node(root, settings, table=table, columns=columns, derived={}, cursor=None)


def landed(node: Node, clock: Any) -> list[tuple[Any, ...]]:
    collect(node, "customers", "full", clock)
    rows = Lake(node.landed("customers")).read(list(node.party.tables["customers"].columns)).to_pylist()
    return [tuple(row.values()) for row in rows]


def test_cells_keep_their_kind_and_text_that_looks_like_a_number_stays_text(tmp_path: Path, clock: Any) -> None:
    rows = [
        ["007", 1.5, date(1980, 2, 3), datetime(2024, 5, 1, 10, 0, 1, tzinfo=UTC), True],
        [8, 2, None, datetime(2024, 5, 2, tzinfo=UTC), False],
        [None, None, None, None, None],
        ["九", None, date(1990, 1, 1), None, None],
    ]
    write_xlsx(tmp_path / "a.xlsx", Loans=[HEADER, *rows])
    assert landed(node_of(tmp_path), clock) == [
        ("007", 1.5, date(1980, 2, 3), datetime(2024, 5, 1, 10, 0, 1, tzinfo=UTC), True),
        ("8", 2.0, None, datetime(2024, 5, 2, tzinfo=UTC), False),
        ("九", None, date(1990, 1, 1), None, None),
    ]


def test_a_sheet_is_found_by_name_and_its_header_by_row(tmp_path: Path, clock: Any) -> None:
    title = ["Loans of the branch"]
    write_xlsx(tmp_path / "a.xlsx", Notes=[["x"]], Loans=[title, [], HEADER, ["a", 1]])
    node = node_of(tmp_path, sheet="Loans", header_row=3)
    assert landed(node, clock) == [("a", 1.0, None, None, None)]
    with pytest.raises(SourceError, match=r"core\.sheet: a\.xlsx has no sheet 'Loan'\. Did you mean 'Loans'\?"):
        open_source(node_of(tmp_path, sheet="Loan"), "core").columns("a.xlsx")


def test_declared_column_names_make_the_first_row_a_row(tmp_path: Path, clock: Any) -> None:
    write_xlsx(tmp_path / "a.xlsx", S=[["a", 1], ["b", 2]])
    node = node_of(tmp_path, columns={k: COLUMNS[k] for k in ("id_number", "x")}, column_names=["ID", "X"])
    assert landed(node, clock) == [("a", 1.0), ("b", 2.0)]


def test_files_of_one_table_are_read_one_after_the_other_and_only_new_ones_later(tmp_path: Path, clock: Any) -> None:
    write_xlsx(tmp_path / "1.xlsx", S=[HEADER, ["a", 1]])
    write_xlsx(tmp_path / "2.xlsx", S=[HEADER[::-1], [None, None, None, 2, "b"]])
    node = node_of(tmp_path)
    assert [row[:2] for row in landed(node, clock)] == [("a", 1.0), ("b", 2.0)]
    write_xlsx(tmp_path / "3.xlsx", S=[HEADER, ["c", 3], ["a", 7]])
    report = collect(node, "customers", "incremental", clock)
    assert (report.rows_read, report.rows_landed) == (2, 2)
    rows = Lake(node.landed("customers")).read(["id_number", "x"]).sort_by("id_number").to_pylist()
    assert [tuple(row.values()) for row in rows] == [("a", 7.0), ("b", 2.0), ("c", 3.0)]


def test_a_damaged_workbook_is_told_by_file_and_sheet_and_lands_nothing(tmp_path: Path, clock: Any) -> None:
    write_xlsx(tmp_path / "a.xlsx", Loans=[HEADER, ["secret", 1]])
    whole = (tmp_path / "a.xlsx").read_bytes()
    (tmp_path / "a.xlsx").write_bytes(whole[: len(whole) // 2])
    node = node_of(tmp_path, sheet="Loans")
    with pytest.raises(SourceError, match=r"core: sheet 'Loans' of a\.xlsx cannot be read as excel: \w+\.") as caught:
        collect(node, "customers", "full", clock)
    assert "secret" not in str(caught.value)
    assert Lake(node.landed("customers")).count() == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"row 1 of the first sheet of a\.xlsx is empty"),
        ([["ID", None, "X"]], r"row 1 of the first sheet of a\.xlsx names no column 2"),
        ([["ID", "X", "ID"]], r"names the column 'ID' twice"),
    ],
)
def test_a_header_that_names_no_columns_is_refused(tmp_path: Path, rows: list[list[Any]], message: str) -> None:
    write_xlsx(tmp_path / "a.xlsx", S=rows)
    with pytest.raises(SourceError, match=message):
        open_source(node_of(tmp_path), "core").columns("a.xlsx")
