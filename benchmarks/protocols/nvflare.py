"""`transfer_boost` over real NVFlare processes against the same run in memory.

``python -m benchmarks.protocols.nvflare --json``. Both carry the whole run on the scenario `taiwan`, 1,000 shared: over
NVFlare server and two sites are processes of their own, connected by mutual TLS on loopback; in memory the parties are
threads of one process. Seconds are the bank's, from its own model to the end of training; the job's start-up, the
alignment and the bank's own model are reported by themselves.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.protocols.transfer_boost import QUICK, SHARED, prepare
from ftl.consortium import Folder
from ftl.federation import Engine, MemoryEngine, NvflareEngine, Progress, Request, processes, provision, ready

START_SECONDS = 180.0
ENDING_SECONDS = 30.0

Figures = dict[str, Any]


def compare(settings: Mapping[str, Any], repeats: int) -> Figures:
    """Carry the run over both, in turns; the medians' ratio."""
    with tempfile.TemporaryDirectory() as directory:
        folder = prepare(Path(directory) / "taiwan", SHARED)
        memory, over = MemoryEngine(folder), NvflareEngine(folder)
        with federation(folder):
            pairs = [
                (carry(memory, f"memory-{turn}", settings), carry(over, f"nvflare-{turn}", settings))
                for turn in range(repeats)
            ]
    in_memory, over_nvflare = (
        sorted(some, key=lambda run: run["seconds"])[len(some) // 2] for some in zip(*pairs, strict=True)
    )
    return {
        "nvflare_over_memory": round(over_nvflare["seconds"] / in_memory["seconds"], 2),
        "nvflare": over_nvflare,
        "nvflare_in_memory": in_memory,
    }


def carry(engine: Engine, run_id: str, settings: Mapping[str, Any]) -> Figures:
    """One run: seconds of its phases at the bank."""
    load, start = os.getloadavg()[0], time.perf_counter()
    engine.submit(Request(run_id, "transfer_boost", 0, dict(settings)))
    first, lines = None, list[Progress]()
    for line in engine.watch(run_id):
        first = first or time.perf_counter()
        lines.append(line)
    result = engine.result(run_id)
    own_model = _own_model_seconds(lines)
    return {
        "seconds": round(result.seconds["train"] - own_model, 3),
        "own_model_seconds": round(own_model, 3),
        "align_seconds": round(result.seconds["align"], 3),
        "start_up_seconds": round((first or start) - start, 3),
        "auc": round(result.metrics["federated"].figures["auc"], 4),
        "bytes": sum(result.bytes_sent.values()),
        "messages": sum(result.messages.values()),
        "load_before": round(load, 1),
    }


def _own_model_seconds(lines: list[Progress]) -> float:
    """From the end of the alignment to the last fit of the bank's own model, as it reported them."""
    mine = [line for line in lines if line.party == "bank"]
    aligned = [line.elapsed for line in mine if line.step.phase == "align"]
    based = [line.elapsed for line in mine if line.step.phase == "base"]
    return based[-1] - aligned[-1] if based and aligned else 0.0


@contextlib.contextmanager
def federation(folder: Folder) -> Iterator[None]:
    """Server and sites, each started like a supervisor does, and all of them ended."""
    provision(folder)
    started: list[subprocess.Popen[bytes]] = []
    try:
        for process in processes(folder):
            with (folder.coordinator / f"{process.name}.log").open("wb") as log:
                environment = {**os.environ, **process.environment}
                started.append(
                    subprocess.Popen(
                        process.command,
                        cwd=process.directory,
                        env=environment,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
        ready(folder, START_SECONDS)
        yield
    finally:
        for popen in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(popen.pid, signal.SIGTERM)
        for popen in started:
            popen.wait(ENDING_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="few rounds and no repeats, to see that it works")
    parser.add_argument("--json", action="store_true", help="one object on one line")
    given = parser.parse_args()
    figures = compare(QUICK if given.small else {}, 1 if given.small else given.repeats)
    print(json.dumps(figures, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
