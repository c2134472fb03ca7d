"""A table's upkeep, killed before each of its named steps, and syncs with their checks at any moment."""

import itertools
import os
import shutil
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from dying import die

from benchmarks.collect.faults import SqliteOrigin, measure
from benchmarks.collect.killing import run
from ftl.collect import Lake
from ftl.consortium.landing import Keep

SCHEMA = pa.schema([("k", pa.int64()), ("x", pa.string()), ("_sync", pa.int64())])
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def _rows(keys: list[int], x: str) -> pa.Table:
    return pa.table({"k": keys, "x": [x] * len(keys), "_sync": [1] * len(keys)}, schema=SCHEMA)


def _content(lake: Lake) -> list[tuple[int, str]]:
    return sorted((row["k"], row["x"]) for row in lake.read(["k", "x"]).to_pylist())


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A table of many small files with dead rows, of which a version was written each day until now."""
    monkeypatch.setattr("ftl.collect.commit._COMMITS_PER_CHECKPOINT", 4)
    made = Lake(tmp_path / "t")
    made.replace([_rows(list(range(20)), "a")], SCHEMA, lambda: {"sync": 1})
    for number in range(12):
        made.merge(
            _rows([number % 20, 100 + number], str(number)), ["k"], _rows([(number + 5) % 20], "").select(["k"]), {}
        )
    for number in range((made.version or 0) + 1):
        moment = (NOW - timedelta(days=14 - number)).timestamp()
        os.utime(made.path / "_delta_log" / f"{number:020d}.json", (moment, moment))
    return made


def _compact(path: Path, die_before: int | None) -> None:
    import ftl.collect.compaction
    import ftl.collect.lake
    from ftl.collect.writing import DataFile

    ftl.collect.compaction.MOST_SMALL = 3
    own = ("write_parts", "descriptors", "commit")
    die((*((ftl.collect.lake, name) for name in own), (Lake, "_sweep"), (DataFile, "close")), die_before)
    Lake(path).compact()


def _vacuum(path: Path, die_before: int | None) -> None:
    import ftl.collect.vacuum

    die(((ftl.collect.vacuum, "_note"), (Path, "replace"), (Path, "unlink")), die_before)
    Lake(path).vacuum(Keep(days=6), NOW)


@pytest.mark.parametrize("work", [_compact, _vacuum])
def test_a_table_whose_files_are_being_joined_or_removed_holds_its_rows_at_every_kill(
    work: Callable[[Path, int | None], None], lake: Lake
) -> None:
    expected, kept = _content(lake), lake.version or 0
    before = lake.path.with_name("before")
    shutil.copytree(lake.path, before)
    killed = 0
    for step in itertools.chain(range(1, 6), itertools.count(9, 15)):
        shutil.rmtree(lake.path)
        shutil.copytree(before, lake.path)
        code = run(work, lake.path, step)
        assert code in (0, -signal.SIGKILL)
        assert _content(lake) == expected
        lake.merge(_rows([500], "after"), ["k"], _rows([], "").select(["k"]), {})
        assert run(work, lake.path, None) == 0
        assert _content(lake) == [*expected, (500, "after")]
        assert _content(Lake(lake.path, kept)) == expected
        if code == 0:
            break
        killed += 1
    assert killed >= 5


def test_syncs_and_checks_killed_at_random_moments_end_equal_to_the_source(tmp_path: Path) -> None:
    found = measure(SqliteOrigin(tmp_path), tmp_path, rows=300, kills=5, seed=0)
    assert found["kills"] >= 5
    assert found["rows"] == 303
    assert found["equal"]
