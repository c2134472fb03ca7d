"""Every speed of the protocols as one JSON object: ``python -m benchmarks.protocols --json``.

Each protocol is measured by a module of this folder, in a process of its own, one after the other on a machine that
should do nothing else; ``--only NAME`` for some of them, ``--small`` to see in minutes that all of them work (its
figures mean nothing). A figure that could not be measured is absent, and ``failed`` says why.

``--secretflow PYTHON`` adds SecretFlow's boosting on the same rows in the same run; see `benchmarks/peers`.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

TIMEOUT = 4 * 3600.0
KEYS = (
    "secure_boost_seconds_per_tree",
    "secure_boost_one_core_seconds_per_tree",
    "secure_boost_150k_seconds_per_tree",
    "secure_boost_auc_loss",
    "bytes_per_tree",
    "messages_per_tree",
    "transfer_boost_1000_shared_seconds",
    "seconds_at_20ms",
    "seconds_at_50ms",
    "hetero_logistic_seconds",
    "neural_transfer_500_rows_seconds_per_iteration",
    "neural_transfer_500_rows_encrypted_seconds_per_iteration",
    "psi_million_seconds",
    "psi_vs_openmined",
    "nvflare_over_memory",
)
"""What one looks for first; everything else stands beside it."""

Figures = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One module of this folder.

    Attributes:
        module: its name.
        small: options of its short runs.
        full: options of its real runs.
        renamed: figure to the name it is told under, where only these are told.
    """

    module: str
    small: tuple[tuple[str, ...], ...]
    full: tuple[tuple[str, ...], ...] = ((),)
    renamed: Mapping[str, str] | None = None


PARTS = {
    "secure_boost": Part("secure_boost", (("--trees", "1"),)),
    "one_core": Part(
        "secure_boost",
        (("--only", "taiwan", "--trees", "1", "--cores", "1"),),
        (("--only", "taiwan", "--cores", "1"),),
        {"secure_boost_seconds_per_tree": "secure_boost_one_core_seconds_per_tree"},
    ),
    "accuracy": Part("boosting_accuracy", (("--tables", "taiwan", "--draws", "1", "--trees", "2"),)),
    "transfer_boost": Part("transfer_boost", (("--small",),)),
    "hetero_logistic": Part("hetero_logistic", (("--only", "taiwan"),)),
    "neural_transfer": Part("neural_transfer", (("--iterations", "2"),), (("--growth",),)),
    "psi": Part("psi", (("--people", "20000"),)),
    "nvflare": Part("nvflare", (("--small",),)),
}


def measure(names: list[str], *, small: bool, secretflow: Path | None) -> Figures:
    """Run the parts one after the other.

    Args:
        names: of the parts.
        small: short runs.
        secretflow: interpreter of an environment with SecretFlow; None for none.

    Returns:
        the figures in the order of :data:`KEYS`, then all others, the machine, and what failed.
    """
    figures: Figures = {}
    failed: dict[str, str] = {}
    loads = {"before": os.getloadavg()[0]}
    for name in names:
        part = PARTS[name]
        for options in part.small if small else part.full:
            command = [sys.executable, "-m", f"benchmarks.protocols.{part.module}", "--json", *options]
            found = _asked(name, command, failed)
            renamed = part.renamed or {key: key for key in found}
            figures |= {renamed[key]: value for key, value in found.items() if key in renamed}
        loads[name] = os.getloadavg()[0]
    if secretflow is not None or "secure_boost" in names:
        environment = [] if secretflow is None else ["--secretflow", str(secretflow)]
        options = [*environment, *(["--trees", "1"] if small else [])]
        figures |= _asked("peers", [sys.executable, "-m", "benchmarks.peers", "--json", *options], failed)
    ordered = {key: figures.pop(key) for key in KEYS if key in figures}
    return {**ordered, **figures, "machine": machine(), "load_average": loads, "small": small, "failed": failed}


def machine() -> Figures:
    """Processor, cores this process may use, memory and versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _asked(name: str, command: list[str], failed: dict[str, str]) -> Figures:
    """What a part prints; why it printed nothing goes into `failed`."""
    print(f"{name}: {' '.join(command[2:])}", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        start = done.stdout.index("{")  # a library may have greeted before
        found: Figures = json.loads(done.stdout[start:])
    except (subprocess.TimeoutExpired, ValueError) as exc:
        told = (
            exc if isinstance(exc, subprocess.TimeoutExpired) else (done.stderr.strip().splitlines() or ["nothing"])[-1]
        )
        failed[name] = str(told)
        return {}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--small", action="store_true", help="short runs, to see that everything works")
    parser.add_argument("--secretflow", type=Path, metavar="PYTHON", help="interpreter that can import secretflow")
    parser.add_argument("--json", action="store_true", help="one object on one line")
    given = parser.parse_args()
    figures = measure(given.only or list(PARTS), small=given.small, secretflow=given.secretflow)
    print(json.dumps(figures, indent=None if given.json else 2))
    return 1 if figures["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
