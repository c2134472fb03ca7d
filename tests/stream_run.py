"""Runs a change stream in a thread, and waits for what it does."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from ftl.collect import Lake
from ftl.collect.stream import Pace, StreamStatus, follow, status_of
from ftl.consortium import Node

PACE = Pace(rows=500, seconds=0.05, silence=20, patience=90)


def now() -> datetime:
    return datetime.now(UTC)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for a condition."""
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come true")


@contextmanager
def streaming(node: Node, pace: Pace = PACE) -> Iterator[Callable[[], StreamStatus | None]]:
    """A stream in a thread, which is stopped at the end; its error is raised there."""
    stop, failed = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            follow(node, ["customers"], now, stop, pace=pace)
        except BaseException as exc:  # noqa: BLE001 - raised again where the stream was started
            failed.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield lambda: None if failed else status_of(node, "customers")
    except AssertionError as exc:
        if failed:
            raise failed[0] from exc  # what was waited for did not come true because of this
        raise
    finally:
        stop.set()
        thread.join(60)
    if failed:
        raise failed[0]


def started(node: Node) -> bool:
    """Whether the whole table has been read."""
    return Lake(node.landed("customers")).marks("stream")[0] is not None


def lake_rows(node: Node) -> list[dict[str, Any]]:
    """Rows of the landed table, sorted; none before the stream has read it whole."""
    if not started(node):
        return []
    rows = Lake(node.landed("customers")).read().drop_columns(["_sync"]).to_pylist()
    return sorted(rows, key=lambda row: row["id_number"])
