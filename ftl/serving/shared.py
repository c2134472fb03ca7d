"""Small records that all gateway processes of one machine share: rates, keys seen lately, velocities.

A file of fixed-size slots, read and written in place under a lock of some microseconds, so that a count is one count
however many processes answer, and outlives any of them. The kernel gives the lock of a killed process back.
"""

import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAME_BYTES = 16
SLOTS_PER_BUCKET = 8
PATIENCE_SECONDS = 1.0
"""A process that was frozen within the lock must not stop the others: after so long they go on without it. One that
only waits for a busy processor is waited for, else its change would be lost."""
FROZEN_SECONDS = 0.01
"""The same, while the lock has not been free since."""
PAUSE_SECONDS = 0.00002
"""Between two tries for the lock."""

Record = tuple[Any, ...]
_TIME = struct.Struct("<d")


class SharedTable:
    """Records by name; where a name's bucket is full, the one changed longest ago makes room.

    Args:
        path: of the file, which only its owner may read; its folder is made.
        record: of one record, in :mod:`struct`'s letters.
        buckets: how many; a table holds at most eight times as many records.
    """

    def __init__(self, path: Path, record: str, buckets: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._slot, self._buckets = struct.Struct(f"<{NAME_BYTES}sd{record}"), buckets
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._frozen = False

    def change(self, name: bytes, now: float, decide: Callable[[float, Record | None], Sequence[Any]]) -> None:
        """Replace one record by what `decide` makes of it, as one step among all processes.

        Args:
            name: 16 evenly spread bytes, such as a keyed hash.
            now: kept with the record.
            decide: from the time of the last change and the record, None where there is none, to the next record; an
                error that it raises leaves the record as it was.
        """
        start = int.from_bytes(name[:8], "little") % self._buckets * SLOTS_PER_BUCKET * self._slot.size
        with self._locked():
            place, at, record = self._find(start, name)
            fresh = self._slot.pack(name, now, *decide(at, record))
            os.pwrite(self._file, fresh, start + place * self._slot.size)

    def close(self) -> None:
        """Close the file; no change may follow."""
        os.close(self._file)

    def _find(self, start: int, name: bytes) -> tuple[int, float, Record | None]:
        """The slot of a name, or the one that it may take."""
        size = self._slot.size
        slots = os.pread(self._file, SLOTS_PER_BUCKET * size, start).ljust(SLOTS_PER_BUCKET * size, b"\0")
        oldest, place = float("inf"), 0
        for number in range(SLOTS_PER_BUCKET):
            if slots.startswith(name, number * size):
                _, at, *record = self._slot.unpack_from(slots, number * size)
                return number, at, tuple(record)
            (at,) = _TIME.unpack_from(slots, number * size + NAME_BYTES)
            if at < oldest:
                oldest, place = at, number
        return place, 0.0, None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        until = time.monotonic() + (FROZEN_SECONDS if self._frozen else PATIENCE_SECONDS)
        while not (taken := self._take()) and time.monotonic() < until:
            time.sleep(PAUSE_SECONDS)
        self._frozen = not taken
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _take(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
