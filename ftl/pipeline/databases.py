"""Brings a service's SQLite database up to date wholly or not at all, so that a start may be broken off."""

import shutil
import sqlite3
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from ftl.errors import ServiceError
from ftl.pipeline.supervisor import inherited

SECONDS = 300
LOG_LINES = 10


def bring_up_to_date(database: Path, version: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a migration unless it has been run for this version before.

    The migration works on a copy, which takes the place of the database when it has succeeded. The service that uses it
    must not run.

    Args:
        database: the file; made when absent.
        version: of the program whose tables it holds; a new one is a reason to migrate.
        command: the migration; ``{database}`` in it stands for the file to work on.
        environment: added to the caller's own; ``{database}`` likewise.

    Raises:
        ServiceError: the migration failed; with the end of what it said.
    """
    done = database.with_suffix(".version")
    if database.exists() and done.exists() and done.read_text(encoding="utf-8") == version:
        return
    database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    copy = database.with_suffix(".migrating")
    _copy(database, copy)
    added = {name: value.replace("{database}", str(copy)) for name, value in environment.items()}
    finished = subprocess.run(
        [part.replace("{database}", str(copy)) for part in command],
        env={**inherited(), **added},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if finished.returncode:
        end = "\n".join(finished.stderr.splitlines()[-LOG_LINES:])
        raise ServiceError(f"{database} cannot be brought up to date:\n{end}", cure="Is the disk full?")
    _settle(copy)
    copy.replace(database)
    done.write_text(version, encoding="utf-8")


def _copy(database: Path, copy: Path) -> None:
    for leftover in copy.parent.glob(f"{copy.name}*"):
        leftover.unlink()
    if database.exists():
        _settle(database)
        shutil.copyfile(database, copy)


def _settle(database: Path) -> None:
    """Everything into the one file, which remembers from now on that readers do not wait for the writer."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
