"""Working ahead: the next batches are read while the present one is mapped, and mapped while it is written.

All three stages spend their time in libraries that leave the interpreter to others meanwhile.
"""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")

_BATCHES = 1
"""That wait at most, so that memory stays flat."""


@contextmanager
def ahead(items: Iterator[Item]) -> Iterator[Iterator[Item]]:
    """`items`, drawn in a thread of their own; what it raises is raised where the item was awaited.

    The thread has ended when the context is left, however that happens.
    """
    waiting: queue.Queue[Item | None] = queue.Queue(_BATCHES)
    failures: list[BaseException] = []
    left = threading.Event()

    def draw() -> None:
        try:
            for item in items:
                _put(waiting, item, left)
                if left.is_set():
                    return
        except BaseException as exc:  # noqa: BLE001 - is raised again by whoever waits
            failures.append(exc)
        finally:
            _put(waiting, None, left)

    def arriving() -> Iterator[Item]:
        while (item := waiting.get()) is not None:
            yield item
        if failures:
            raise failures[0]

    thread = threading.Thread(target=draw, name="read ahead", daemon=True)
    thread.start()
    try:
        yield arriving()
    finally:
        left.set()
        thread.join()


def _put(waiting: "queue.Queue[Item | None]", item: Item | None, left: threading.Event) -> None:
    while not left.is_set():
        try:
            waiting.put(item, timeout=0.05)
        except queue.Full:
            continue
        return
