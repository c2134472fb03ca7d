"""Runs in SecretFlow's own environment: two parties on this machine grow trees; one line of JSON.

``PYTHON secretflow_boosting.py FOLDER TREES SCHEME BITS``. The folder holds the arrays that `benchmarks.peers` writes.
Imports nothing of this project.
"""

import json
import multiprocessing
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

PARTIES = ("bank", "partner")
HOUR = 3600.0


def carry(folder: Path, trees: int, scheme: str, bits: int) -> dict[str, Any]:
    """Both parties as processes; what the bank measured."""
    addresses = dict(zip(PARTIES, _free_addresses(len(PARTIES)), strict=True))
    results: Any = multiprocessing.Queue()
    jobs = [
        multiprocessing.Process(target=_party, args=(name, addresses, folder, trees, scheme, bits, results))
        for name in PARTIES
    ]
    for job in jobs:
        job.start()
    found: dict[str, Any] = results.get(timeout=3 * HOUR)
    for job in jobs:
        job.join()
    return found


def _party(me: str, addresses: dict[str, str], folder: Path, trees: int, scheme: str, bits: int, results: Any) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        os.environ.pop(name, None)
    import secretflow as sf
    import spu
    from secretflow.data import FedNdarray, PartitionWay
    from secretflow.ml.boost.sgb_v import Sgb, get_classic_XGB_params

    sf.init(
        address=None,
        ray_mode=False,
        cluster_config={
            "parties": {name: {"address": where, "listen_addr": where} for name, where in addresses.items()},
            "self_party": me,
        },
        cross_silo_comm_backend="brpc_link",
        cross_silo_comm_options={"http_max_payload_size": 1 << 29, "recv_timeout_ms": int(HOUR * 1000)},
        job_name="benchmark",
        logging_level="warning",
    )
    devices = {name: sf.PYU(name) for name in PARTIES}
    heu = sf.HEU(
        {
            "sk_keeper": {"party": "bank"},
            "evaluators": [{"party": "partner"}],
            "mode": "PHEU",
            "he_parameters": {"schema": scheme, "key_pair": {"generate": {"bit_size": bits}}},
        },
        spu.FieldType.FM128,
    )

    def table(part: str) -> Any:
        blocks = {device: device(_read)(folder / f"{name}_{part}.npy") for name, device in devices.items()}
        return FedNdarray(blocks, PartitionWay.VERTICAL)

    label = FedNdarray({devices["bank"]: devices["bank"](_column)(folder / "label_train.npy")}, PartitionWay.VERTICAL)
    settings = get_classic_XGB_params() | {
        "num_boost_round": trees,
        "max_depth": 3,
        "learning_rate": 0.3,
        "sketch_eps": 1 / 32,
        "reg_lambda": 1.0,
        "gamma": 0.0,
        "base_score": 0.0,
        "first_tree_with_label_holder_feature": False,
        "objective": "logistic",
    }
    rows = table("train")
    start = time.perf_counter()
    model = Sgb(heu).train(settings, rows, label)
    answers = np.asarray(sf.reveal(model.predict(table("test")))).ravel()  # waits for the last tree
    seconds = time.perf_counter() - start
    if me == "bank":
        auc = _area(np.load(folder / "label_test.npy"), answers)
        figures = {"seconds_per_tree": round(seconds / trees, 3), "trees": trees, "auc": round(auc, 4)}
        results.put(figures | {"cipher": f"{scheme}-{bits}", "cores": len(os.sched_getaffinity(0))})
    sf.shutdown()


def _read(path: Path) -> np.ndarray:
    return np.load(path)


def _column(path: Path) -> np.ndarray:
    return np.load(path).reshape(-1, 1)


def _area(label: np.ndarray, answers: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(label, answers))


def _free_addresses(count: int) -> list[str]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in held]
    for one in held:
        one.close()
    return addresses


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    given = sys.argv[1:]
    print(json.dumps(carry(Path(given[0]), int(given[1]), given[2], int(given[3]))), flush=True)
