"""A party's simulated SQLite database, and what will be written to it later."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ftl.consortium.scenarios.later import LATER


@dataclass(frozen=True)
class Source:
    """One table of a party's database.

    Attributes:
        party: also names the database file, ``data/PARTY.db``.
        table: its name there.
        types: column to SQLite type, in order; the first is the primary key.
        cursor: the column that says when a row was written.
    """

    party: str
    table: str
    types: dict[str, str]
    cursor: str

    @property
    def file(self) -> Path:
        """Relative to the consortium's folder."""
        return Path("data") / f"{self.party}.db"

    @property
    def key(self) -> str:
        """The primary key."""
        return next(iter(self.types))


def write_database(folder: Path, source: Source, now: pd.DataFrame, later: pd.DataFrame) -> None:
    """Write the table as it is now, and keep beside it the rows that :func:`ftl.consortium.advance` writes."""
    with closing(sqlite3.connect(folder / source.file)) as database, database:
        _fill(database, source, source.table, now)
    with closing(sqlite3.connect(folder / LATER)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS target (party, file, name, key, cursor)")
        row = (source.party, source.file.as_posix(), source.table, source.key, source.cursor)
        database.execute("INSERT INTO target VALUES (?, ?, ?, ?, ?)", row)
        _fill(database, source, source.party, later)


def _fill(database: sqlite3.Connection, source: Source, table: str, rows: pd.DataFrame) -> None:
    columns = ", ".join(f'"{name}" {kind}' for name, kind in source.types.items())
    database.execute(f'CREATE TABLE "{table}" ({columns}, PRIMARY KEY ("{source.key}"))')
    places = ", ".join("?" * len(source.types))
    values = rows[list(source.types)].astype(object).to_numpy().tolist()
    database.executemany(f'INSERT INTO "{table}" VALUES ({places})', values)  # noqa: S608
