"""Windowed aggregates against a brute force over every row, and that the future has no influence."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftl.collect import Lake, collect
from ftl.collect.windows import aggregated
from ftl.consortium import Consortium, Node
from ftl.consortium.windows import View
from ftl.errors import MappingError, SourceUnavailable
from ftl.quality import check

START = date(2020, 1, 1)
WINDOWS = (30, 90)
SALES: dict[str, Any] = {
    "table": "invoices",
    "on": {"firm": "seller"},
    "date": "day",
    "windows": WINDOWS,
    "features": {
        "n": {"of": "count"},
        "good": {"of": "sum", "column": "amount", "where": "status = 'valid'"},
        "mean": {"of": "mean", "column": "amount"},
        "least": {"of": "min", "column": "amount"},
        "most": {"of": "max", "column": "amount"},
        "void": {"of": "share", "where": "status = 'void'"},
        "buyers": {"of": "distinct", "column": "buyer"},
        "last": {"of": "days_since", "where": "status = 'valid'"},
    },
}
VIEW: dict[str, Any] = {"parent": "firms", "at": "rated", "children": {"sales": SALES}}
FIRMS = pa.schema([("firm", pa.string()), ("rated", pa.date32()), ("amount", pa.float64())])
INVOICES = pa.schema(
    [
        ("seller", pa.string()),
        ("day", pa.date32()),
        ("amount", pa.float64()),
        ("status", pa.string()),
        ("buyer", pa.string()),
        ("entered", pa.date32()),
    ]
)

days = st.integers(0, 200).map(lambda number: START + timedelta(days=number))
firms = st.lists(
    st.fixed_dictionaries(
        {"firm": st.sampled_from("ABC"), "rated": st.one_of(st.none(), days), "amount": st.just(1.0)}
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda firm: firm["firm"],
)
invoice = st.fixed_dictionaries(
    {
        "seller": st.sampled_from("ABCD"),
        "day": st.one_of(st.none(), days),
        "amount": st.one_of(st.none(), st.integers(-100, 100).map(float)),
        "status": st.sampled_from(["valid", "void", None]),
        "buyer": st.sampled_from(["x", "y", "z", None]),
        "entered": days,
    }
)


def brute(firm: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The same features, one row at a time, by pandas."""
    at, frame = firm["rated"], pd.DataFrame(rows, columns=INVOICES.names)
    before = [day is not None and at is not None and day < at for day in frame["day"]]
    mine = frame[(frame["seller"] == firm["firm"]) & pd.Series(before, dtype=bool)]
    features: dict[str, Any] = {}
    for window in WINDOWS:
        recent = mine[np.array([day >= at - timedelta(days=window) for day in mine["day"]], dtype=bool)] if at else mine
        amounts = recent["amount"].astype(float)
        features[f"sales_n_{window}"] = len(recent) if at else None
        features[f"sales_good_{window}"] = amounts[recent["status"] == "valid"].sum() if at else None
        features[f"sales_mean_{window}"] = amounts.mean()
        features[f"sales_least_{window}"] = amounts.min()
        features[f"sales_most_{window}"] = amounts.max()
        features[f"sales_void_{window}"] = (recent["status"] == "void").mean() if len(recent) else None
        features[f"sales_buyers_{window}"] = recent["buyer"].nunique() if at else None
    valid = mine[mine["status"] == "valid"]["day"]
    features["sales_last"] = (at - max(valid)).days if len(valid) else None
    return {name: None if pd.isna(value) else pytest.approx(float(value)) for name, value in features.items()}


def of(parents: list[dict[str, Any]], rows: list[dict[str, Any]], view: dict[str, Any] = VIEW) -> dict[str, Any]:
    """Firm to its features."""
    tables = {
        "firms": pa.Table.from_pylist(parents, FIRMS),
        "invoices": pa.Table.from_pylist(rows, INVOICES),
    }
    found = aggregated("view", View.model_validate(view), tables).to_pylist()
    return {row.pop("firm"): {name: row[name] for name in row if name.startswith("sales_")} for row in found}


@settings(max_examples=30, deadline=None)
@given(parents=firms, rows=st.lists(invoice, max_size=25))
def test_every_feature_is_what_a_brute_force_over_all_rows_finds(
    parents: list[dict[str, Any]], rows: list[dict[str, Any]]
) -> None:
    assert of(parents, rows) == {firm["firm"]: brute(firm, rows) for firm in parents}


@settings(max_examples=12, deadline=None)
@given(parents=firms, rows=st.lists(invoice, max_size=15), later=st.lists(invoice, min_size=1, max_size=10))
def test_what_happens_on_the_date_or_after_it_changes_nothing(
    parents: list[dict[str, Any]], rows: list[dict[str, Any]], later: list[dict[str, Any]]
) -> None:
    newest = max([firm["rated"] for firm in parents if firm["rated"]], default=START)
    future = [row | {"day": max(row["day"] or newest, newest)} for row in later]
    assert of(parents, rows + future) == of(parents, rows)


def test_a_row_that_became_known_later_does_not_count_where_that_is_declared() -> None:
    view = VIEW | {"children": {"sales": SALES | {"known": "entered"}}}
    row = {"seller": "A", "day": date(2020, 2, 1), "amount": 5.0, "status": "valid", "buyer": "x"}
    rows = [row | {"entered": date(2020, 2, 2)}, row | {"entered": date(2020, 3, 1)}]
    (found,) = of([{"firm": "A", "rated": date(2020, 3, 1)}], rows, view).values()
    assert found["sales_n_30"] == 1


