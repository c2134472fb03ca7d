"""Dated files that are yet to come at a scenario's sources, and how they come: in order of date, at a chosen speed."""

import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

ARRIVING = Path("data/later")
"""Per party a folder of files ``TABLE-YYYY-MM-DD.csv``, which go to ``data/PARTY``."""

DATE_LENGTH = len("YYYY-MM-DD")


def arrive(root: Path, per_second: float | None, sleep: Callable[[float], None] = time.sleep) -> dict[str, int]:
    """Move what is yet to come into the parties' folders, date by date; each file appears there whole.

    Whoever breaks it off loses nothing: it goes on with the next date.

    Args:
        root: the consortium's folder.
        per_second: dates per second; as fast as it goes when None.
        sleep: waits between two dates.

    Returns:
        Party to number of rows that came.
    """
    came: dict[str, int] = {path.name: 0 for path in sorted((root / ARRIVING).glob("*"))}
    for files in _by_date(root):
        for path in files:
            came[path.parent.name] += _rows(path)
            path.rename(root / "data" / path.parent.name / path.name)
        if per_second is not None:
            sleep(1 / per_second)
    return came


def _by_date(root: Path) -> Iterator[list[Path]]:
    """The files of each date, in order of date."""
    files = sorted((root / ARRIVING).glob("*/*.csv"), key=lambda path: (_date(path), path))
    for _, same in groupby(files, _date):
        yield list(same)


def _date(path: Path) -> str:
    return path.stem[-DATE_LENGTH:]


def _rows(path: Path) -> int:
    """Lines below the header; no cell holds a line break."""
    with path.open("rb") as file:
        return sum(1 for _ in file) - 1
