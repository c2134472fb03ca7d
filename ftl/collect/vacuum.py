"""What a table no longer needs: files that belong to no version which may still be read.

A version may be read for as long as the table's `keep` says, counted from the moment at which another one took its
place. What only older versions name is removed: data files, deletion vectors and entries of the log. Moments are those
at which the entries of the log were written, by the file system's clock, as for reading a table as of a time.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ftl.collect.commit import Action, actions_of, checkpointed
from ftl.collect.vectors import Descriptor, file_name
from ftl.consortium.landing import Keep

READER_SECONDS = 3600.0
"""A query may go on reading the version that it began with for so long, whatever `keep` says."""

_SECONDS_A_DAY = 86_400
_OLDEST = "_oldest_version"
"""File in a table's folder that holds the number."""
_COMMIT, _CHECKPOINT = ".json", ".checkpoint.parquet"


def oldest_version(folder: Path) -> int:
    """The oldest version of the table that can still be read."""
    note = folder / _OLDEST
    return int(note.read_text(encoding="ascii")) if note.exists() else 0


def written_at(folder: Path, version: int) -> float:
    """Unix seconds at which a version's entry of the log was written."""
    return (folder / "_delta_log" / f"{version:020d}{_COMMIT}").stat().st_mtime


def vacuum(folder: Path, keep: Keep, now: datetime, needed: int | None = None) -> int:
    """Remove what only versions need that are no longer to be kept.

    Only safe because the caller holds :func:`ftl.collect.lock.exclusive`: a file that no version names yet would go.

    Args:
        folder: of the table.
        keep: the table's setting.
        now: the present moment.
        needed: a version that somebody has yet to read; it stays, with all after it.

    Returns:
        number of removed files.
    """
    log = folder / "_delta_log"
    written = _written(log, _COMMIT)
    if not written:
        return 0
    oldest = _oldest(written, keep, now.timestamp())
    oldest = oldest if needed is None else min(oldest, needed)
    if oldest <= oldest_version(folder):
        return 0
    base = max((number for number in _written(log, _CHECKPOINT) if number <= oldest), default=None)
    named = _named(log, base, oldest, max(written))
    _note(folder, oldest)
    return _remove(_unnamed(folder, named)) + (0 if base is None else _remove(_before(log, base)))


def _written(log: Path, ending: str) -> dict[int, float]:
    """Version to the second at which its entry of this kind was written, in order."""
    found = {}
    with os.scandir(log) as entries:
        for entry in entries:
            if entry.name.endswith(ending) and entry.name[:20].isdigit() and len(entry.name) == 20 + len(ending):
                found[int(entry.name[:20])] = entry.stat().st_mtime
    return dict(sorted(found.items()))


def _oldest(written: Mapping[int, float], keep: Keep, now: float) -> int:
    numbers = list(written)
    by_time = _standing(numbers, written, now - keep.days * _SECONDS_A_DAY)
    by_number = numbers[-1] + 1 - keep.versions
    return min(max(by_time, by_number), _standing(numbers, written, now - READER_SECONDS))


def _standing(numbers: Sequence[int], written: Mapping[int, float], since: float) -> int:
    """The first version that was the newest one at that second or later."""
    return next((number for number, after in pairwise(numbers) if written[after] > since), numbers[-1])


def _named(log: Path, base: int | None, oldest: int, newest: int) -> set[str]:
    """Names of the files that versions `oldest` to `newest` consist of."""
    standing: dict[str, Descriptor | None] = {}
    if base is not None:
        standing |= checkpointed(log, base)
    for number in range(0 if base is None else base + 1, oldest + 1):
        actions = actions_of(log, number)
        for action in actions:
            if "remove" in action:
                standing.pop(action["remove"]["path"], None)
        standing |= {add["path"]: add.get("deletionVector") for add in _adds(actions)}
    found = set(_files(standing.items()))
    for number in range(oldest + 1, newest + 1):
        found |= set(_files((add["path"], add.get("deletionVector")) for add in _adds(actions_of(log, number))))
    return found


def _adds(actions: Iterable[Action]) -> Iterator[dict[str, Any]]:
    return (action["add"] for action in actions if "add" in action)


def _files(named: Iterable[tuple[str, Descriptor | None]]) -> Iterator[str]:
    for path, vector in named:
        yield unquote(path)
        if vector is not None:
            yield file_name(vector)


def _unnamed(folder: Path, named: set[str]) -> Iterator[Path]:
    for path in folder.iterdir():
        is_data = path.suffix == ".parquet" or path.name.startswith("deletion_vector_")
        if is_data and path.name not in named:
            yield path


def _before(log: Path, base: int) -> Iterator[Path]:
    """Entries that no version from the checkpoint `base` on needs."""
    for ending in (_COMMIT, _CHECKPOINT):
        yield from (log / f"{number:020d}{ending}" for number in _written(log, ending) if number < base)


def _note(folder: Path, oldest: int) -> None:
    """Before anything is removed, say that older versions cannot be read."""
    draft = folder / f"{_OLDEST}.part"
    draft.write_text(str(oldest), encoding="ascii")
    draft.replace(folder / _OLDEST)


def _remove(paths: Iterable[Path]) -> int:
    removed = 0
    for path in list(paths):
        path.unlink(missing_ok=True)
        removed += 1
    return removed
