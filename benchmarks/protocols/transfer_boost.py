"""`transfer_boost` on the scenario `taiwan`: seconds, bytes and messages, and how they grow.

``python -m benchmarks.protocols.transfer_boost --json``; one part: ``--only shared`` and so on. Each party is a process
of its own, joined by pipes. Bank and partner have the scenario's own columns, the derived ones included, and 24,000
people each to train, of whom 1,000 are shared. Seconds are those of the whole program at the bank, from the moment its
own model stands to the scored holdout; fitting that model, which it would do without any partner, is told by itself.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ftl.channel import Channel, Inbox, RecordedChannel, Recording
from ftl.collect import collect
from ftl.consortium import Folder, load, new
from ftl.features import Frame, build
from ftl.protocols import Step, Task
from ftl.protocols.transfer_boost import RECIPE
from ftl.quality import check

SHARED = 1000
TIMEOUT = 3600.0
QUICK = {"rounds": 2, "opinion_rounds": 1, "alone_rounds": 1}
"""Settings of a short run, to see that everything works."""

Figures = dict[str, Any]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Data:
    """Frames of all parties, the bank's first, and per party its rows of the shared people in one order.

    Attributes:
        frames: party to its frame.
        train: party to its rows of the shared training people.
        test: party to its rows of the holdout people.
    """

    frames: dict[str, Frame]
    train: dict[str, Rows]
    test: dict[str, Rows]

    def first(self, people: int) -> "Data":
        """The same with fewer shared people to train on."""
        return replace(self, train={party: rows[:people] for party, rows in self.train.items()})

    def lean(self) -> "Data":
        """The same without the bank's other people, so that its own model is fitted in a moment."""
        bank, kept = self.frames["bank"], np.sort(np.r_[self.train["bank"], self.test["bank"]])
        arrays = {name: getattr(bank, name)[kept] for name in ("values", "label", "holdout")}
        frame = replace(bank, ids=tuple(bank.ids[row] for row in kept), **arrays)
        train, test = ({**rows, "bank": np.searchsorted(kept, rows["bank"])} for rows in (self.train, self.test))
        return Data(self.frames | {"bank": frame}, train, test)

    def wider(self, times: int) -> "Data":
        """The same with every column of the partner several times; the copies are shuffled and tell nothing."""
        frame, random = self.frames["partner"], np.random.default_rng(0)
        blocks = [frame.values, *(frame.values[random.permutation(len(frame.ids))] for _ in range(times - 1))]
        columns = tuple(f"{column}_{number}" for number in range(times) for column in frame.columns)
        categories = {name: frame.categories[name[: name.rindex("_")]] for name in columns if _coded(frame, name)}
        wide = replace(frame, columns=columns, values=np.hstack(blocks), categories=categories)
        return replace(self, frames=self.frames | {"partner": wide})

    def split(self, partners: int) -> "Data":
        """The same with the partner's columns dealt out to several parties."""
        frame, names = self.frames["partner"], [f"partner{number}" for number in range(partners)]
        dealt = {
            name: _columns(frame, name, range(number, len(frame.columns), partners))
            for number, name in enumerate(names)
        }
        return Data(
            {"bank": self.frames["bank"], **dealt},
            {"bank": self.train["bank"]} | dict.fromkeys(names, self.train["partner"]),
            {"bank": self.test["bank"]} | dict.fromkeys(names, self.test["partner"]),
        )


def taiwan(shared: int) -> Data:
    """The scenario's frames, after sync and quality gate; people are matched in the clear, outside of any timing."""
    with tempfile.TemporaryDirectory() as directory:
        folder = prepare(Path(directory) / "taiwan", shared)
        frames = {party: build(folder.node(party), 0)[0] for party in folder.consortium.parties}
    _, own, theirs = np.intersect1d(frames["bank"].ids, frames["partner"].ids, return_indices=True)
    held = frames["bank"].holdout[own]
    rows = {"bank": own, "partner": theirs}
    return Data(
        frames,
        {party: some[~held] for party, some in rows.items()},
        {party: some[held] for party, some in rows.items()},
    )


def prepare(root: Path, shared: int) -> Folder:
    """Write the scenario and bring both tables into the parties' lakes."""
    new(root, "taiwan", {"shared": str(shared)}, 0)
    folder = load(root)
    for name, party in folder.consortium.parties.items():
        for table in party.tables:
            collect(folder.node(name), table, "full", _now)
            check(folder.node(name), table, _now)
    return folder


def measure(data: Data, settings: Mapping[str, Any], delay: float = 0.0) -> Figures:
    """Train with each party in a process of its own.

    Args:
        data: of all parties.
        settings: of the recipe.
        delay: seconds that every message is on its way.
    """
    context, load_before = multiprocessing.get_context("spawn"), os.getloadavg()[0]
    names = list(data.frames)
    ways: dict[str, dict[str, Connection]] = {name: {} for name in names}
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            ways[first][second], ways[second][first] = context.Pipe()
    results: Any = context.Queue()
    ready = context.Barrier(len(names))
    jobs = [
        context.Process(
            target=_party,
            args=(
                data.frames[name],
                data.train[name],
                data.test[name],
                ways[name],
                dict(settings),
                delay,
                ready,
                results,
            ),
        )
        for name in names
    ]
    for job in jobs:
        job.start()
    found = dict(results.get(timeout=TIMEOUT) for _ in jobs)
    for job in jobs:
        job.join()
    bank = found["bank"]
    label = data.frames["bank"].label[data.test["bank"]]
    return {
        "seconds": bank["seconds"],
        "own_model_seconds": bank["own_model_seconds"],
        "auc": round(float(roc_auc_score(label, bank["answers"])), 4),
        "bank_only_auc": round(float(roc_auc_score(label, bank["baseline"])), 4),
        "trees": bank["trees"],
        "bytes": sum(one["bytes"] for one in found.values()),
        "messages": sum(one["messages"] for one in found.values()),
        "processor_seconds": {name: round(one["processor"], 2) for name, one in found.items()},
        "shared": len(data.train["bank"]),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(load_before, 1),
    }


