"""``python -m benchmarks.serving [--json] [--small] [--folder DIR] [--only NAME …]``: speed of scores and decisions.

Everything is on: mutual TLS between gateway and two score servers, client token, validation, reasons, metering, and an
A/B experiment of champion and one challenger. The load generator runs on the same machine. Requests are about people
drawn at random, one in ten of whom nobody knows. The soak runs with ``--only soak --minutes 30``.
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
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.serving import load
from benchmarks.serving.costs import costs
from benchmarks.serving.site import Site, drawn, everybody, free_port, prepare, served
from ftl import registry
from ftl.registry import competition

Figures = dict[str, Any]
CONNECTIONS = 64
WARM_SECONDS = 40
"""Within which the parties have prepared what they say of everybody; until then somebody's first request costs more."""
SWAPS = 20
SWAP_SECONDS = 12.0
"""Within which a gateway must have taken over a moved alias."""
BATCH_ROWS = 1_000_000
SMALL_SECONDS, SMALL_ROWS, SMALL_SWAPS = 3, 20_000, 2
STEADY_RATE, SWAP_RATE, SOAK_RATE = 1000, 300, 500
"""Requests a second."""
ON = (
    "mutual TLS to two score servers, client token, strict validation, A/B experiment of champion and one challenger, "
    "reasons, metering; for decisions also the full default policy, blacklist and velocities"
)


