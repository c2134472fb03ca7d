"""Syncs killed with SIGKILL before every step that writes, and at random moments; then run again."""

import itertools
import json
import random
import shutil
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from collect_bank import Bank, customer, landed, open_bank
from dying import die

from benchmarks.collect.killing import run
from ftl.collect import Lake, collect, current
from ftl.consortium import Node

ROWS_PER_BATCH = 40
"""So that 100 rows come in three batches."""


def _moment() -> datetime:
    return datetime(2024, 6, 1, tzinfo=UTC)


def _sync(node: Node, mode: Any, die_before: int | None) -> None:
    """In a process of its own: sync, and die before the given one of the steps that change something on disk."""
    import ftl.collect.lake
    import ftl.collect.sqlite
    from ftl.collect.lake import Lake
    from ftl.collect.writing import DataFile

    ftl.collect.sqlite.BATCH_ROWS = ROWS_PER_BATCH
    steps = (
        (Lake, "append"),
        (Lake, "delete"),
        (Lake, "_create"),
        (Lake, "_sweep"),
        (DataFile, "write"),
        (DataFile, "close"),
        (ftl.collect.lake, "write_vectors"),
        (ftl.collect.lake, "commit"),
        (Lake, "_committed"),
    )
    die(steps, die_before)
    collect(node, "customers", mode, _moment)


def _run(node: Node, mode: str, die_before: int | None, kill_after: float | None = None) -> int:
    return run(_sync, node, mode, die_before, kill_after=kill_after)


def _state(node: Node) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    rows = Lake(node.landed("customers")).read().drop_columns(["_sync"]).to_pylist()
    refused = current(node, "customers")
    keys, raw = refused.column("key").to_pylist(), refused.column("raw").to_pylist()
    return sorted(rows, key=lambda row: row["id_number"]), sorted(zip(keys, raw, strict=True))


def _source() -> list[dict[str, Any]]:
    damaged = {number: customer(number, SCORE="?") for number in (3, 50, 99)}
    return [damaged.get(number, customer(number)) for number in range(100)]


def _later() -> list[dict[str, Any]]:
    moment = "2024-05-02 00:00:00"
    changes = {3: customer(3, UPD=moment), 7: customer(7, UPD=moment, LIM=1.0), 8: customer(8, UPD=moment, SCORE="?")}
    return [changes.get(number, row) for number, row in enumerate(_source())] + [customer(200, UPD=moment)]


def _expect(node: Node, source: list[dict[str, Any]]) -> None:
    rows, refused = _state(node)
    assert rows == [landed(row) for row in source if row["SCORE"] != "?"]
    assert [json.loads(raw)["KNR"] for _, raw in refused] == [row["KNR"] for row in source if row["SCORE"] == "?"]


@pytest.fixture
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> Bank:
    bank = open_bank("sqlite", tmp_path, request)
    bank.write(_source())
    return bank


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_a_sync_killed_before_any_step_repeats_and_loses_no_row(mode: str, filled: Bank) -> None:
    source = _source()
    if mode == "incremental":
        assert _run(filled.node, "full", None) == 0
        source = _later()
        filled.write(source)
    before = filled.node.home.with_name("before")
    if filled.node.home.exists():
        shutil.copytree(filled.node.home, before)
    killed = 0
    for step in itertools.count(1):
        shutil.rmtree(filled.node.home, ignore_errors=True)
        if before.exists():
            shutil.copytree(before, filled.node.home)
        code = _run(filled.node, mode, step)
        assert code in (0, -signal.SIGKILL)
        if code == 0:
            break
        killed += 1
        if Lake(filled.node.landed("customers")).marks("sync") == (1,) and mode == "incremental":
            _expect(filled.node, _source())  # what stood before is whole and readable
        assert _run(filled.node, mode, None) == 0
        _expect(filled.node, source)
    assert killed >= (3 if mode == "incremental" else 9)


def test_syncs_killed_at_random_moments_end_equal_to_the_source(filled: Bank) -> None:
    _run(filled.node, "full", None)
    started = time.monotonic()
    filled.write(_source())
    _run(filled.node, "full", None)
    whole = time.monotonic() - started
    source = _later()
    moments = random.Random(0)
    for attempt in range(12):
        filled.write(source if attempt % 2 else _source())
        _run(filled.node, "full" if attempt % 3 else "incremental", None, kill_after=moments.uniform(0, whole))
    filled.write(source)
    collect(filled.node, "customers", "full", _moment)
    _expect(filled.node, source)


def test_a_killed_sync_leaves_no_file_behind_once_it_was_repeated(filled: Bank) -> None:
    _run(filled.node, "full", 6)
    assert _run(filled.node, "full", None) == 0
    folder = filled.node.landed("customers")
    assert len(list(folder.glob("*.parquet"))) == 1


def test_a_killed_sync_gives_its_lock_back(filled: Bank) -> None:
    assert _run(filled.node, "full", 1) == -signal.SIGKILL
    assert collect(filled.node, "customers", "full", _moment).rows_landed == 97