def test_one_day_may_stand_for_all_rows() -> None:
    view = {"parent": "firms", "day": "2020-03-01", "children": {"sales": SALES}}
    row = {"seller": "A", "day": date(2020, 2, 29), "amount": 5.0, "status": "valid", "buyer": "x"}
    (found,) = of([{"firm": "A"}], [row, row | {"day": date(2020, 3, 1)}], view).values()
    assert (found["sales_n_30"], found["sales_last"]) == (1, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": "invoice"}, r"no table 'invoice'. Did you mean 'invoices'\?"),
        ({"on": {"frm": "seller"}}, r"the parent has no column 'frm'. Did you mean 'firm'\?"),
        ({"date": "amount"}, "amount is a double"),
        ({"where": "amont > 0"}, "amont"),
        ({"where": "amount > (SELECT 1)"}, "a query of its own"),
        ({"features": {"x": {"of": "sum"}}}, "`of: sum` needs a `column`"),
        ({"features": {"x": {"of": "count", "column": "amount"}}}, "takes no `column`"),
        ({"features": {"x": {"of": "share"}}}, "a share needs `where`"),
        ({"windows": [30, 30]}, "two columns are named 'sales_n_30'"),
    ],
)
def test_a_view_that_cannot_be_is_refused_before_any_row_is_read(change: dict[str, Any], message: str) -> None:
    with pytest.raises(MappingError, match=message):
        of([{"firm": "A"}], [], VIEW | {"children": {"sales": SALES | change}})


@pytest.mark.parametrize("dates", [{"at": None}, {"day": "2020-01-01"}])
def test_a_view_has_one_date(dates: dict[str, Any]) -> None:
    with pytest.raises(MappingError, match="either `at` or `day`"):
        of([{"firm": "A"}], [], VIEW | dates)


def office(root: Path) -> Node:
    """A party with firms, invoices and the features out of both."""
    text, real = {"type": "string"}, {"type": "float64"}
    tables = {
        "firms": {
            "source": "files",
            "table": "firms.csv",
            "columns": {"firm": {"from": "firm"} | text, "rated": {"from": "rated", "type": "date"}},
        },
        "invoices": {
            "source": "files",
            "table": "invoices.csv",
            "key": ["number"],
            "columns": {
                "number": {"from": "number", "type": "int64"},
                "day": {"from": "day", "type": "timestamp"},
                **{name: {"from": name} | text for name in ("seller", "status", "buyer")},
                "amount": {"from": "amount"} | real,
            },
        },
        "behaviour": {
            "source": "windows",
            "table": "behaviour",
            "columns": {"firm": {"from": "firm"} | text, "sum_90": {"from": "sales_good_90"} | real},
        },
    }
    party = {
        "role": "active",
        "sources": {
            "files": {"kind": "csv", "path": "files"},
            "windows": {"kind": "windows", "views": {"behaviour": VIEW}},
        },
        "tables": tables,
        "features": {"table": "behaviour", "columns": ["sum_90"]},
        "label": {"column": "sum_90", "kind": "number"},
    }
    values = {"version": 1, "name": "tests", "identifiers": ["firm"], "parties": {"office": party}}
    consortium = Consortium.model_validate(values)
    return Node(root, "office", consortium.parties["office"], consortium)


def write(root: Path, invoices: list[tuple[int, str, float]]) -> None:
    (root / "files").mkdir(exist_ok=True)
    pacsv.write_csv(pa.table({"firm": ["A", "B"], "rated": ["2020-03-01", "2020-03-01"]}), root / "files/firms.csv")
    rows = [
        {"number": number, "seller": "A", "day": day, "amount": amount, "status": "valid", "buyer": "x"}
        for number, day, amount in invoices
    ]
    pacsv.write_csv(pa.Table.from_pylist(rows), root / "files/invoices.csv")


def clock() -> datetime:
    return datetime(2024, 1, 1, tzinfo=UTC)


def load(node: Node, *tables: str) -> None:
    for table in tables:
        collect(node, table, "full", clock)
        check(node, table, clock)


def features(node: Node) -> dict[str, float]:
    rows = Lake(node.validated("behaviour")).read(["firm", "sum_90"]).to_pylist()
    return {row["firm"]: row["sum_90"] for row in rows}


def test_features_land_as_a_table_and_are_left_alone_until_their_tables_move(tmp_path: Path) -> None:
    node = office(tmp_path)
    write(tmp_path, [(1, "2020-02-01", 10.0), (2, "2020-02-02 13:00:00", 5.5)])
    load(node, "firms", "invoices", "behaviour")
    assert features(node) == {"A": 15.5, "B": 0.0}
    assert collect(node, "behaviour", "full", clock).skipped
    write(tmp_path, [(1, "2020-02-01", 10.0), (2, "2020-02-02", 5.5), (3, "2020-02-03", 1.0), (4, "2020-03-01", 7.0)])
    load(node, "invoices", "behaviour")
    assert features(node) == {"A": 16.5, "B": 0.0}


def test_features_of_tables_that_were_never_published_say_what_to_do(tmp_path: Path) -> None:
    node = office(tmp_path)
    write(tmp_path, [(1, "2020-02-01", 10.0)])
    load(node, "firms")
    with pytest.raises(SourceUnavailable, match=r"office\.invoices has no published rows yet"):
        collect(node, "behaviour", "full", clock)
