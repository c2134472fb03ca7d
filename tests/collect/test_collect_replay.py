import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
from collect_bank import COLUMNS, customer, open_bank
from quality_checked import with_settings

from ftl.collect import Lake, Refusal, Refused, collect, current, replay
from ftl.consortium import Node
from ftl.errors import LakeError

FIXED = COLUMNS | {"score": {"from": "SCORE", "type": "int64", "missing": ["-1", "?"]}}
LATER = "2024-05-02 00:00:00"


@pytest.fixture
def node(request: pytest.FixtureRequest, tmp_path: Path, clock: Any) -> Node:
    """Of ten customers two have a score of "?" and one a birthday that is none; the mapping is mended for the first."""
    rows = [customer(number) for number in range(10)]
    rows[3], rows[5], rows[6] = rows[3] | {"SCORE": "?"}, rows[5] | {"SCORE": "?"}, rows[6] | {"BORN": "1980-02-31"}
    bank = open_bank("sqlite", tmp_path, request)
    bank.write(rows)
    assert collect(bank.node, "customers", "full", clock).rows_quarantined == 3
    request.node.bank, request.node.rows = bank, rows
    return with_settings(bank.node, {"columns": FIXED})


def keys(node: Node) -> list[str]:
    return sorted(Lake(node.landed("customers")).read(["id_number"]).column(0).to_pylist())


def refused(node: Node) -> list[str]:
    return sorted(current(node, "customers").column("key").to_pylist(), key=str)


def test_records_that_read_now_land_once_and_the_rest_stay(node: Node, clock: Any) -> None:
    report = replay(node, "customers", clock)
    assert (report.records, report.landed, report.refused, report.conflicting) == (3, 2, 1, 0)
    assert len(keys(node)) == 9
    assert refused(node) == ["AB0006X"]
    again = replay(node, "customers", clock)
    assert (again.records, again.landed, again.version) == (1, 0, report.version)


def test_a_replayed_row_is_what_a_full_sync_makes_of_it(node: Node, clock: Any) -> None:
    replay(node, "customers", clock)
    replayed = Lake(node.landed("customers")).read(node.party.tables["customers"].columns).sort_by("id_number")
    assert not collect(node, "customers", "full", clock).skipped
    full = Lake(node.landed("customers")).read(node.party.tables["customers"].columns).sort_by("id_number")
    assert replayed.to_pylist() == full.to_pylist()


def test_after_a_replay_incremental_syncs_go_on(node: Node, clock: Any, request: pytest.FixtureRequest) -> None:
    replay(node, "customers", clock)
    rows = request.node.rows
    rows[6] = customer(6, UPD=LATER)
    request.node.bank.write(rows)
    report = collect(node, "customers", "incremental", clock)
    assert (report.mode, report.rows_landed) == ("incremental", 1)
    assert (len(keys(node)), refused(node)) == (10, [])


def test_a_record_whose_row_has_landed_since_does_not_come_back(
    node: Node, clock: Any, request: pytest.FixtureRequest
) -> None:
    rows = request.node.rows
    rows[3] = customer(3, LIM=7777.0, UPD=LATER)
    request.node.bank.write(rows)
    collect(request.node.bank.node, "customers", "incremental", clock)
    assert replay(node, "customers", clock).landed == 1
    limits = Lake(node.landed("customers")).read(["id_number", "limit"]).to_pylist()
    assert {row["id_number"]: row["limit"] for row in limits}["AB0003X"] == 7777.0


