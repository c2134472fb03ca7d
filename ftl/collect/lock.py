"""The right to write a lake table: one process of a machine at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ftl.errors import LakeConflict


@contextmanager
def exclusive(path: Path, doing: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the only right to write the folder `path` on this machine; a killed holder loses it at once.

    Args:
        path: of the lake table, which need not exist yet.
        doing: for the message, for example ``collect bank.accounts``.
        wait: until the holder is done, instead of raising.

    Raises:
        LakeConflict: somebody else holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise LakeConflict(
                f"Cannot {doing}: another process is writing {path}.", cure="Try again when it is done."
            ) from exc
        yield