class _PipeChannel:
    """A channel over pipes between processes; a thread for each peer takes what comes."""

    def __init__(self, me: str, ways: Mapping[str, Connection]) -> None:
        self.me, self.peers, self._ways, self._inbox = me, tuple(ways), ways, Inbox(me)
        for peer in ways:
            threading.Thread(target=self._take, args=(peer,), daemon=True).start()

    def send(self, to: str, topic: str, payload: bytes) -> None:
        self._ways[to].send_bytes(topic.encode().ljust(96) + payload)

    def receive(self, sender: str, topic: str, timeout: float) -> bytes:
        return self._inbox.take(sender, topic, timeout)

    def _take(self, peer: str) -> None:
        try:
            while True:
                message = self._ways[peer].recv_bytes()
                self._inbox.put(peer, message[:96].decode().strip(), message[96:])
        except (EOFError, OSError):
            self._inbox.close(peer, "its process has ended")


class DelayedChannel:
    """Works around any channel between processes of one machine: what is sent can be received `delay` seconds later.

    The sender does not wait; the moment of sending travels in front of the message, and all processes of a machine
    share the clock it is read from.
    """

    def __init__(self, channel: Channel, delay: float) -> None:
        self.inner, self.delay = channel, delay
        self.me, self.peers = channel.me, channel.peers

    def send(self, to: str, topic: str, payload: bytes) -> None:
        """Send with the moment of sending."""
        self.inner.send(to, topic, np.float64(time.monotonic()).tobytes() + payload)

    def receive(self, sender: str, topic: str, timeout: float) -> bytes:
        """Wait for a message, and until it is due."""
        message = self.inner.receive(sender, topic, timeout)
        due = float(np.frombuffer(message[:8])[0]) + self.delay
        time.sleep(max(due - time.monotonic(), 0.0))
        return message[8:]


def _party(
    frame: Frame,
    train: Rows,
    test: Rows,
    ways: Mapping[str, Connection],
    settings: Mapping[str, Any],
    delay: float,
    ready: Any,
    results: Any,
) -> None:
    recording = Recording()
    channel = RecordedChannel(DelayedChannel(_PipeChannel(frame.party, ways), delay), recording)
    ready.wait(TIMEOUT)
    start = based = time.perf_counter()

    def report(step: Step) -> None:
        nonlocal based
        if step.phase == "base":
            based = time.perf_counter()

    task = Task(frame, train, test, "bank", channel, 0, TIMEOUT, report)
    work = time.process_time()
    outcome = RECIPE.run(task, RECIPE.settings(settings))
    figures = {
        "seconds": round(time.perf_counter() - based, 3),
        "own_model_seconds": round(based - start, 3),
        "processor": time.process_time() - work,
        "bytes": recording.bytes_sent[frame.party],
        "messages": recording.sent[frame.party],
        "answers": outcome.probability,
        "baseline": outcome.baseline,
        "trees": len(outcome.combiner.trees) if outcome.combiner else 0,
    }
    results.put((frame.party, figures))


def _columns(frame: Frame, party: str, chosen: range) -> Frame:
    columns = tuple(frame.columns[place] for place in chosen)
    categories = {name: texts for name, texts in frame.categories.items() if name in columns}
    return replace(frame, party=party, columns=columns, values=frame.values[:, list(chosen)], categories=categories)


def _coded(frame: Frame, copy: str) -> bool:
    return copy[: copy.rindex("_")] in frame.categories


def _now() -> datetime:
    return datetime.now(UTC)


def on_shared(data: Data, settings: Mapping[str, Any]) -> Figures:
    """The headline."""
    run = measure(data, settings)
    return {"transfer_boost_1000_shared_seconds": run["seconds"], "transfer_boost": run}


def over_delay(data: Data, settings: Mapping[str, Any]) -> Figures:
    """When every message is 20 or 50 ms on its way."""
    return {f"seconds_at_{ms}ms": measure(data, settings, ms / 1000)["seconds"] for ms in (20, 50)}


def over_sizes(data: Data, settings: Mapping[str, Any]) -> Figures:
    """How it grows with shared people, with the partner's columns and with parties."""
    people, columns = len(data.train["bank"]), len(data.frames["partner"].columns)
    rows = {f"{some} people": data.first(some) for some in (people // 4, people // 2, people)}
    wide = {f"{times * columns} columns": data.wider(times) for times in (2, 4)}
    parties = {f"{count + 1} parties": data.split(count) for count in (2, 3)}
    runs = {name: measure(some, settings) for name, some in (rows | wide | parties).items()}
    kept = ("seconds", "bytes", "messages")
    return {"transfer_boost_growth": {name: {key: run[key] for key in kept} for name, run in runs.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=["shared", "delay", "sizes"], default=["shared", "delay", "sizes"])
    parser.add_argument("--small", action="store_true", help="few people and rounds, to see that it works")
    parser.add_argument("--json", action="store_true", help="one object on one line")
    given = parser.parse_args()
    data = taiwan(SHARED)
    data, settings = (data.lean(), QUICK) if given.small else (data, {})
    parts: dict[str, Callable[[Data, Mapping[str, Any]], Figures]] = {
        "shared": on_shared,
        "delay": over_delay,
        "sizes": over_sizes,
    }
    figures: Figures = {}
    for name, part in parts.items():
        if name in given.only:
            figures |= part(data, settings)
    print(json.dumps(figures, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
