"""The shipped suites, on the scenarios they are made for."""

import json
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from quality_checked import at_times, with_settings

from ftl.collect import Lake, collect
from ftl.consortium import Folder, advance, load, new
from ftl.quality import check, quarantined, read_validated

SUITES = Path(__file__).parents[2] / "expectations"
TABLES = {"bank": "accounts", "partner": "customers"}
SOURCE_TABLES = {"bank": "SIM_CARD_ACCT", "partner": "sim_members"}


@pytest.fixture(scope="module")
def taiwan(tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, Callable[[], datetime]]:
    """The scenario, fully synced and checked, then incrementally."""
    root, clock = tmp_path_factory.mktemp("taiwan") / "consortium", at_times()
    new(root, "taiwan", {})
    folder = load(root)
    for mode in ("full", "incremental"):
        for party, table in TABLES.items():
            collect(folder.node(party), table, mode, clock)  # type: ignore[arg-type]
            check(folder.node(party), table, clock)
        advance(root)
    return folder, clock


def _damaged(folder: Folder, party: str) -> set[str]:
    rows = json.loads((folder.root / "data" / "damaged.json").read_text())["rows"]
    return {row["key"] for row in rows if row["table"] == SOURCE_TABLES[party]}


@pytest.mark.parametrize("party", list(TABLES))
def test_every_damaged_row_and_no_other_is_in_quarantine(taiwan: Any, party: str) -> None:
    folder, _ = taiwan
    keys = quarantined(folder.node(party), TABLES[party]).column("key").to_pylist()
    damaged = _damaged(folder, party)
    assert len(damaged) >= 24
    assert sorted(keys) == sorted(damaged)


@pytest.mark.parametrize("party", list(TABLES))
def test_every_other_row_is_published(taiwan: Any, party: str) -> None:
    folder, clock = taiwan
    node, table = folder.node(party), TABLES[party]
    key = node.party.tables[table].key
    published = read_validated(node, table, key).column(key[0]).to_pylist()
    collect(node, table, "incremental", clock)
    landed = Lake(node.landed(table)).read(key).column(key[0]).to_pylist()
    assert len(published) == len(set(published)) == 30_000 - len(_damaged(folder, party))
    assert set(published) == set(landed) - _damaged(folder, party)


@pytest.mark.parametrize(
    ("party", "table", "suite"),
    [("bank", "loans", "german_bank_loans"), ("partner", "people", "german_partner_people")],
)
def test_the_german_suites_pass_the_published_table(tmp_path: Path, party: str, table: str, suite: str) -> None:
    root, clock = tmp_path / "consortium", at_times()
    new(root, "german", {})
    (root / "expectations").mkdir(exist_ok=True)
    shutil.copy(SUITES / f"{suite}.py", root / "expectations")
    node = with_settings(load(root).node(party), {"suite": f"expectations/{suite}.py"}, table)
    collect(node, table, "full", clock)
    report = check(node, table, clock)
    assert (report.rows, report.passed, report.warnings) == (1000, 1000, [])