def test_a_record_without_a_readable_key_lands_under_its_key_and_leaves(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Any
) -> None:
    key = {"id_number": COLUMNS["id_number"] | {"type": "int64", "normalise": "none"}}
    bank = open_bank("sqlite", tmp_path, request, columns=COLUMNS | key)
    bank.write([customer(1, KNR="1"), customer(2, KNR="two"), customer(3, KNR="two"), customer(4, KNR="1x")])
    collect(bank.node, "customers", "full", clock)
    assert refused(bank.node) == [None, None, None]
    recoded = {"id_number": key["id_number"] | {"recode": {"two": 2, "1x": 1}}}
    fixed = with_settings(bank.node, {"columns": COLUMNS | recoded})
    report = replay(fixed, "customers", clock)
    assert (report.landed, report.conflicting) == (0, 3)  # two of them are one key, the third has landed
    recoded["id_number"]["recode"]["1x"] = 4
    fixed = with_settings(bank.node, {"columns": COLUMNS | recoded})
    assert replay(fixed, "customers", clock).landed == 1
    assert replay(fixed, "customers", clock).landed == 0
    assert refused(fixed) == [None, None]


@pytest.mark.parametrize("at", ["prepare", "merge"])
def test_a_replay_that_is_killed_can_be_repeated(node: Node, clock: Any, at: str) -> None:
    program = f"""
import os, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
import ftl.collect.lake, ftl.collect.refused, ftl.collect.replay
from datetime import UTC, datetime
from ftl.consortium import Consortium, Node
from ftl.collect import replay

def then_die(work):
    def dying(*args, **kwargs):
        if {at!r} == "merge":
            os._exit(9)
        work(*args, **kwargs)
        os._exit(9)
    return dying

if {at!r} == "merge":
    ftl.collect.lake.commit = then_die(ftl.collect.lake.commit)
else:
    ftl.collect.refused.Refused.prepare = then_die(ftl.collect.refused.Refused.prepare)
loaded = Consortium.model_validate_json({node.consortium.model_dump_json(by_alias=True)!r})
node = Node(Path({str(node.root)!r}), "bank", loaded.parties["bank"], loaded)
replay(node, "customers", lambda: datetime(2024, 7, 1, tzinfo=UTC))
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=120, capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    assert (len(keys(node)), refused(node)) == (7, ["AB0003X", "AB0005X", "AB0006X"])
    assert replay(node, "customers", clock).landed == 2
    assert (len(keys(node)), refused(node)) == (9, ["AB0006X"])


def test_a_pseudonym_in_the_record_lands_as_it_is_and_one_at_fault_is_not_tried(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Any
) -> None:
    phone = {"phone": {"from": "TEL", "type": "string", "normalise": "mobile_cn", "pseudonym": True}}
    bank = open_bank("sqlite", tmp_path, request, columns=COLUMNS | phone)
    good, other = customer(1, TEL="13800000001"), customer(2, TEL="13800000001", SCORE="?")
    bank.write([good, other, customer(3, TEL="none", SCORE="?")])
    collect(bank.node, "customers", "full", clock)
    fixed = with_settings(bank.node, {"columns": FIXED | phone})
    report = replay(fixed, "customers", clock)
    assert (report.landed, report.refused, report.pseudonyms) == (1, 0, 1)
    first, second = Lake(fixed.landed("customers")).read(["phone"]).column(0).to_pylist()
    assert first == second != "13800000001"


def test_a_table_with_other_columns_than_landed_must_be_read_anew(node: Node, clock: Any) -> None:
    other = with_settings(node, {"columns": FIXED | {"score": {"from": "SCORE", "type": "string"}}})
    with pytest.raises(LakeError, match="the columns or their types are others than those that have landed"):
        replay(other, "customers", clock)


def test_what_a_killed_replay_noted_does_not_count_for_the_sync_after_it(
    node: Node, clock: Any, request: pytest.FixtureRequest
) -> None:
    stands = current(node, "customers")
    noted = stands.filter(pc.equal(stands.column("key"), "AB0003X"))
    Refused(node.quarantine("customers")).prepare(
        Refusal("replayed", 2, noted["batch"], noted["key"], noted["reason"], noted["raw"].to_pylist(), clock())
    )
    rows = request.node.rows
    rows[8] = customer(8, UPD=LATER)
    request.node.bank.write(rows)
    collect(request.node.bank.node, "customers", "incremental", clock)
    assert refused(node) == ["AB0003X", "AB0005X", "AB0006X"]