def main() -> None:
    """Print one JSON object, or a table."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    arguments.add_argument("--json", action="store_true", help="one JSON object")
    arguments.add_argument("--folder", type=Path, default=Path("var/benchmarks/serving"), help="a trained scenario")
    arguments.add_argument("--seconds", type=int, default=60, help="of each measurement")
    arguments.add_argument("--rows", type=int, default=BATCH_ROWS, help="of the batch")
    arguments.add_argument("--only", action="append", choices=list(PARTS), help="may be repeated")
    arguments.add_argument("--minutes", type=float, default=30, help="of the soak, which runs only when it is named")
    arguments.add_argument("--small", action="store_true", help="some seconds of each, to see that it runs")
    given = arguments.parse_args()
    given.swaps, given.warm = SWAPS, WARM_SECONDS
    if given.small:
        given.seconds, given.rows, given.minutes, given.swaps = SMALL_SECONDS, SMALL_ROWS, 0.1, SMALL_SWAPS
        given.warm = 0
    site = prepare(given.folder)
    figures: Figures = {"machine": machine(), "seconds": given.seconds, "people": len(everybody(site)), "on": ON}
    for name in given.only or [name for name in PARTS if name != "soak"]:
        say(f"{name} …")
        found = PARTS[name](site, given)
        say(json.dumps(found))
        figures |= found
    figures |= compared(figures)
    print(json.dumps(figures) if given.json else "\n".join(f"{name:<28} {value}" for name, value in figures.items()))


def compared(figures: Figures) -> Figures:
    """Ratios, and the sum of errors."""
    found: Figures = {}
    if "federated_rps" in figures and "bare_rps" in figures:
        found["overhead_vs_bare"] = round(figures["bare_rps"] / figures["federated_rps"], 2)
    if "federated_rps" in figures and "mlflow_rps" in figures:
        found["vs_mlflow"] = round(figures["federated_rps"] / max(figures["mlflow_rps"], 1), 1)
    errors = [value for name, value in figures.items() if name.endswith("_errors") and not name.startswith("mlflow")]
    return {**found, "errors": sum(errors)} if errors else found


def live(site: Site, given: argparse.Namespace) -> Figures:
    """Closed and open loop in an A/B experiment; change of champion under load."""
    with served(site) as workers:
        body = everybody(site)
        with experiment(site):
            ask = partial(load.closed, site.url, "/v1/scores", site.token, body, connections=CONNECTIONS)
            ask(seconds=2)
            time.sleep(given.warm)
            ask(seconds=min(10, given.seconds))
            before = spent(workers)
            found = ask(seconds=given.seconds)
            cpu = {kind: seconds - before[kind] for kind, seconds in spent(workers).items()}
            steady = load.opened(site.url, "/v1/scores", site.token, body, rate=STEADY_RATE, seconds=given.seconds)
        lost = swaps(site, body, given.swaps)
    return {
        "federated_rps": round(found.rate),
        "federated_rps_per_core": round(found.rate / (psutil.cpu_count() or 1)),
        "federated_p50_ms": round(found.p50, 2),
        "federated_p99_ms": round(found.p99, 2),
        "cpu_microseconds_per_request": {
            kind: round(seconds / max(found.rate * given.seconds, 1) * 1e6) for kind, seconds in cpu.items()
        },
        "open_loop_1000_p50_ms": round(steady.p50, 2),
        "open_loop_1000_p99_ms": round(steady.p99, 2),
        "open_loop_generator_late_p99_ms": round(steady.late, 2),
        "live_errors": found.errors + steady.errors,
        "swap_lost": lost,
    }


def swaps(site: Site, body: list[bytes], times: int) -> int:
    """Requests lost, or answered by neither version, while the champion changes back and forth under load."""
    stop, missed = threading.Event(), list[str]()

    def change() -> None:
        for number in range(times):
            version = str(2 - number % 2)
            registry.promote(site.folder, site.model, version, reason="benchmark", approved_by="benchmark")
            if not taken_over(site, version):
                missed.append(version)
        stop.set()

    def right(status: bytes, message: bytes) -> bool:
        return status == b"404" or b'"version":"1"' in message or b'"version":"2"' in message

    changing = threading.Thread(target=change)
    changing.start()
    lost = 0
    while not stop.is_set():
        lost += load.opened(
            site.url, "/v1/scores", site.token, body, rate=SWAP_RATE, seconds=SMALL_SECONDS, right=right
        ).errors
    changing.join()
    registry.promote(site.folder, site.model, "1", reason="benchmark over", approved_by="benchmark")
    return lost + len(missed)


def taken_over(site: Site, version: str) -> bool:
    """Whether a gateway process answers with a version soon after its promotion."""
    deadline, headers = time.monotonic() + SWAP_SECONDS, {"authorization": f"Bearer {site.token}"}
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{site.url}/v1/models", headers=headers).json()["models"][0]["version"] == version:
                return True
        time.sleep(0.2)
    return False


def decisions(site: Site, given: argparse.Namespace) -> Figures:
    """Full decisions by the default policy, in an A/B experiment."""
    asked = b', "application": {"amount": 12000.0, "term": 24}}'
    with experiment(site), served(site):
        body = [person[:-1] + asked for person in everybody(site)]
        ask = partial(load.closed, site.url, "/v1/decisions", site.token, body, connections=CONNECTIONS)
        ask(seconds=min(10, given.seconds))
        found = ask(seconds=given.seconds)
    return {
        "decision_rps": round(found.rate),
        "decision_p50_ms": round(found.p50, 2),
        "decision_p99_ms": round(found.p99, 2),
        "decision_errors": found.errors,
    }


def soak(site: Site, given: argparse.Namespace) -> Figures:
    """Growth of memory, and errors, while requests come in at a constant rate."""
    with experiment(site), served(site) as workers:
        ask = partial(load.opened, site.url, "/v1/scores", site.token, everybody(site), rate=SOAK_RATE)
        ask(seconds=min(60, given.minutes * 60))
        before = memory(workers)
        found = ask(seconds=given.minutes * 60)
        grown = {kind: size - before[kind] for kind, size in memory(workers).items()}
    return {
        "memory_growth_mb": round(sum(grown.values()) / 1e6, 1),
        "memory_growth_of": {kind: round(size / 1e6, 1) for kind, size in grown.items()},
        "soak_minutes": given.minutes,
        "soak_errors": found.errors,
        "soak_p99_ms": round(found.p99, 2),
    }


def cost(site: Site, _: argparse.Namespace) -> Figures:
    """Processor time of each part of a request, microseconds."""
    return {"microseconds_per_request": costs(site)}


def bare(site: Site, given: argparse.Namespace) -> Figures:
    """The bare fan-out on this machine."""
    gateway, *parties = ports = [free_port() for _ in range(3)]
    processes = site.folder.consortium.coordinator.gateway_processes or len(os.sched_getaffinity(0))  # as the gateway's
    commands = [[1, parties[0]], [1, parties[1]], [processes, *ports]]
    with started(*([sys.executable, "-m", "benchmarks.serving.bare", *map(str, one)] for one in commands)):
        url = f"http://127.0.0.1:{gateway}"
        answering(lambda: httpx.post(url, content=b"x" * 64).status_code == 200)
        ask = partial(load.closed, url, "/", site.token, everybody(site), connections=CONNECTIONS)
        ask(seconds=min(10, given.seconds))
        found = ask(seconds=given.seconds)
    return {"bare_rps": round(found.rate), "bare_p99_ms": round(found.p99, 2), "bare_processes": processes}


def mlflow(site: Site, given: argparse.Namespace) -> Figures:
    """The same bundle behind MLflow's own server."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{site.model}/1"]
    place = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow looks for uvicorn there
    environment = {
        "MLFLOW_TRACKING_URI": registry.tracking_uri(site.folder),
        "FTL_FOLDER": str(site.folder.root.resolve()),
        "PATH": place,
    }
    options = ["--env-manager", "local", "--port", str(port), "--host", "127.0.0.1"]
    with served(site), started([*command, *options], environment=environment):
        url = f"http://127.0.0.1:{port}"
        answering(lambda: httpx.get(f"{url}/ping").status_code == 200, 120)
        rows = [b'{"dataframe_records": [' + one + b"]}" for one in everybody(site)]
        ask = partial(load.closed, url, "/invocations", "none", rows, connections=CONNECTIONS)
        ask(seconds=min(10, given.seconds))
        found = ask(seconds=given.seconds)
    return {"mlflow_rps": round(found.rate, 1), "mlflow_p99_ms": round(found.p99, 2), "mlflow_errors": found.errors}


