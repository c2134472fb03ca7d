"""Loans of a lender with their borrowers' earlier loans: joins, two clocks, missing times, and what was known when.

Always on simulated files of the format of the SuperLender set; where the environment variable FTL_LOANS_DATA names a
folder with the real ones, on those as well. The files are read packed, as they are.
"""

import csv
import gzip
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ftl.collect import Lake, collect
from ftl.consortium import Consortium, Node
from ftl.quality import check, read_validated

FOLDERS = ["made up", *filter(None, [os.environ.get("FTL_LOANS_DATA")])]
TABLES = ("loans", "previous", "people", "history", "newyear")
NEW_YEAR = pd.Timestamp("2017-01-01", tz="UTC")
WINDOWS = (90, 365)
LOAN = [
    "customerid",
    "systemloanid",
    "loannumber",
    "approveddate",
    "creationdate",
    "loanamount",
    "totaldue",
    "termdays",
]
PEOPLE = ["bank_account_type", "bank_name_clients", "bank_branch_clients", "employment_status_clients"]


def write_made(folder: Path) -> Path:
    """Simulated loans: some borrowers have none before, some loans are closed after the new one was approved."""
    rng = np.random.default_rng(2017)
    loans, previous, people = list[list[Any]](), list[list[Any]](), list[list[Any]]()
    for person in range(60):
        name = f"8a{person:030x}"
        approved = datetime(2017, 7, 1) + timedelta(minutes=int(rng.integers(43_200)))  # noqa: DTZ001 - without zone
        loans.append([*_loan(name, 1000 + person, approved), "", "Bad" if person % 5 == 0 else "Good"])
        people += [[name, "Savings", "GT Bank", "", "Permanent" if person % 2 else "", ""]] * (1 + (person % 20 == 0))
        for number in range(person % 5):
            before = approved - timedelta(days=int(rng.integers(1, 500)), seconds=7)
            due = before + timedelta(days=30)
            paid = due + timedelta(days=int(rng.integers(-20, 20)))
            closed = paid + timedelta(minutes=15)
            times = [_time(closed), "", _time(due), _time(paid) if number % 4 else ""]
            previous.append([*_loan(name, 10_000 + 10 * person + number, before), *times])
    _write(folder / "trainperf.csv.gz", [*LOAN, "referredby", "good_bad_flag"], loans)
    later = ["closeddate", "referredby", "firstduedate", "firstrepaiddate"]
    _write(folder / "trainprevloans.csv.gz", [*LOAN, *later], previous)
    _write(folder / "traindemographics.csv.gz", ["customerid", *PEOPLE, "level_of_education_clients"], people)
    return folder


