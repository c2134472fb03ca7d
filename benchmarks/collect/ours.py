"""One measured sync of the invoices, in a process of its own: ``python -m benchmarks.collect.ours ROOT MODE``.

Mapping, pseudonyms, the fifteen expectations and the Data Docs are part of what is timed; loading the libraries is not.
`readable_seconds` end with the commit that publishes the checked rows; their page of the Data Docs follows it. Prints
one JSON object; peak memory is the high-water mark of this process alone.
"""

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

import adbc_driver_postgresql.dbapi  # noqa: F401 - loaded before the clock starts
import connectorx  # noqa: F401
import deltalake  # noqa: F401
import great_expectations.expectations  # noqa: F401
import pyarrow as pa

from benchmarks.collect.measured import peak_mb, readable_at
from ftl import consortium
from ftl.collect import Lake, collect
from ftl.quality import check

Mode = Literal["full", "incremental"]


def measured(root: Path, mode: Mode) -> dict[str, Any]:
    """Collect and check the invoices of the party `tax` under `root`."""
    node = consortium.load(root).node("tax")
    began, started, cpu = time.time(), time.perf_counter(), time.process_time()
    synced = collect(node, "invoices", mode, _now)
    landed = time.perf_counter()
    checked = check(node, "invoices", _now)
    ended = time.perf_counter()
    assert checked.published
    return {
        "rows": synced.rows_landed,
        "seconds": ended - started,
        "readable_seconds": readable_at(node.validated("invoices")) - began,
        "sync_seconds": landed - started,
        "check_seconds": ended - landed,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": peak_mb(),
        "table_rows": Lake(node.validated("invoices")).count(),
        "arrow_pool_mb": pa.default_memory_pool().max_memory() / 1e6,
    }


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    print(json.dumps(measured(Path(sys.argv[1]), cast("Mode", sys.argv[2]))))
