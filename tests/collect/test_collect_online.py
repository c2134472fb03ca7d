import os
import shutil
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from collect_bank import Bank, customer, landed, open_bank

from ftl.collect import Lake, Mapping, collect
from ftl.collect.online import OnlineStore
from ftl.errors import LakeError


@pytest.fixture
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> Bank:
    bank = open_bank("sqlite", tmp_path, request, online=True)
    bank.write([customer(number) for number in range(50)])
    return bank


def store(bank: Bank) -> OnlineStore:
    return OnlineStore.of(bank.node, "customers", Mapping(bank.node, "customers"))


def everything(bank: Bank) -> list[dict[str, Any]]:
    keys = [(f"AB{number:04d}X",) for number in range(300)]
    with closing(store(bank)) as online:
        return online.latest(keys).to_pylist()


def test_the_newest_row_is_found_by_its_key_as_it_landed(filled: Bank, clock: Any) -> None:
    collect(filled.node, "customers", "full", clock)
    found = store(filled).latest([("AB0007X",), ("nobody",), ("AB0003X",)])
    assert found.schema == Mapping(filled.node, "customers").schema
    assert found.to_pylist() == [landed(customer(7)), landed(customer(3))]
    assert found.column("born")[0].as_py() == date(1957, 2, 3)
    assert found.column("updated_at")[0].as_py() == datetime(2024, 5, 1, 10, 0, 7, tzinfo=UTC)


def test_every_sync_brings_the_store_up_to_the_lake(filled: Bank, clock: Any) -> None:
    collect(filled.node, "customers", "full", clock)
    moment = "2024-05-02 00:00:00"
    rows = {number: customer(number) for number in range(50)}
    rows |= {3: customer(3, UPD=moment, LIM=1.0), 200: customer(200, UPD=moment)}
    del rows[4]
    # A row that is refused now leaves: what was known of it is no longer true.
    filled.write([*rows.values(), customer(4, UPD=moment, SCORE="?")])
    collect(filled.node, "customers", "incremental", clock)
    assert everything(filled) == [landed(row) for row in rows.values()]
    filled.write([customer(1)])
    collect(filled.node, "customers", "full", clock)
    assert everything(filled) == [landed(customer(1))]


def test_a_store_that_missed_commits_catches_up(filled: Bank, clock: Any) -> None:
    collect(filled.node, "customers", "full", clock)
    behind = store(filled)
    lake = Lake(filled.node.landed("customers"))
    rows = lake.read()
    key = rows.select(["id_number"])
    changed = rows.slice(0, 1).set_column(rows.schema.get_field_index("_sync"), rows.schema.field("_sync"), [[2]])
    (mapping,) = lake.marks("mapping")
    lake.merge(changed, ["id_number"], key.slice(1, 2), {"sync": 2, "full": 1, "mapping": mapping or 0})
    assert behind.number == 1
    behind.refresh(lake)
    assert behind.number == 2
    behind.close()
    assert len(everything(filled)) == 48


def test_a_store_that_was_cut_off_is_refused_and_written_anew_once_it_is_removed(filled: Bank, clock: Any) -> None:
    collect(filled.node, "customers", "full", clock)
    before = everything(filled)
    file = filled.node.home / "online" / "customers" / "data.mdb"
    os.truncate(file, 8192)
    for _ in range(2):
        with pytest.raises(LakeError, match=r"data\.mdb was cut off") as refused:
            everything(filled)
    assert "Remove its folder" in str(refused.value.cure)
    shutil.rmtree(file.parent)
    collect(filled.node, "customers", "incremental", clock)
    assert everything(filled) == before


def test_a_table_without_an_online_store_says_so(request: pytest.FixtureRequest, tmp_path: Path, clock: Any) -> None:
    bank = open_bank("sqlite", tmp_path, request)
    bank.write([customer(1)])
    collect(bank.node, "customers", "full", clock)
    with pytest.raises(LakeError, match=r"tables\.customers has no online store"):
        store(bank).latest([("AB0001X",)])


def test_keys_of_any_length_and_of_several_columns_are_told_apart(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Any
) -> None:
    bank = open_bank("sqlite", tmp_path, request, online=True, key=["id_number", "phone"])
    long = "a" * 2000
    bank.write([customer(1, KNR="a|b", TEL="1"), customer(2, KNR="a", TEL="1"), customer(3, KNR=long, TEL="3")])
    collect(bank.node, "customers", "full", clock)
    found = store(bank).latest([("A", "1"), (long.upper(), "3"), ("A|B", "1"), (long.upper(), "1")])
    assert found.column("limit").to_pylist() == [1002.5, 1003.5, 1001.5]
