"""``python -m benchmarks.serving [--json] [--small] [--folder DIR] [--only NAME …]``: figures of the gateway.

Everything is on: mutual TLS between gateway and two score servers, client token, validation, reasons, metering, and an
A/B experiment of champion and one challenger. The load generator runs on the same machine.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.serving import load
from benchmarks.serving.costs import costs
from benchmarks.serving.site import Site, applicants, bodies, free_port, prepare, served
from ftl import registry
from ftl.registry import competition

Figures = dict[str, Any]
CONNECTIONS = 64
PEOPLE = 20_000
SWAPS = 20
BATCH_ROWS = 1_000_000
SMALL_SECONDS, SMALL_ROWS = 3, 20_000
SOAK_RATE = 500
ON = "mutual TLS, client token, validation, A/B experiment, reasons, metering; policy, blacklist and velocities"


def main() -> None:
    """Print one JSON object, or a table."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    arguments.add_argument("--json", action="store_true", help="one JSON object")
    arguments.add_argument("--folder", type=Path, default=Path("var/benchmarks/serving"), help="a trained scenario")
    arguments.add_argument("--seconds", type=int, default=60, help="of each measurement")
    arguments.add_argument("--rows", type=int, default=BATCH_ROWS, help="of the batch")
    arguments.add_argument("--only", action="append", choices=list(PARTS), help="may be repeated")
    arguments.add_argument("--soak", type=int, default=1800, help="seconds of 500 requests/s, for memory and errors")
    arguments.add_argument("--small", action="store_true", help="some seconds of each, to see that it runs")
    given = arguments.parse_args()
    if given.small:
        given.seconds, given.rows, given.soak = SMALL_SECONDS, SMALL_ROWS, SMALL_SECONDS
    site = prepare(given.folder)
    figures: Figures = {"machine": machine(), "seconds": given.seconds, "people": PEOPLE, "on": ON}
    for name in given.only or PARTS:
        say(f"{name} …")
        figures |= PARTS[name](site, given)
    if "federated_rps" in figures and "bare_rps" in figures:
        figures["overhead_vs_bare"] = round(figures["bare_rps"] / figures["federated_rps"], 2)
    if "federated_rps" in figures and "mlflow_rps" in figures:
        figures["vs_mlflow"] = round(figures["federated_rps"] / max(figures["mlflow_rps"], 1), 1)
    print(json.dumps(figures) if given.json else "\n".join(f"{name:<28} {value}" for name, value in figures.items()))


def live(site: Site, given: argparse.Namespace) -> Figures:
    """Closed and open loop, change of champion under load; in an A/B experiment."""
    with served(site) as workers:
        with experiment(site):
            people = applicants(site, PEOPLE)
            body = bodies(people)
            load.closed(site.url, "/v1/scores", site.token, body, connections=CONNECTIONS, seconds=5)
            cpu = sum(sum(worker.cpu_times()[:2]) for worker in workers)
            found = load.closed(
                site.url, "/v1/scores", site.token, body, connections=CONNECTIONS, seconds=given.seconds
            )
            cpu = sum(sum(worker.cpu_times()[:2]) for worker in workers) - cpu
            lines = [json.dumps(person).encode() for person in people]
            steady = load.opened(site.url, "/v1/scores", site.token, lines, rate=1000, seconds=given.seconds)
        lost = swaps(site, body)
    return {
        "federated_rps": round(found.rate),
        "federated_rps_per_core": round(found.rate / (psutil.cpu_count() or 1)),
        "federated_p50_ms": round(found.p50, 2),
        "federated_p99_ms": round(found.p99, 2),
        "cpu_microseconds_per_request": round(cpu / max(found.rate * given.seconds, 1) * 1e6),
        "open_loop_1000_p50_ms": round(steady.p50, 2),
        "open_loop_1000_p99_ms": round(steady.p99, 2),
        "errors": found.errors + steady.errors,
        "swap_lost": lost,
    }


def swaps(site: Site, body: bytes) -> int:
    """Requests lost while the champion changes back and forth under load."""
    name, done = site.folder.consortium.training.model_name, threading.Event()

    def change() -> None:
        for number in range(SWAPS):
            registry.promote(site.folder, name, str(2 - number % 2), reason="benchmark", approved_by="benchmark")
            time.sleep(1.5)
        done.set()

    changing = threading.Thread(target=change)
    changing.start()
    errors = 0
    while not done.is_set():
        errors += load.closed(site.url, "/v1/scores", site.token, body, connections=16, seconds=5).errors
    changing.join()
    registry.promote(site.folder, name, "1", reason="benchmark over", approved_by="benchmark")
    return errors


def decisions(site: Site, given: argparse.Namespace) -> Figures:
    """Full decisions by the default policy, in an A/B experiment."""
    asked = {"application": {"amount": 12_000.0, "term": 24}}
    with experiment(site), served(site):
        body = "\n".join(json.dumps({**person, **asked}) for person in applicants(site, PEOPLE)).encode()
        load.closed(site.url, "/v1/decisions", site.token, body, connections=CONNECTIONS, seconds=2)
        found = load.closed(site.url, "/v1/decisions", site.token, body, connections=CONNECTIONS, seconds=given.seconds)
    return {
        "decision_rps": round(found.rate),
        "decision_p50_ms": round(found.p50, 2),
        "decision_p99_ms": round(found.p99, 2),
        "decision_errors": found.errors,
    }


