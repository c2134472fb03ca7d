"""What is yet to come at a scenario's sources, and how it comes."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from ftl.consortium.scenarios.sme_later import ARRIVING, arrive

LATER = Path("data/later.db")
"""Holds a table `target` that says where rows go, and per party a table of the rows."""


def advance(
    directory: Path | str, per_second: float | None = None, sleep: Callable[[float], None] = time.sleep
) -> dict[str, int]:
    """Let time pass at the sources of a scenario: rows that are new or changed by now are written to them.

    Doing it again changes nothing.

    Args:
        directory: the consortium's folder.
        per_second: dates per second, of a scenario whose rows come in order of their dates; all at once when None.
        sleep: waits between two dates.

    Returns:
        Party to number of rows written; empty where nothing is to come.
    """
    root = Path(directory).resolve()
    if (root / ARRIVING).is_dir():
        return arrive(root, per_second, sleep)
    if not (root / LATER).is_file():
        return {}
    with closing(sqlite3.connect(root / LATER)) as database:
        targets = database.execute("SELECT party, file, name, key, cursor FROM target").fetchall()
    return {party: _catch_up(root, party, target) for party, *target in targets}


def _catch_up(root: Path, party: str, target: Sequence[str]) -> int:
    file, table, key, cursor = target
    statement = f"""
        INSERT OR REPLACE INTO main."{table}" SELECT * FROM later."{party}" AS new WHERE NOT EXISTS (
            SELECT 1 FROM main."{table}" AS old WHERE old."{key}" = new."{key}" AND old."{cursor}" >= new."{cursor}"
        )"""  # noqa: S608 - names come from the file that we wrote
    with closing(sqlite3.connect(root / file)) as database:
        database.execute("ATTACH ? AS later", (str(root / LATER),))
        with database:
            return database.execute(statement).rowcount
