"""Checks killed with SIGKILL before every step that writes, and run again."""

import itertools
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from typing import Any

import pytest
from collect_bank import customer, landed
from quality_checked import Checked, at_times

from ftl.collect import collect
from ftl.consortium import Node
from ftl.errors import LakeError
from ftl.quality import check, quarantined, read_validated

LATER = "2024-05-02 00:00:00"

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["ftl.quality", "ftl.collect.sqlite", "deltalake", "duckdb", "pytest", "great_expectations"]
)


def _check(node: Node, die_before: int) -> None:
    """In a process of its own: check, and die before the given one of the steps that change the lake."""
    import ftl.collect.lake
    from ftl.collect.lake import Lake
    from ftl.collect.writing import DataFile

    steps = itertools.count(1)

    def fragile(method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            if next(steps) == die_before:
                os.kill(os.getpid(), signal.SIGKILL)
            return method(*arguments, **named)

        return wrapped

    for owner, name in (
        (Lake, "append"),
        (Lake, "delete"),
        (Lake, "_create"),
        (Lake, "_sweep"),
        (DataFile, "write"),
        (DataFile, "close"),
        (ftl.collect.lake, "write_vectors"),
        (ftl.collect.lake, "commit"),
        (Lake, "_committed"),
    ):
        setattr(owner, name, fragile(getattr(owner, name)))
    check(node, "customers", at_times())


def _killed(node: Node, step: int) -> bool:
    process = _FORKS.Process(target=_check, args=(node, step))
    process.start()
    process.join(timeout=120)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def _state(node: Node) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    rows = quarantined(node, "customers")
    refused = sorted(zip(rows.column("key").to_pylist(), rows.column("reason").to_pylist(), strict=True))
    try:
        return read_validated(node, "customers").to_pylist(), refused
    except LakeError:
        return [], refused


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_a_check_killed_before_any_step_publishes_and_refuses_no_row_twice(mode: str, checked: Checked) -> None:
    source = [customer(number) for number in range(20)]
    source[4] = customer(4, LIM=-1.0)
    published, refused = [landed(row) for row in source if row["LIM"] > 0], [("AB0004X", "limit: is a limit")]
    before: tuple[list[dict[str, Any]], list[tuple[str, str]]] = ([], [])
    if mode == "incremental":
        checked.load(source)
        before = (published, refused)
        source[4], source[5] = customer(4, UPD=LATER), customer(5, UPD=LATER, LIM=-1.0)
        published, refused = [landed(row) for row in source if row["LIM"] > 0], [("AB0005X", "limit: is a limit")]
    checked.bank.write(source)
    collect(checked.node, "customers", mode, checked.clock)
    home = checked.node.home
    shutil.copytree(home, home.with_name("before"))
    killed = 0
    for step in itertools.count(1):
        shutil.rmtree(home)
        shutil.copytree(home.with_name("before"), home)
        if not _killed(checked.node, step):
            break
        killed += 1
        assert _state(checked.node)[0] in (before[0], published)
        check(checked.node, "customers", checked.clock)
        assert _state(checked.node) == (published, refused)
    assert killed >= (3 if mode == "incremental" else 6)