def soak(site: Site, given: argparse.Namespace) -> Figures:
    """Growth of memory, and errors, while requests come in at a constant rate."""
    with experiment(site), served(site) as workers:
        lines = [json.dumps(person).encode() for person in applicants(site, PEOPLE)]
        ask = partial(load.opened, site.url, "/v1/scores", site.token, lines, rate=SOAK_RATE)
        ask(seconds=min(60, given.soak))
        before = memory(workers)
        found = ask(seconds=given.soak)
        grown = memory(workers) - before
    return {
        "memory_growth_mb": round(grown / 1e6, 1),
        "soak_seconds": given.soak,
        "soak_errors": found.errors,
        "soak_p99_ms": round(found.p99, 2),
    }


def cost(site: Site, _: argparse.Namespace) -> Figures:
    """Processor time of each part of a request, microseconds."""
    return {"microseconds_per_request": costs(site)}


def bare(site: Site, given: argparse.Namespace) -> Figures:
    """The bare fan-out on this machine."""
    ports = [free_port() for _ in range(3)]
    commands = [[str(ports[1])], [str(ports[2])], [str(ports[0]), str(ports[1]), str(ports[2])]]
    with started(*([sys.executable, "-m", "benchmarks.serving.bare", *one] for one in commands)):
        url = f"http://127.0.0.1:{ports[0]}"
        answering(lambda: httpx.post(url, content=b"x" * 64).status_code == 200)
        body = bodies(applicants(site, 1000))
        found = load.closed(url, "/", "none", body, connections=CONNECTIONS, seconds=given.seconds)
    return {"bare_rps": round(found.rate), "bare_p99_ms": round(found.p99, 2)}


def mlflow(site: Site, given: argparse.Namespace) -> Figures:
    """The same bundle behind MLflow's own server."""
    port, name = free_port(), site.folder.consortium.training.model_name
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{name}@champion"]
    environment = {"MLFLOW_TRACKING_URI": registry.tracking_uri(site.folder), "FTL_FOLDER": str(site.folder.root)}
    options = ["--env-manager", "local", "--port", str(port), "--host", "127.0.0.1"]
    with served(site), started([*command, *options], environment=environment):
        url = f"http://127.0.0.1:{port}"
        answering(lambda: httpx.get(f"{url}/ping").status_code == 200, 120)
        rows = [json.dumps({"dataframe_records": [one]}) for one in applicants(site, 1000)]
        found = load.closed(
            url, "/invocations", "none", "\n".join(rows).encode(), connections=CONNECTIONS, seconds=given.seconds
        )
    return {"mlflow_rps": round(found.rate), "mlflow_p99_ms": round(found.p99, 2), "mlflow_errors": found.errors}


def batch(site: Site, given: argparse.Namespace) -> Figures:
    """`ftl score` of a file."""
    people = applicants(site, given.rows)
    path = site.folder.root / "batch.parquet"
    pq.write_table(pa.Table.from_pylist(people), path)
    command = [
        sys.executable,
        "-m",
        "ftl.cli",
        "score",
        str(site.folder.root),
        "--file",
        str(path),
        "--out",
        str(path) + ".out.parquet",
    ]
    with served(site):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - start
    return {"batch_rows_per_second": round(given.rows / seconds), "batch_rows": given.rows}


PARTS: dict[str, Callable[[Site, argparse.Namespace], Figures]] = {
    "live": live,
    "decisions": decisions,
    "cost": cost,
    "bare": bare,
    "mlflow": mlflow,
    "batch": batch,
    "soak": soak,
}


@contextmanager
def experiment(site: Site) -> Iterator[None]:
    """Champion and one challenger, half of the applicants each."""
    now = datetime.now(UTC)
    if under_way := competition.running(site.folder):
        competition.end(site.folder, under_way.name, now, "left over")
    name = f"bench-{now:%Y%m%d%H%M%S}"
    competition.start(site.folder, name, {"2": 0.5}, now)
    try:
        yield
    finally:
        competition.end(site.folder, name, now, "measured")


@contextmanager
def started(*commands: list[str], environment: dict[str, str] | None = None) -> Iterator[None]:
    """Processes while they are needed."""
    running = [
        subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        for command in commands
    ]
    try:
        yield
    finally:
        for process in running:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def answering(looks: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            if looks():
                return
        time.sleep(0.2)
    raise TimeoutError("a server did not answer")


def memory(workers: list[psutil.Process]) -> int:
    """Bytes resident in all of them."""
    return sum(worker.memory_info().rss for worker in workers)


def machine() -> Figures:
    """What it was measured on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "load_average": os.getloadavg()[0],
    }


def say(what: str) -> None:
    """Progress to standard error."""
    print(what, file=sys.stderr)


if __name__ == "__main__":
    main()
