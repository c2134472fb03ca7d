"""The right to write a lake table: one process of a machine at a time."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from ftl.errors import LakeConflict

LOCK_SECONDS = 30.0
"""Longest wait for the holder to be done, where the caller names none."""
_LOOK_SECONDS = 0.02


@contextmanager
def exclusive(path: Path, doing: str, patience: float | None = None) -> Iterator[None]:
    """Hold the only right to write the folder `path` on this machine; a killed holder loses it at once.

    Args:
        path: of the lake table, which need not exist yet.
        doing: for messages here and at those who wait, for example ``collect bank.accounts``.
        patience: seconds to wait for the holder to be done; :data:`LOCK_SECONDS` when None.

    Raises:
        LakeConflict: somebody else holds it; names the process, what it does and since when.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileIO(path.parent / f".{path.name}.lock", "a+") as file:
        seconds = LOCK_SECONDS if patience is None else patience
        if not _locked(file, seconds):
            waited = f" after {seconds:g} s of waiting" if seconds else ""
            raise LakeConflict(
                f"Cannot {doing}{waited}: another process is writing {path}{_holder(file)}.",
                cure="Try again when it is done.",
            )
        _note(file, doing)
        try:
            yield
        finally:
            file.truncate(0)


def _locked(file: FileIO, patience: float) -> bool:
    """Whether the lock came free in time. Who waits is not first in a queue: between two looks another may get it."""
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(_LOOK_SECONDS)
        else:
            return True


def _note(file: FileIO, doing: str) -> None:
    """Say who holds the lock. A disk that is too full for that keeps nobody from holding it."""
    file.truncate(0)
    with suppress(OSError):
        file.write(json.dumps({"process": os.getpid(), "doing": doing}).encode())


def _holder(file: FileIO) -> str:
    """``: process 4711 (collect bank.accounts), since …``; nothing where the holder has not said yet."""
    file.seek(0)
    try:
        note = json.loads(file.read())
    except ValueError:
        return ""
    since = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC).isoformat(timespec="seconds")
    return f": process {note['process']} ({note['doing']}), since {since}"