def batch(site: Site, given: argparse.Namespace) -> Figures:
    """`ftl score` of a file, from the command's start to its end."""
    path, out = site.folder.root / "batch.parquet", site.folder.root / "scored.parquet"
    pq.write_table(drawn(site, given.rows), path)
    files = ["--file", str(path), "--out", str(out)]
    with served(site):
        start = time.perf_counter()
        command = [sys.executable, "-m", "ftl.cli", "score", str(site.folder.root), *files]
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - start
    scored = pq.read_table(out)
    return {
        "batch_rows_per_second": round(given.rows / seconds),
        "batch_rows": len(scored),
        "batch_errors": given.rows - len(scored) + pc.sum(scored.column("degraded")).as_py(),
    }


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


def spent(workers: dict[psutil.Process, str]) -> dict[str, float]:
    """Seconds of processor time by kind of server."""
    return _summed(workers, lambda worker: sum(worker.cpu_times()[:2]))


def memory(workers: dict[psutil.Process, str]) -> dict[str, float]:
    """Bytes resident by kind of server."""
    return _summed(workers, lambda worker: worker.memory_info().rss)


def _summed(workers: dict[psutil.Process, str], figure: Callable[[psutil.Process], float]) -> dict[str, float]:
    found = dict.fromkeys(workers.values(), 0.0)
    for worker, kind in workers.items():
        found[kind] += figure(worker)
    return found


def machine() -> Figures:
    """What it was measured on."""
    return {
        "processor": processor(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "load_average": os.getloadavg()[0],
    }


def processor() -> str:
    """Its name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def say(what: str) -> None:
    """Progress to standard error."""
    print(what, file=sys.stderr)


if __name__ == "__main__":
    main()
