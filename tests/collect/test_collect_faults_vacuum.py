"""Files that are joined, and files that leave the disk: no row comes back, none goes, old versions stay as promised."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from collect_bank import Bank, customer, landed, open_bank
from deltalake import DeltaTable, QueryBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from ftl.collect import Lake, changes, collect, query
from ftl.collect.commit import descriptors
from ftl.collect.vectors import file_name
from ftl.consortium.landing import Keep
from ftl.errors import LakeError

SCHEMA = pa.schema([("k", pa.int64()), ("x", pa.string()), ("_sync", pa.int64())])
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def rows(keys: Sequence[int] | range, x: str, sync: int = 1) -> pa.Table:
    found = list(keys)
    return pa.table({"k": found, "x": [x] * len(found), "_sync": [sync] * len(found)}, schema=SCHEMA)


def merge(lake: Lake, keys: Sequence[int] | range, x: str, gone: Sequence[int] = ()) -> None:
    lake.merge(rows(keys, x), ["k"], rows(gone, "").select(["k"]), {"sync": len(x)})


def content(lake: Lake) -> dict[int, str]:
    """As we read it, which must be what delta-rs reads."""
    ours = lake.read(["k", "x"])
    assert ours.num_rows == lake.count()
    if lake.version == Lake(lake.path).version:
        theirs = pa.table(
            QueryBuilder().register("t", DeltaTable(str(lake.path))).execute("FROM t SELECT k, x").read_all()
        )
        assert sorted(theirs.column("k").to_pylist()) == sorted(ours.column("k").to_pylist())
    return dict(zip(ours.column("k").to_pylist(), ours.column("x").to_pylist(), strict=True))


def grow_old(folder: Path, at: Sequence[datetime]) -> None:
    """Let the versions of a table have been written at these moments."""
    for number, moment in enumerate(at):
        os.utime(folder / "_delta_log" / f"{number:020d}.json", (moment.timestamp(), moment.timestamp()))


def files(folder: Path) -> int:
    return len([*folder.glob("*.parquet"), *folder.glob("deletion_vector_*")])


@settings(max_examples=5, deadline=None)
@given(st.lists(st.sets(st.integers(0, 30), max_size=12), min_size=4, max_size=8))
def test_rows_that_a_deletion_vector_names_do_not_come_back_with_a_compaction(steps: list[set[int]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("ftl.collect.compaction.MOST_SMALL", 3)
        lake = Lake(Path(folder) / "t")
        lake.replace([rows(range(20), "a")], SCHEMA, lambda: {"sync": 1})
        expected = dict.fromkeys(range(20), "a")
        for number, keys in enumerate(steps):
            gone = sorted(keys)[::2]
            merge(lake, sorted(keys)[1::2], f"{number}", gone)
            expected = {k: x for k, x in expected.items() if k not in gone} | dict.fromkeys(
                sorted(keys)[1::2], f"{number}"
            )
            assert content(lake) == expected
            assert len(lake.parts()) <= 4


def test_a_large_file_is_written_anew_once_most_of_its_rows_are_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftl.collect.compaction.SMALL_ROWS", 100)
    lake = Lake(tmp_path / "t")
    lake.replace([rows(range(1000), "a")], SCHEMA, lambda: {"sync": 1})
    (large,) = lake.parts()
    merge(lake, range(400), "b")
    assert large.path in {part.path for part in lake.parts()}
    before = lake.version
    merge(lake, [], "c", range(400, 800))
    assert lake.version == (before or 0) + 2  # the merge, and what joined no file but wrote one anew
    assert large.path not in {part.path for part in lake.parts()}
    assert sum(len(part.dead) for part in lake.parts()) == 0
    assert content(lake) == dict.fromkeys(range(400), "b") | dict.fromkeys(range(800, 1000), "a")
    assert lake.marks("sync") == (1,)
    assert content(Lake(lake.path, before))[500] == "a"


def test_a_compaction_gives_files_of_before_a_new_column_its_nulls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path / "t")
    lake.replace([rows([1], "a")], SCHEMA, lambda: {"sync": 1})
    wider = rows([2], "b").append_column("y", pa.array([7], pa.int64()))
    lake.merge(wider, ["k"], rows([], "").select(["k"]), {})
    monkeypatch.setattr("ftl.collect.compaction.MOST_SMALL", 1)
    lake.compact()
    assert len(lake.parts()) == 1
    assert lake.read(["k", "y"]).sort_by("k").to_pylist() == [{"k": 1, "y": None}, {"k": 2, "y": 7}]


def test_what_only_old_versions_need_leaves_the_disk_and_the_others_stay_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftl.collect.commit._COMMITS_PER_CHECKPOINT", 5)
    lake = Lake(tmp_path / "t")
    lake.replace([rows(range(50), "a")], SCHEMA, lambda: {"sync": 1})
    for number in range(2, 18):
        merge(lake, [number % 50], str(number), [(number + 7) % 50])
    newest = lake.version or 0
    expected = {version: content(Lake(lake.path, version)) for version in (8, 9, 10, newest - 1, newest)}
    grow_old(lake.path, [NOW - DAY * (newest - version) for version in range(newest + 1)])
    held = files(lake.path)
    # Version 8 was replaced by 9, `newest - 9` days ago.
    assert lake.vacuum(Keep(days=newest - 9 + 0.5), NOW) > 0
    assert lake.oldest == 8
    assert files(lake.path) < held
    assert {version: content(Lake(lake.path, version)) for version in expected} == expected
    assert not (lake.path / "_delta_log" / f"{0:020d}.json").exists()
    assert content(Lake(lake.path, at=NOW - DAY * (newest - 10) + DAY / 2)) == expected[10]
    for old in (Lake(lake.path, 7), Lake(lake.path, at=NOW - DAY * (newest - 7) + DAY / 2)):
        with pytest.raises(LakeError, match=r"Version 7 .* is no longer kept; the oldest is 8\..*`keep`"):
            old.read()
    assert lake.vacuum(Keep(days=newest - 9 + 0.5), NOW) == 0
    lake.vacuum(Keep(days=newest - 11 + 0.5), NOW)  # version 10, at which the log begins now
    assert content(Lake(lake.path, at=NOW - DAY * (newest - 10))) == expected[10]
    with pytest.raises(LakeError, match=r"Version 9 .* is no longer kept; the oldest is 10\."):
        Lake(lake.path, at=NOW - DAY * (newest - 9) + DAY / 2).read()
    merge(lake, [3], "after", [4])
    assert content(lake) == {k: x for k, x in (expected[newest] | {3: "after"}).items() if k != 4}


def test_no_more_versions_are_kept_than_the_table_says_but_those_of_the_last_hour(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "t")
    lake.replace([rows(range(5), "a")], SCHEMA, lambda: {"sync": 1})
    for number in range(8):
        merge(lake, [number % 5], str(number))
    newest = lake.version or 0
    grow_old(lake.path, [NOW - timedelta(minutes=30 * (newest - version)) for version in range(newest + 1)])
    lake.vacuum(Keep(versions=1), NOW)
    assert lake.oldest == newest - 2  # replaced half an hour ago
    lake.vacuum(Keep(versions=1), NOW + DAY)
    assert lake.oldest == newest
    named = {part.path.name for part in lake.parts()}
    named |= {file_name(vector) for file, vector in descriptors(lake.path, newest).items() if file in named}
    assert {path.name for path in lake.path.iterdir() if not path.name.startswith("_")} == named


def test_a_table_that_shares_files_with_one_that_is_vacuumed_misses_none(tmp_path: Path) -> None:
    shared, validated = Lake(tmp_path / "landed"), Lake(tmp_path / "validated")
    shared.replace([rows(range(10), "a")], SCHEMA, lambda: {"sync": 1})
    validated.adopt(shared, shared.parts(), {"checked": 1})
    shared.replace([rows(range(20), "b")], SCHEMA, lambda: {"sync": 2})
    grow_old(shared.path, [NOW - 3 * DAY, NOW - 2 * DAY, NOW - DAY])
    assert shared.vacuum(Keep(days=0), NOW) == 1
    assert content(shared) == dict.fromkeys(range(20), "b")
    assert content(validated) == dict.fromkeys(range(10), "a")


@pytest.fixture
def bank(request: pytest.FixtureRequest, tmp_path: Path) -> Bank:
    return open_bank("sqlite", tmp_path, request, history=True, keep={"days": 5})


def test_a_sync_frees_what_the_table_need_not_keep(bank: Bank, clock: Any) -> None:
    for day in range(1, 5):
        bank.write([customer(number, UPD=f"2024-05-0{day} 00:00:00", LIM=day) for number in range(6)])
        collect(bank.node, "customers", "full", clock)
    folder = bank.node.landed("customers")
    grow_old(folder, [datetime(2024, 5, 1, tzinfo=UTC)] * 3 + [datetime(2024, 5, 30, tzinfo=UTC)] * 2)
    assert collect(bank.node, "customers", "full", clock).skipped  # on 1 June
    assert Lake(folder).oldest == 2
    assert len(list(folder.glob("*.parquet"))) == 3
    assert changes(bank.node, "customers", 2).num_rows == 6
    with pytest.raises(LakeError, match=r"has no version 1\. Its versions are 2 to 4; the setting `keep`"):
        changes(bank.node, "customers", 1)
    assert query(bank.node, "SELECT count(*) AS n FROM history.customers").to_pylist() == [{"n": 24}]
    newest = Lake(folder).read().drop_columns(["_sync"]).sort_by("id_number").to_pylist()
    assert newest == [landed(customer(n, UPD="2024-05-04 00:00:00", LIM=4)) for n in range(6)]


def test_versions_that_the_history_has_not_taken_in_are_kept(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "t")
    lake.replace([rows(range(5), "a")], SCHEMA, lambda: {"sync": 1})
    for number in range(4):
        merge(lake, [number], str(number))
    grow_old(lake.path, [NOW - 9 * DAY] * 6)
    assert lake.vacuum(Keep(days=1), NOW, needed=2) == 0
    assert lake.oldest == 2
    assert content(Lake(lake.path, 2))[0] == "0"
