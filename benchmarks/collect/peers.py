"""What others need for the same invoices, each in a process of its own: ``python -m benchmarks.collect.peers NAME …``.

`copy` and `client` are the servers' own programs, which only read: COPY in binary to standard output, and the command
line client that fetches row by row. `pyarrow` streams a CSV file to Parquet. `dlt` loads into a Delta table with
connectorx, the fastest of its backends here, without normalising again what is Arrow already; an environment of its own
needs the packages in :data:`DLT` only. Libraries are loaded before the clock starts. Prints one JSON object.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.collect.measured import peak_mb, readable_at

Figures = dict[str, Any]
DLT = "'dlt[deltalake,sql-database]==1.31.0' connectorx psycopg2-binary pymysql"
"""What `dlt` needs installed."""
_CHUNK = 200_000
"""Rows of a batch that dlt asks connectorx for; with its default of 50,000 it is slower."""


def program(*command: str) -> Figures:
    """Run a program that writes what it reads to its standard output, which goes nowhere."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {"seconds": time.perf_counter() - started}


def pyarrow(source: str, target: str) -> Figures:
    """CSV to Parquet as pyarrow's documentation has it: types inferred, batch by batch."""
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq

    started = time.perf_counter()
    with pa_csv.open_csv(source) as reader, pq.ParquetWriter(target, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
    return {"seconds": time.perf_counter() - started, "peak_mb": peak_mb()}


def dlt(url: str, folder: str, mode: str, returned: str) -> Figures:
    """Load the table into Delta: all of it, or what came since the last load.

    Args:
        url: of the database.
        folder: where dlt keeps its state and the table.
        mode: ``full`` replaces the table; ``first`` does as well and remembers the newest time of change; ``next``
            upserts what is newer.
        returned: ``arrow``, the whole table at once, or ``arrow_stream``.
    """
    if any(find_spec(name) is None for name in ("dlt", "deltalake", "connectorx", "sqlalchemy")):
        raise SystemExit(f"{sys.executable} has no dlt: pip install {DLT}")
    _settings(folder)
    import connectorx  # noqa: F401
    import deltalake
    import dlt as library
    from dlt.sources.sql_database import sql_table

    pipeline = library.pipeline(
        "invoices",
        pipelines_dir=f"{folder}/state",
        destination=library.destinations.filesystem(f"file://{folder}/lake"),
        dataset_name="lake",
    )
    newer = library.sources.incremental("updated_at") if mode != "full" else None
    table = sql_table(
        url.replace("postgresql://", "postgresql+psycopg2://"),
        "invoices",
        backend="connectorx",
        incremental=newer,
        chunk_size=_CHUNK,
        backend_kwargs={"return_type": returned},
    )
    table.apply_hints(primary_key="invoice_id")
    disposition: Any = {"disposition": "merge", "strategy": "upsert"} if mode == "next" else "replace"
    began, started = time.time(), time.perf_counter()
    done = pipeline.run(table, table_format="delta", write_disposition=disposition)
    done.raise_on_failed_jobs()
    seconds = time.perf_counter() - started
    place = Path(folder, "lake", "lake", "invoices")
    return {
        "seconds": seconds,
        "readable_seconds": readable_at(place) - began,
        "table_rows": deltalake.DeltaTable(str(place)).count(),
        "peak_mb": peak_mb(),
        "version": library.__version__,
    }


def _settings(folder: str) -> None:
    os.environ.update(
        RUNTIME__DLTHUB_TELEMETRY="false",
        RUNTIME__LOG_LEVEL="ERROR",
        DLT_DATA_DIR=f"{folder}/home",
        DLT_PROJECT_DIR=folder,
    )


RUNS: dict[str, Callable[..., Figures]] = {
    "copy": program,
    "client": program,
    "pyarrow": pyarrow,
    "dlt": dlt,
}


if __name__ == "__main__":
    print(json.dumps(RUNS[sys.argv[1]](*sys.argv[2:])))
