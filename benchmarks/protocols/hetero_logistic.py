"""`hetero_logistic` on the Taiwan table: seconds, bytes and messages to the coefficients of the pooled regression.

``python -m benchmarks.protocols.hetero_logistic --json``; one part: ``--only taiwan`` and so on. Each party is a
process of its own, joined by pipes; ``--cores 1`` puts both on one core. 24,000 people to train, bank with limit,
bills and payments (13 columns), partner with person and repayment status (10 columns). Seconds are those of the whole
program up to the last step of the coefficients, the bank's own regression included; standard errors and holdout come
after and are reported by themselves.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from benchmarks.protocols.secure_boost import TIMEOUT, Data, _PipeChannel, taiwan
from ftl.channel import RecordedChannel, Recording
from ftl.features import Frame
from ftl.protocols import Step, Task
from ftl.protocols.hetero_linear import FILE, LOGISTIC, Table

SETTINGS = {"own_model": "linear"}
LEAST_RIDGE = 1e-7
"""Of the pooled fit, in units of the mean loss: scikit-learn's ``C`` is its inverse over people."""

Figures = dict[str, Any]


def measure(data: Data, settings: dict[str, Any], cores: int = 2, delay: float = 0.0) -> Figures:
    """Train with each party in a process of its own, and compare with the pooled fit.

    Args:
        data: of both parties.
        settings: of the recipe.
        cores: 1 binds both processes to the same one.
        delay: seconds that every message is on its way.
    """
    context, load = multiprocessing.get_context("spawn"), os.getloadavg()[0]
    ends, results, ready = context.Pipe(), context.Queue(), context.Barrier(2)
    jobs = [
        context.Process(target=_party, args=(frame, end, data.train, settings, cores, delay, ready, results))
        for frame, end in zip((data.bank, data.partner), ends, strict=True)
    ]
    for job in jobs:
        job.start()
    found = dict(results.get(timeout=TIMEOUT) for _ in jobs)
    for job in jobs:
        job.join()
    bank, parts = found["bank"], [found["bank"], found["partner"]]
    pooled, auc = in_the_clear(data)
    fitted = np.concatenate([part["coefficients"] for part in parts])
    return {
        "seconds": bank["seconds"],
        "seconds_with_standard_errors": bank["all_seconds"],
        "seconds_per_round": round(bank["seconds"] / bank["rounds"], 3),
        "rounds": bank["rounds"],
        "largest_error": float(f"{np.abs(fitted - pooled).max():.2g}"),
        "auc": round(roc_auc_score(data.bank.label[data.train :], bank["answers"]), 4),
        "pooled_auc": round(auc, 4),
        "bytes": sum(part["bytes"] for part in parts),
        "messages": sum(part["messages"] for part in parts),
        "processor_seconds": {name: round(part["processor"], 2) for name, part in found.items()},
        "cores": cores,
        "load_before": round(load, 1),
    }


def _party(
    frame: Frame,
    way: Connection,
    train: int,
    settings: dict[str, Any],
    cores: int,
    delay: float,
    ready: Any,
    results: Any,
) -> None:
    if cores == 1:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import ftl.protocols.hetero_linear.active  # noqa: F401 - loads TenSEAL before the clock starts

    recording, other, stamps = Recording(), "partner" if frame.party == "bank" else "bank", [0.0]
    channel = RecordedChannel(_PipeChannel(frame.party, other, way, delay), recording)

    def report(step: Step) -> None:
        if step.phase == "train":
            stamps.append(time.perf_counter())

    people = np.arange(len(frame.ids))
    task = Task(frame, people[:train], people[train:], "bank", channel, 0, TIMEOUT, report)
    ready.wait(TIMEOUT)
    start, work = time.perf_counter(), time.process_time()
    outcome = LOGISTIC.run(task, LOGISTIC.settings(settings))
    table = msgspec.json.decode(outcome.private[FILE], type=Table)
    figures = {
        "seconds": round(stamps[-1] - start, 3),
        "all_seconds": round(time.perf_counter() - start, 3),
        "rounds": len(stamps) - 1,
        "processor": time.process_time() - work,
        "bytes": recording.bytes_sent[frame.party],
        "messages": recording.sent[frame.party],
        "coefficients": [row.coefficient for row in table.rows],
        "answers": outcome.probability,
    }
    results.put((frame.party, figures))


def in_the_clear(data: Data) -> tuple[np.ndarray, float]:
    """The pooled fit on standardised columns: intercept and coefficients, and its AUC on the holdout."""
    values = np.column_stack([data.bank.values, data.partner.values])
    train = values[: data.train]
    values = (values - train.mean(axis=0)) / train.std(axis=0)
    label = data.bank.label
    model = LogisticRegression(C=1 / (LEAST_RIDGE * data.train), tol=1e-8, max_iter=10_000)
    model.fit(values[: data.train], label[: data.train])
    auc = roc_auc_score(label[data.train :], model.decision_function(values[data.train :]))
    return np.concatenate([model.intercept_, model.coef_[0]]), float(auc)


def on_taiwan(cores: int) -> Figures:
    """The figures that are compared with others'."""
    found = measure(taiwan(), SETTINGS, cores)
    return {
        "hetero_logistic_seconds": found["seconds"],
        "hetero_logistic_error": found["largest_error"],
        "hetero_logistic_bytes": found["bytes"],
        "hetero_logistic_messages": found["messages"],
        "hetero_logistic": found,
    }


def over_rows(cores: int) -> Figures:
    """How the seconds grow with the people."""
    data = taiwan()
    runs = {f"{people}": measure(data.first(people), SETTINGS, cores) for people in (6_000, 12_000, 24_000)}
    return {"hetero_logistic_rows": {people: run["seconds"] for people, run in runs.items()}}


def over_delay(cores: int) -> Figures:
    """Seconds when every message is 20 or 50 ms on its way."""
    data = taiwan()
    runs = {f"seconds_at_{ms}ms": measure(data, SETTINGS, cores, ms / 1000)["seconds"] for ms in (20, 50)}
    return {f"hetero_logistic_{name}": seconds for name, seconds in runs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, choices=[1, 2], default=2)
    parser.add_argument("--only", choices=["taiwan", "rows", "delay"])
    parser.add_argument("--json", action="store_true", help="one object on one line")
    given = parser.parse_args()
    parts: dict[str, Callable[[int], Figures]] = {"taiwan": on_taiwan, "rows": over_rows, "delay": over_delay}
    figures: Figures = {}
    for name, part in parts.items():
        if given.only in {None, name}:
            figures |= part(given.cores)
    print(json.dumps(figures, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
