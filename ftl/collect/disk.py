"""A full disk, as each library tells it."""

import errno
import os
import resource
from pathlib import Path

from ftl.errors import LakeError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_WORDS = ("No space left on device", "Disk quota exceeded", "File too large", "os error 28", "database or disk is full")
_ROOM = 1 << 20


def disk_is_full(exc: BaseException) -> bool:
    """Whether the error, or one that led to it, says that there is no room for a file."""
    if isinstance(exc, OSError) and exc.errno in _FULL:
        return True
    if any(words in str(exc) for words in _WORDS):
        return True
    return exc.__cause__ is not None and disk_is_full(exc.__cause__)


def has_no_room(folder: Path) -> bool:
    """Whether hardly anything more fits where this folder lies, or a file may grow so far only (`ulimit -f`).

    For libraries that say no more than that it failed.
    """
    if resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
        return True
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize < _ROOM


def disk_full(action: str, path: Path) -> LakeError:
    """The error to raise.

    Args:
        action: what could not be done, for example ``write``.
        path: to what.
    """
    return LakeError(
        f"Cannot {action} {path}: the disk is full, or this user's quota of it.",
        cure="Make room there and run the same command again: what had landed before is whole, of this attempt nothing "
        "counts.",
    )
