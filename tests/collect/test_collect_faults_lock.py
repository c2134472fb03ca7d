"""Two processes that want one table at the same time."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from collect_bank import Bank, customer, open_bank

from benchmarks.collect.killing import FORKS
from ftl.collect import collect, exclusive
from ftl.consortium import Node
from ftl.errors import LakeConflict


def _moment() -> datetime:
    return datetime(2024, 6, 1, tzinfo=UTC)


def _sync(node: Node, patience: float, begun: Any, may_commit: Any, said: Any) -> None:
    """In a process of its own: sync, tell that it is about to commit, and commit when it may."""
    import ftl.collect.lock

    ftl.collect.lock.LOCK_SECONDS = patience

    def on_progress(progress: Any) -> None:
        if progress.step == "prepared":
            begun.set()
            may_commit.wait(60)

    try:
        said.put((os.getpid(), collect(node, "customers", "full", _moment, on_progress).skipped))
    except LakeConflict as error:
        said.put((os.getpid(), str(error)))


@pytest.fixture
def bank(request: pytest.FixtureRequest, tmp_path: Path) -> Bank:
    bank = open_bank("sqlite", tmp_path, request)
    bank.write([customer(1), customer(2)])
    return bank


def test_of_two_processes_one_syncs_and_the_other_says_who_does(bank: Bank) -> None:
    begun, may_commit, said = FORKS.Event(), FORKS.Event(), FORKS.Queue()
    first = FORKS.Process(target=_sync, args=(bank.node, 60.0, begun, may_commit, said))
    first.start()
    assert begun.wait(60)
    second = FORKS.Process(target=_sync, args=(bank.node, 0.1, begun, may_commit, said))
    second.start()
    process, message = said.get(timeout=60)
    assert process == second.pid
    assert "Cannot collect bank.customers after 0.1 s of waiting: another process is writing" in message
    assert f": process {first.pid} (collect bank.customers), since 20" in message
    may_commit.set()
    assert said.get(timeout=60) == (first.pid, False)
    second.join(60)
    first.join(60)


def test_a_sync_waits_for_another_that_ends_in_time(bank: Bank) -> None:
    begun, may_commit, said = FORKS.Event(), FORKS.Event(), FORKS.Queue()
    processes = [FORKS.Process(target=_sync, args=(bank.node, 60.0, begun, may_commit, said)) for _ in range(2)]
    for process in processes:
        process.start()
    assert begun.wait(60)
    may_commit.set()
    found = [said.get(timeout=60) for _ in processes]
    assert {process for process, _ in found} == {process.pid for process in processes}
    assert sorted(skipped for _, skipped in found) == [False, True]
    for process in processes:
        process.join(60)


def _hold(path: Path, held: Any) -> None:
    with exclusive(path, "hold"):
        held.set()
        os.kill(os.getpid(), 19)  # stopped until it is killed


def test_what_a_killed_holder_noted_is_not_believed(tmp_path: Path) -> None:
    held = FORKS.Event()
    holder = FORKS.Process(target=_hold, args=(tmp_path / "table", held))
    holder.start()
    assert held.wait(60)
    holder.kill()
    holder.join(60)
    with (
        exclusive(tmp_path / "table", "read"),
        pytest.raises(LakeConflict, match=rf"Cannot write: .*: process {os.getpid()} \(read\)"),
        exclusive(tmp_path / "table", "write", patience=0),
    ):
        pass


def test_a_lock_that_cannot_say_who_holds_it_is_held_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Callable[..., None]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ftl.collect.lock.json.dumps", full)
    with (
        exclusive(tmp_path / "table", "read"),
        pytest.raises(LakeConflict, match=r"Cannot write: another process is writing .*table\. Try again"),
        exclusive(tmp_path / "table", "write", patience=0),
    ):
        pass
