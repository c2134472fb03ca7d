"""Syncs under kill -9: ``python -m benchmarks.collect.faults --kills 200 --source postgresql``.

Cycle after cycle, a full sync into an empty lake and, after changes at the source, an incremental one, each with its
check, are killed at random moments and started again until they are done. Then the landed and the validated table are
compared with the source, row for row. It ends once so many kills were made, and prints one JSON object: kills, syncs
that were brought to their end, rows of the source, whether all of them were equal to it.

``--rows N`` for another size, ``--source sqlite`` for the other source, ``--seed N`` for other moments.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from benchmarks.collect.invoices import changes, invoices, party
from benchmarks.collect.killing import run
from benchmarks.collect.servers import POSTGRES, Postgres, postgres
from ftl import consortium
from ftl.collect import Lake, collect
from ftl.collect.pseudonym import Pseudonyms
from ftl.consortium import Node
from ftl.quality import check

ROWS, KILLS = 50_000, 200
SECONDS_BETWEEN = 1000
"""By which the times of a cycle's changes lie after those of the one before."""
SLACK = 1.2
"""Kills come up to so many times the length of the last sync that ended after its start: some come too late."""

SCHEMA = invoices(0, 1, 0).schema


class Origin(Protocol):
    """A source whose rows can be changed, and read past `ftl`."""

    settings: dict[str, Any]

    def put(self, rows: pa.Table) -> None:
        """Insert invoices, or replace those of the same number."""
        ...

    def rows(self) -> pa.Table:
        """All of them, by number."""
        ...


def measure(origin: Origin, folder: Path, rows: int, kills: int, seed: int) -> dict[str, Any]:
    """Sync until so many kills were made."""
    origin.put(invoices(0, rows, seed))
    run(_now)  # loads the libraries, which is not part of any sync
    trial = _Trial(random.Random(seed))
    cycle = 0
    while trial.kills < kills:
        root = folder / f"cycle-{cycle}"
        party(root, origin.settings, "invoices")
        trial.bring_to_end(root, "full", origin)
        cycle += 1
        origin.put(changes(rows, seed + cycle, after=cycle * SECONDS_BETWEEN))
        trial.bring_to_end(root, "incremental", origin)
        shutil.rmtree(root)
    return {"kills": trial.kills, "syncs": trial.syncs, "rows": origin.rows().num_rows, "equal": trial.equal}


@dataclass
class _Trial:
    """What happened so far.

    Attributes:
        draw: of the moments.
        seconds: that the last sync of a mode took to its end.
    """

    draw: random.Random
    kills: int = 0
    syncs: int = 0
    equal: bool = True
    seconds: dict[str, float] = field(default_factory=dict)

    def bring_to_end(self, root: Path, mode: Literal["full", "incremental"], origin: Origin) -> None:
        """Start a sync again and again, each time for a random while; then compare.

        The first one of a mode is left alone, for its length.
        """
        code: int | None = None
        while code != 0:
            started = time.monotonic()
            code = run(sync, root, mode, kill_after=self._moment(mode))
            if code not in (0, -signal.SIGKILL):
                raise SystemExit(f"a sync ended with {code}")
            self.kills += code != 0
        # The last start may have found most of the work done.
        self.seconds[mode] = max(time.monotonic() - started, 0.9 * self.seconds.get(mode, 0))
        self.syncs += 1
        self.equal = self.equal and equal(root, origin)
        print(f"{self.kills} kills, {self.syncs} syncs, equal: {self.equal}", file=sys.stderr, flush=True)

    def _moment(self, mode: str) -> float | None:
        return self.draw.uniform(0, SLACK * self.seconds[mode]) if mode in self.seconds else None


def sync(root: Path, mode: Literal["full", "incremental"]) -> None:
    """Collect and check; in a process of its own."""
    node = consortium.load(root).node("tax")
    collect(node, "invoices", mode, _now)
    check(node, "invoices", _now)


def equal(root: Path, origin: Origin) -> bool:
    """Whether the landed and the validated table hold the source's rows, mapped, and nothing else."""
    node = consortium.load(root).node("tax")
    expected = _mapped(node, origin.rows())
    return all(_content(path).equals(expected) for path in (node.landed("invoices"), node.validated("invoices")))


