import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from collect_bank import make_node
from ruamel.yaml import YAML

from ftl.collect import Lake, SyncReport, collect, watch, watchable
from ftl.consortium import Node

COLUMNS = {"id_number": {"from": "ID", "type": "string"}, "x": {"from": "X", "type": "float64"}}


def node_of(root: Path) -> Node:
    (root / "in").mkdir(exist_ok=True)
    return make_node(root, {"kind": "csv", "path": "in"}, table="*.csv", columns=COLUMNS, derived={}, cursor=None)


def rows_of(node: Node) -> dict[str, float]:
    lake = Lake(node.landed("customers"))
    if lake.version is None:
        return {}
    return {row["id_number"]: row["x"] for row in lake.read(["id_number", "x"]).to_pylist()}


def drop(node: Node, name: str, text: str) -> None:
    """A file that appears whole."""
    draft = node.root / "draft"
    draft.write_text("ID,X\n" + text)
    draft.rename(node.root / "in" / name)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.02)


@contextmanager
def watching(node: Node, clock: Any) -> Iterator[list[SyncReport]]:
    stop, reports = threading.Event(), list[SyncReport]()
    thread = threading.Thread(target=lambda: reports.extend(watch(node, ["customers"], clock, stop, look_seconds=0.02)))
    thread.start()
    try:
        yield reports
    finally:
        stop.set()
        thread.join(60)


def test_new_and_changed_files_of_a_watched_folder_land(tmp_path: Path, clock: Any) -> None:
    node = node_of(tmp_path)
    assert watchable(node) == ["customers"]
    with watching(node, clock) as reports:
        drop(node, "1.csv", "a,1\n")
        until(lambda: rows_of(node) == {"a": 1.0})
        drop(node, "2.csv", "b,2\n")
        until(lambda: rows_of(node) == {"a": 1.0, "b": 2.0})
        drop(node, "1.csv", "a,10\n")
        until(lambda: rows_of(node) == {"a": 10.0, "b": 2.0})
    assert [report.rows_landed for report in reports] == [1]


def test_what_landed_before_the_watch_stopped_is_not_read_again(tmp_path: Path, clock: Any) -> None:
    node = node_of(tmp_path)
    drop(node, "1.csv", "a,1\n")
    collect(node, "customers", "full", clock)
    with watching(node, clock) as reports:
        drop(node, "2.csv", "b,2\n")
        until(lambda: "b" in rows_of(node))
    assert [(report.mode, report.rows_read) for report in reports] == [("incremental", 1)]


def test_a_damaged_file_is_told_and_the_watch_goes_on_when_it_is_repaired(
    tmp_path: Path, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    node = node_of(tmp_path)
    with watching(node, clock):
        drop(node, "1.csv", "a,1\n")
        until(lambda: rows_of(node) == {"a": 1.0})
        drop(node, "2.csv", "b,2,secret\n")
        until(lambda: any(record.message == "collect.watch.failed" for record in caplog.records))
        drop(node, "2.csv", "b,2\n")
        until(lambda: rows_of(node) == {"a": 1.0, "b": 2.0})
    (failed,) = [record for record in caplog.records if record.message == "collect.watch.failed"]
    assert "2.csv, line 2: expected 2 fields, found 3" in failed.error  # type: ignore[attr-defined]
    assert "secret" not in str(vars(failed))


def test_the_command_watches_until_it_is_told_to_stop(tmp_path: Path) -> None:
    node = node_of(tmp_path)
    values = node.consortium.model_dump(mode="json", by_alias=True, exclude_none=True)
    shop = values["parties"]["bank"] | {"role": "passive"}
    values["parties"]["shop"] = {key: value for key, value in shop.items() if key != "label"}
    values["parties"]["bank"]["features"]["columns"] = ["y"]
    values["parties"]["bank"]["label"] = {"column": "x"}
    values["parties"]["bank"]["tables"]["customers"]["derived"] = {"y": "x + 1"}
    values["parties"]["shop"] |= {"features": {"table": "customers", "columns": ["x"]}}
    YAML().dump(json.loads(json.dumps(values)), tmp_path / "consortium.yaml")
    command = [sys.executable, "-m", "ftl.cli", "collect", str(tmp_path), "-p", "bank", "--mode", "stream", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        drop(node, "1.csv", "a,1\n")
        until(lambda: rows_of(node) == {"a": 1.0} or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert [report["rows_landed"] for report in json.loads(out)] == [1]
