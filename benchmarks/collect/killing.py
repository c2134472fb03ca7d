"""Work in processes of their own that are killed with SIGKILL."""

import multiprocessing
import os
import time
from collections.abc import Callable
from typing import Any

LIBRARIES = ("deltalake", "duckdb", "lmdb", "psycopg2", "pymysql", "great_expectations.expectations")
ROOMS = ("ftl.collect.sqlite", "ftl.collect.stream.follow", "ftl.quality")

FORKS = multiprocessing.get_context("forkserver")
"""Its processes are forks of one that has loaded the libraries already, so that they begin at once."""
FORKS.set_forkserver_preload([*LIBRARIES, *ROOMS])
os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when the library is loaded

PATIENCE = 600.0
"""Seconds until a process that does not end is given up."""


def run(target: Callable[..., None], *arguments: Any, kill_after: float | None = None) -> int:
    """Do this in a process of its own, and kill that after so many seconds unless it has ended.

    Args:
        target: what to do.
        arguments: of `target`.
        kill_after: seconds; None lets it end.

    Returns:
        its exit code: 0, or ``-signal.SIGKILL``.
    """
    process = FORKS.Process(target=target, args=arguments)
    process.start()
    if kill_after is not None:
        time.sleep(kill_after)
        process.kill()
    process.join(timeout=PATIENCE)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"the process did not end within {PATIENCE:.0f} s")
    return process.exitcode