def _loan(customer: str, number: int, approved: datetime) -> list[Any]:
    """The time of approval is Nigeria's, that of creation UTC."""
    created = approved - timedelta(hours=1, seconds=9)
    return [customer, number, number % 7, _time(approved), _time(created), "10000.0000", "11500.0000", 30]


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def _write(path: Path, columns: list[str], rows: list[list[Any]]) -> None:
    with gzip.open(path, "wt", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\r\n").writerows([columns, *rows])


def view(dates: dict[str, str]) -> dict[str, Any]:
    """Earlier loans of a loan's borrower, once they are paid back: before that nobody knew how they would end."""
    features = {
        "count": {"of": "count"},
        "amount": {"of": "sum", "column": "amount"},
        "late": {"of": "share", "where": "first_paid > first_due"},
        "last": {"of": "days_since"},
    }
    child = {"table": "previous", "on": {"customer": "customer"}, "date": "approved", "known": "closed"}
    return {"parent": "loans", "children": {"earlier": child | {"windows": WINDOWS, "features": features}}} | dates


def column(source: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"from": source, "type": kind, **more}


def lender(root: Path, data: Path) -> Node:
    """A lender over the raw files as they lie."""
    local = {"zone": "Africa/Lagos"}
    loan = {
        "loan": column("systemloanid", "string"),
        "customer": column("customerid", "string"),
        "approved": column("approveddate", "timestamp", **local),
        "created": column("creationdate", "timestamp"),
        "amount": column("loanamount", "float64"),
    }
    times = {"closed": "closeddate", "first_due": "firstduedate", "first_paid": "firstrepaiddate"}
    known = {name: column(source, "timestamp", **local) for name, source in times.items()}
    made = {"loan": column("loan", "string"), "earlier_last": column("earlier_last", "int64")} | {
        f"earlier_{what}_{days}": column(f"earlier_{what}_{days}", kind)
        for what, kind in (("count", "int64"), ("amount", "float64"), ("late", "float64"))
        for days in WINDOWS
    }
    tables = {
        "loans": {"table": "trainperf.csv.gz", "columns": loan | {"flag": column("good_bad_flag", "string")}},
        "previous": {"table": "trainprevloans.csv.gz", "columns": loan | known},
        "people": {
            "table": "traindemographics.csv.gz",
            "key": ["customer"],
            "repeated": "newest",
            "columns": {"customer": column("customerid", "string"), "work": column(PEOPLE[3], "string")},
        },
        "history": {"source": "windows", "table": "history", "columns": made},
        "newyear": {"source": "windows", "table": "newyear", "columns": made},
    }
    views = {"history": view({"at": "approved"}), "newyear": view({"day": f"{NEW_YEAR:%Y-%m-%d}"})}
    party = {
        "role": "active",
        "sources": {"files": {"kind": "csv", "path": str(data)}, "windows": {"kind": "windows", "views": views}},
        "tables": {name: {"source": "files", "key": ["loan"]} | table for name, table in tables.items()},
        "features": {"table": "loans", "columns": ["amount"]},
        "label": {"column": "flag", "positive": "Bad"},
    }
    values = {"version": 1, "name": "tests", "identifiers": ["loan"], "parties": {"lender": party}}
    consortium = Consortium.model_validate(values)
    return Node(root, "lender", consortium.parties["lender"], consortium)


@pytest.fixture(scope="module", params=FOLDERS)
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_made(tmp_path_factory.mktemp("raw")) if request.param == "made up" else Path(request.param)


@pytest.fixture(scope="module")
def node(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Node:
    made = lender(tmp_path_factory.mktemp("lender"), data)
    moments = iter(pd.date_range("2024-06-01", periods=1000, freq="s", tz="UTC").to_pydatetime())
    for table in TABLES:
        collect(made, table, "full", lambda: next(moments))
        check(made, table, lambda: next(moments))
    return made


def raw(data: Path, name: str) -> pd.DataFrame:
    """A file with its times in UTC, by another reader than the product's."""
    rows = pd.read_csv(data / f"{name}.csv.gz", dtype=str, keep_default_na=False).replace("", None)
    for local in ("approveddate", "closeddate", "firstduedate", "firstrepaiddate"):
        if local in rows:
            rows[local] = pd.to_datetime(rows[local]).dt.tz_localize("Africa/Lagos").dt.tz_convert("UTC")
    return rows


def test_two_clocks_become_one_and_a_borrower_stands_there_once(data: Path, node: Node) -> None:
    loans = read_validated(node, "loans").to_pandas()
    assert len(loans) == len(raw(data, "trainperf"))
    waited = (loans["approved"] - loans["created"]).dt.total_seconds()
    assert waited.min() >= 0, "nothing is approved before it is asked for"
    assert waited.median() < 60
    people = raw(data, "traindemographics")
    twice = int(people["customerid"].duplicated().sum())
    assert twice > 0
    assert read_validated(node, "people").num_rows == len(people) - twice


def expected(data: Path, at: pd.Timestamp | None) -> pd.DataFrame:
    """Per loan the features of earlier loans, each pair of loan and earlier loan by pandas' join."""
    loans, before = raw(data, "trainperf"), raw(data, "trainprevloans")
    loans = loans.assign(at=loans["approveddate"] if at is None else at).set_index("systemloanid")
    pairs = loans[["customerid", "at"]].reset_index(names="loan").merge(before, on="customerid")
    pairs = pairs[(pairs["approveddate"] < pairs["at"]) & (pairs["closeddate"] < pairs["at"])]
    pairs = pairs.assign(
        late=pairs["firstrepaiddate"] > pairs["firstduedate"], amount=pairs["loanamount"].astype(float)
    )
    result = pd.DataFrame(index=loans.index)
    for days in WINDOWS:
        recent = pairs[pairs["approveddate"] >= pairs["at"] - pd.Timedelta(days=days)].groupby("loan")
        result[f"earlier_count_{days}"] = recent.size().reindex(loans.index, fill_value=0)
        result[f"earlier_amount_{days}"] = recent["amount"].sum().reindex(loans.index, fill_value=0.0)
        result[f"earlier_late_{days}"] = recent["late"].mean()
    newest = pairs.groupby("loan")["approveddate"].max().reindex(loans.index)
    result["earlier_last"] = (loans["at"].dt.normalize() - newest.dt.normalize()).dt.days
    return result.astype("float64")


@pytest.mark.parametrize(("table", "at"), [("history", None), ("newyear", NEW_YEAR)])
def test_earlier_loans_count_once_it_was_known_how_they_ended(
    table: str, at: pd.Timestamp | None, data: Path, node: Node
) -> None:
    found = read_validated(node, table).to_pandas().set_index("loan").astype("float64")
    wanted = expected(data, at).loc[found.index]
    assert wanted["earlier_count_365"].sum() > 0
    pd.testing.assert_frame_equal(found[wanted.columns], wanted, check_names=False)


def test_a_loan_that_was_open_on_the_day_has_no_influence(data: Path, node: Node) -> None:
    before = raw(data, "trainprevloans")
    open_then = before[(before["approveddate"] < NEW_YEAR) & (before["closeddate"] >= NEW_YEAR)]
    assert len(open_then) > 0
    counted = sum(read_validated(node, "newyear", ["earlier_count_365"]).column(0).to_pylist())
    year = before[(before["approveddate"] >= NEW_YEAR - pd.Timedelta(days=365)) & (before["approveddate"] < NEW_YEAR)]
    assert counted == int((year["closeddate"] < NEW_YEAR).sum()) < len(year)


def test_a_missing_time_stays_missing(data: Path, node: Node) -> None:
    before = raw(data, "trainprevloans")
    landed = Lake(node.landed("previous")).read(["first_paid"])
    assert landed.column(0).null_count == int(before["firstrepaiddate"].isna().sum())
