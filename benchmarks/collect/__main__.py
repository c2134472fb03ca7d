"""Collection side by side with others, as one JSON object: ``python -m benchmarks.collect --json``.

Invoices of eleven columns go from a PostgreSQL, a MariaDB and a CSV file into a Delta table. On our side everything is
on: mapping, a column of pseudonyms, the suite of fifteen expectations, Data Docs. Servers are private ones on the same
machine; every sync and every peer runs in a process of its own, one after the other, on a machine that should do
nothing else. Of several runs the fastest counts, on either side. A ratio is our rows a second over theirs; that of the
increments compares the seconds until the changed rows can be read.

``--rows N`` for another size, ``--only KEY …`` for some of the figures, ``--dlt PYTHON`` for an environment that has
dlt, if this one has not. Progress goes to standard error. ``absent`` says what could not be measured, and why.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.collect import stream
from benchmarks.collect.invoices import party, write_changes, write_csv
from benchmarks.collect.servers import MariaDb, Postgres, mariadb, postgres
from ftl.collect import Lake

Figures = dict[str, Any]
ROWS = 5_000_000
STREAM_ROWS, STREAM_SECONDS = 500_000, 30.0
PATIENCE = 3600.0
"""Seconds for one sync or peer."""
KEYS = (
    "postgres_full_vs_copy",
    "postgres_full_vs_dlt",
    "mariadb_full_vs_dlt",
    "mariadb_full_vs_client",
    "csv_full_vs_pyarrow",
    "incremental_vs_dlt",
    "stream_rows_per_second_postgres",
    "stream_rows_per_second_mariadb",
    "stream_p99_seconds",
    "quality_share",
    "peak_mb",
)


@dataclass
class Runs:
    """What is measured, and what came out so far.

    Attributes:
        folder: for files and lakes.
        rows: of the table.
        repeats: runs of each, of which the fastest counts.
        keys: wanted figures.
        dlt_python: interpreter of the environment that has dlt.
        figures: found ones.
        absent: what could not be measured, and why.
    """

    folder: Path
    rows: int
    repeats: int
    keys: frozenset[str]
    dlt_python: str = sys.executable
    figures: Figures = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def wanted(self, *keys: str) -> bool:
        """Whether one of these figures is."""
        return bool(self.keys & set(keys))

    def ran(self, name: str, module: str, *arguments: object) -> Figures | None:
        """What a measured process prints; why it printed nothing goes into `absent`."""
        _say(f"{name} …")
        python = self.dlt_python if arguments[0] == "dlt" else sys.executable
        command = [python, "-m", module, *map(str, arguments)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
            found: Figures = json.loads(done.stdout.strip().splitlines()[-1])
        except subprocess.TimeoutExpired:
            self.absent[name] = f"not done after {PATIENCE:.0f} s"
            return None
        except (ValueError, IndexError):
            self.absent[name] = (done.stderr.strip().splitlines() or ["without a word"])[-1]
            _say(f"  failed: {self.absent[name]}")
            return None
        _say(f"  {found['seconds']:.2f} s, load {os.getloadavg()[0]:.1f}")
        return found

    def ours(self, name: str, source: Figures, table: str = "invoices") -> Path | None:
        """Full syncs into new lakes; the folder of the last one."""
        root, found = None, []
        for number in range(self.repeats):
            root = self.folder / f"{name}-{number}"
            party(root, source, table)
            found.append(self.ran(f"{name}_full", "benchmarks.collect.ours", root, "full"))
        best = _best(found)
        if best is None or root is None:
            return None
        node = party(root, source, table)
        stored = sum(part.rows for part in Lake(node.landed("invoices")).parts())
        arrow = _arrow_bytes(node.landed("invoices"))
        self.figures |= {
            f"{name}_full_rows_per_second": round(stored / best["seconds"]),
            f"{name}_full_arrow_mb_per_second": round(arrow / 1e6 / best["seconds"], 1),
            f"{name}_full_seconds": round(best["seconds"], 2),
            f"{name}_full_cpu_seconds": round(best["cpu_seconds"], 2),
            f"{name}_full_quality_share": round(best["check_seconds"] / best["seconds"], 3),
            f"{name}_full_peak_mb": round(max(run["peak_mb"] for run in found if run), 1),
        }
        return root

    def peer(self, name: str, *arguments: object, repeats: int | None = None) -> float | None:
        """Seconds of the fastest run; its rows a second become a figure."""
        wanted = self.repeats if repeats is None else repeats
        best = _best(self.ran(name, "benchmarks.collect.peers", *arguments) for _ in range(wanted))
        if best is None:
            return None
        self.figures[f"{name}_rows_per_second"] = round(self.rows / best["seconds"])
        if "peak_mb" in best:
            self.figures[f"{name}_peak_mb"] = round(best["peak_mb"], 1)
        return float(best["seconds"])

    def dlt(self, name: str, url: str) -> float | None:
        """Seconds of the fastest configuration."""
        tried = {
            how: self.peer(f"{name}_{how}", "dlt", url, self.folder / f"{name}-{how}", "full", how, repeats=1)
            for how in ("arrow_stream", "arrow")
        }
        known = [seconds for seconds in tried.values() if seconds is not None]
        if not known:
            return None
        self.figures[f"{name}_rows_per_second"] = round(self.rows / min(known))
        return min(known)

    def ratio(self, key: str, ours: str, theirs: float | None, unit: str = "seconds") -> None:
        """Theirs over ours, both in seconds."""
        mine = self.figures.get(f"{ours}_{unit}")
        if mine is None or theirs is None:
            self.absent.setdefault(key, "one of the two sides did not run")
        else:
            self.figures[key] = round(theirs / mine, 3)


def measure(runs: Runs) -> Figures:
    """All wanted figures, those of :data:`KEYS` first, then the others, the machine and what is absent."""
    loads, seconds = {"before": os.getloadavg()[0]}, {}
    for name, part in (("postgres", _postgres), ("mariadb", _mariadb), ("csv", _csv), ("stream", _stream)):
        started = time.monotonic()
        try:
            part(runs)
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - the other parts are measured all the same
            runs.absent[name] = f"{type(exc).__name__}: {exc}"
            _say(f"  failed: {runs.absent[name]}")
        loads[name], seconds[name] = os.getloadavg()[0], round(time.monotonic() - started)
    figures, full = (
        runs.figures,
        [name for name in ("postgres", "mariadb", "csv") if f"{name}_full_seconds" in runs.figures],
    )
    if full and runs.wanted("quality_share", "peak_mb"):
        figures["quality_share"] = max(figures[f"{name}_full_quality_share"] for name in full)
        figures["peak_mb"] = max(figures[f"{name}_full_peak_mb"] for name in full)
    ordered = {key: figures.pop(key) for key in KEYS if key in figures}
    about = {"rows": runs.rows, "machine": machine(), "load": loads, "took_seconds": seconds, "absent": runs.absent}
    return {**ordered, **figures, **about}


def _postgres(runs: Runs) -> None:
    if not runs.wanted(
        "postgres_full_vs_copy", "postgres_full_vs_dlt", "incremental_vs_dlt", "quality_share", "peak_mb"
    ):
        return
    with postgres() as server:
        _say(f"PostgreSQL takes {runs.rows} invoices …")
        server.fill(_invoices(runs))
        root = runs.ours("postgres", server.source)
        if runs.wanted("postgres_full_vs_copy"):
            command = ("psql", "-X", "-q", server.url, "-c", "COPY invoices TO STDOUT (FORMAT binary)")
            runs.ratio("postgres_full_vs_copy", "postgres_full", runs.peer("postgres_copy", "copy", *command))
        if runs.wanted("postgres_full_vs_dlt"):
            runs.ratio("postgres_full_vs_dlt", "postgres_full", runs.dlt("postgres_dlt", server.url))
        if runs.wanted("incremental_vs_dlt") and root is not None:
            _increments(runs, server, root)


def _increments(runs: Runs, server: Postgres, root: Path) -> None:
    """One invoice in a hundred changes, and one in a hundred more comes."""
    folder = runs.folder / "dlt-increment"
    runs.ran("dlt_first", "benchmarks.collect.peers", "dlt", server.url, folder, "first", "arrow_stream")
    server.load(write_changes(runs.folder / "changes.csv", runs.rows))
    found = runs.ran("incremental", "benchmarks.collect.ours", root, "incremental")
    theirs = runs.ran("incremental_dlt", "benchmarks.collect.peers", "dlt", server.url, folder, "next", "arrow_stream")
    if found is not None:
        runs.figures["incremental_seconds"] = round(found["seconds"], 3)
        runs.figures["incremental_readable_seconds"] = round(found["readable_seconds"], 3)
        runs.figures["incremental_peak_mb"] = round(found["peak_mb"], 1)
        if theirs is not None and theirs["table_rows"] != found["table_rows"]:
            raise SystemExit(f"dlt has {theirs['table_rows']} rows, we have {found['table_rows']}")
    if theirs is not None:
        runs.figures["incremental_dlt_seconds"] = round(theirs["seconds"], 3)
        runs.figures["incremental_dlt_readable_seconds"] = round(theirs["readable_seconds"], 3)
    others = None if theirs is None else theirs["readable_seconds"]
    runs.ratio("incremental_vs_dlt", "incremental", others, "readable_seconds")


def _mariadb(runs: Runs) -> None:
    if not runs.wanted("mariadb_full_vs_dlt", "mariadb_full_vs_client"):
        return
    with mariadb() as server:
        _say(f"MariaDB takes {runs.rows} invoices …")
        server.fill(_invoices(runs))
        runs.ours("mariadb", server.source)
        if runs.wanted("mariadb_full_vs_client"):
            runs.ratio(
                "mariadb_full_vs_client", "mariadb_full", runs.peer("mariadb_client", "client", *_client(server))
            )
        if runs.wanted("mariadb_full_vs_dlt"):
            runs.ratio("mariadb_full_vs_dlt", "mariadb_full", runs.dlt("mariadb_dlt", server.url))


def _client(server: MariaDb) -> list[str]:
    return [*server.client, "--quick", "--batch", "-e", "SELECT * FROM benchmark.invoices"]


def _csv(runs: Runs) -> None:
    if not runs.wanted("csv_full_vs_pyarrow"):
        return
    path = _invoices(runs)
    runs.ours("csv", {"kind": "csv", "path": str(path.parent)}, path.name)
    runs.ratio(
        "csv_full_vs_pyarrow", "csv_full", runs.peer("csv_pyarrow", "pyarrow", path, runs.folder / "peer.parquet")
    )


def _stream(runs: Runs) -> None:
    keys = [key for key in KEYS if key.startswith("stream_")]
    if runs.wanted(*keys):
        _say("change streams …")
        found = stream.figures(min(runs.rows, STREAM_ROWS), STREAM_SECONDS)
        runs.figures |= {key: round(value, 3) for key, value in found.items()}


def _invoices(runs: Runs) -> Path:
    folder = runs.folder / "files"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    return write_csv(folder / "invoices.csv", runs.rows)


def _arrow_bytes(table: Path) -> int:
    """Of the landed rows in memory, read file by file."""
    import pyarrow.parquet as pq

    def sizes() -> Iterator[int]:
        for part in Lake(table).parts():
            with pq.ParquetFile(part.path) as file:
                yield from (batch.nbytes for batch in file.iter_batches())

    return sum(sizes())


def _best(found: Iterable[Figures | None]) -> Figures | None:
    return min((run for run in found if run is not None), key=lambda run: float(run["seconds"]), default=None)


def machine() -> Figures:
    """Name, processor, cores this process may use, memory and versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "name": platform.node(),
        "processor": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Print the object; 1 where a wanted key is absent."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.collect", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one object on one line")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"of the table, {ROWS} unless told")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each full sync and peer")
    parser.add_argument("--dlt", default=sys.executable, metavar="PYTHON", help="interpreter that has dlt; this one")
    parser.add_argument("--only", nargs="+", choices=KEYS, default=list(KEYS), metavar="KEY", help=", ".join(KEYS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ftl-benchmark-collect-") as folder:
        Path(folder).chmod(0o755)
        figures = measure(Runs(Path(folder), given.rows, given.repeats, frozenset(given.only), given.dlt))
    print(json.dumps(figures, indent=None if given.json else 2))
    return 0 if set(given.only) <= set(figures) else 1


if __name__ == "__main__":
    sys.exit(main())