def _content(path: Path) -> pa.Table:
    return Lake(path).read(SCHEMA.names).sort_by("invoice_id").cast(SCHEMA).combine_chunks()


def _mapped(node: Node, rows: pa.Table) -> pa.Table:
    """What the mapping of the benchmark must make of the source's rows."""
    kind = rows.column("kind")
    columns = {
        "kind": pc.if_else(pc.equal(kind, "other"), "unknown", kind),
        "enterprise": Pseudonyms(node.keys).of(rows.column("enterprise").combine_chunks()),
    }
    arrays = [columns.get(name, rows.column(name)) for name in SCHEMA.names]
    return pa.table(arrays, schema=SCHEMA).combine_chunks()


class SqliteOrigin:
    """A database file.

    Args:
        folder: for it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "core.db"
        self.settings: dict[str, Any] = {"kind": "sqlite", "path": str(self._path)}
        with closing(sqlite3.connect(self._path)) as connection:
            declared = {pa.int64(): "INTEGER", pa.float64(): "REAL"}
            columns = [f"{one.name} {declared.get(one.type, 'TEXT')}" for one in SCHEMA]
            connection.execute(f"CREATE TABLE invoices ({', '.join(columns)}, PRIMARY KEY (invoice_id))")

    def put(self, rows: pa.Table) -> None:
        """See :class:`Origin`."""
        texts = [c.cast(pa.string()) if pa.types.is_temporal(c.type) else c for c in rows.columns]
        with closing(sqlite3.connect(self._path)) as connection, connection:
            places = ", ".join("?" * len(texts))
            values = zip(*(column.to_pylist() for column in texts), strict=True)
            connection.executemany(f"INSERT OR REPLACE INTO invoices VALUES ({places})", values)

    def rows(self) -> pa.Table:
        """See :class:`Origin`."""
        with closing(sqlite3.connect(self._path)) as connection:
            found = connection.execute(f"SELECT {', '.join(SCHEMA.names)} FROM invoices ORDER BY invoice_id").fetchall()
        columns = zip(*found, strict=True)
        return pa.table([pa.array(c).cast(one.type) for c, one in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


class PostgresOrigin:
    """A server of our own.

    Args:
        server: running.
        folder: for files on the way.
    """

    def __init__(self, server: Postgres, folder: Path) -> None:
        self._server, self._file, self._filled = server, folder / "rows.csv", False
        self.settings = server.source

    def put(self, rows: pa.Table) -> None:
        """See :class:`Origin`."""
        pa_csv.write_csv(rows, self._file)
        if self._filled:
            self._server.load(self._file)
        else:
            self._server.fill(self._file)
        self._filled = True

    def rows(self) -> pa.Table:
        """See :class:`Origin`."""
        asked = (
            f"COPY (SELECT {', '.join(SCHEMA.names)} FROM invoices ORDER BY invoice_id) TO STDOUT (FORMAT csv, HEADER)"
        )
        command = [str(POSTGRES / "psql"), "-X", "-q", self._server.url, "-c", asked]
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        options = pa_csv.ConvertOptions(column_types=SCHEMA)
        return pa_csv.read_csv(BytesIO(text), convert_options=options).cast(SCHEMA)


@contextmanager
def _origin(kind: str, folder: Path) -> Iterator[Origin]:
    if kind == "sqlite":
        yield SqliteOrigin(folder)
    else:
        with postgres() as server:
            yield PostgresOrigin(server, folder)


def _now() -> datetime:
    return datetime.now(UTC)


def main() -> None:
    """Read the command line, measure, print; fails where a table was not equal to its source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--source", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ftl-faults-") as folder, _origin(given.source, Path(folder)) as origin:
        found = measure(origin, Path(folder), given.rows, given.kills, given.seed)
    beside = {"source": given.source, "seconds": round(time.monotonic() - started), "load": os.getloadavg()[0]}
    print(json.dumps(found | beside))
    if not found["equal"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
