"""SecretFlow's encrypted boosting beside ours: ``python -m benchmarks.peers --secretflow PYTHON --json``.

PYTHON is the interpreter of an environment of its own, made once by ``python3.10 -m venv ENV`` and
``ENV/bin/pip install --pre secretflow==1.14.0b0``. The rows are those of `benchmarks.protocols.secure_boost`: 24,000
people to train, 6,000 to test, bank 13 columns, partner 10; depth 3, 32 bins. Without PYTHON, or where it cannot import
SecretFlow, the object says so under ``missing``.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.protocols.secure_boost import Data, taiwan

PROGRAM = Path(__file__).with_name("secretflow_boosting.py")
VERSION = "1.14.0b0"
TIMEOUT = 3 * 3600.0

Figures = dict[str, Any]


def secretflow(python: Path | None, trees: int, scheme: str, bits: int) -> Figures:
    """Seconds per tree and AUC of SecretFlow's SGB, both parties in processes of their own.

    Args:
        python: interpreter that can import SecretFlow.
        trees: to grow.
        scheme: ``ou`` or ``paillier``.
        bits: of the key.
    """
    missing = _missing(python)
    if missing or python is None:
        return {"secretflow_sgb": {"missing": missing}}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory:
        write(taiwan(), Path(directory))
        command = [str(python), str(PROGRAM), directory, str(trees), scheme, str(bits)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        return {
            "secretflow_sgb": {"missing": f"its program ended with {(done.stderr.splitlines() or ['nothing'])[-1]!r}"}
        }
    return {"secretflow_sgb": json.loads(lines[-1]) | {"version": VERSION, "load_before": round(load, 1)}}


def write(data: Data, folder: Path) -> None:
    """The rows as plain arrays, each party's in files of its own."""
    for party, frame in (("bank", data.bank), ("partner", data.partner)):
        np.save(folder / f"{party}_train.npy", frame.values[: data.train].astype(np.float32))
        np.save(folder / f"{party}_test.npy", frame.values[data.train :].astype(np.float32))
    label = data.bank.label
    if label is not None:
        np.save(folder / "label_train.npy", label[: data.train].astype(np.float32))
        np.save(folder / "label_test.npy", label[data.train :].astype(np.float32))


def _missing(python: Path | None) -> str:
    """Why SecretFlow cannot be run; empty where it can."""
    if python is None:
        return "no environment was named; see the head of benchmarks/peers/__main__.py"
    if not python.exists():
        return f"there is no {python}"
    tried = subprocess.run([str(python), "-c", "import secretflow"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"{python} cannot import it: {(tried.stderr.splitlines() or [''])[-1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secretflow", type=Path, metavar="PYTHON", help="interpreter that can import secretflow")
    parser.add_argument("--trees", type=int, default=5)
    parser.add_argument("--scheme", choices=["ou", "paillier"], default="ou")
    parser.add_argument("--bits", type=int, default=2048)
    parser.add_argument("--json", action="store_true", help="one object on one line")
    given = parser.parse_args()
    figures = secretflow(given.secretflow, given.trees, given.scheme, given.bits)
    print(json.dumps(figures, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
