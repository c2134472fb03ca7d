"""The private set intersection: seconds, bytes, messages and memory, each party in a process of its own.

``python -m benchmarks.protocols.psi --people 1000000 --json``, or one part of it, ``--only million``. The peer is
openmined-psi, from the package index into an environment of its own; where that cannot be made, the result says so.
Nothing but the standard library is imported above, so that the same file is the peer's program in its environment.
"""

import argparse
import json
import multiprocessing
import os
import queue
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PEER = "openmined-psi==2.0.6"
CACHE = Path.home() / ".cache" / "ftl-benchmarks" / "openmined-psi"
TIMEOUT = 3600.0

Figures = dict[str, Any]


def million(people: int = 1_000_000) -> Figures:
    """`people` against as many, half of them shared."""
    figures = intersect({"bank": people, "partner": people}, shared=people // 2)
    return {"psi_million_seconds": figures["seconds"], "psi_million": figures}


def unbalanced(small: int = 10_000, large: int = 10_000_000) -> Figures:
    """A short list against a long one, either way round: who is the active party must not matter."""
    return {
        "psi_unbalanced": intersect({"bank": small, "partner": large}, shared=small // 2),
        "psi_unbalanced_turned": intersect({"bank": large, "partner": small}, shared=small // 2),
    }


def growth(people: int = 100_000) -> Figures:
    """How time and bytes grow with people and parties; and what it costs to let nobody learn who is shared."""
    names = ("bank", "partner", "shop", "telecom")
    sizes = {f"{some}": dict.fromkeys(names[:2], some) for some in (people // 4, people // 2, people)}
    parties = {f"{count} parties": dict.fromkeys(names[:count], people // 4) for count in (3, 4)}
    runs = {name: intersect(lists, shared=people // 8) for name, lists in (sizes | parties).items()}
    order = intersect(dict.fromkeys(names[:2], people // 4), shared=people // 8, result="order")
    return {"psi_growth": runs | {"secret order": order}}


def against_openmined(people: int = 100_000) -> Figures:
    """`people` against as many in the same minute, by this and by openmined-psi, both with two processes."""
    peer = openmined(people)
    ours = intersect({"bank": people, "partner": people}, shared=people // 2)
    if "seconds" not in peer:
        return {"psi_vs_openmined": None, "psi_openmined": peer, "psi_same_run": ours}
    ratio = round(peer["seconds"] / ours["seconds"], 2)
    return {"psi_vs_openmined": ratio, "psi_openmined": peer, "psi_same_run": ours}


def intersect(people: dict[str, int], *, shared: int, result: str = "both") -> Figures:
    """Run the alignment between processes over pipes.

    Args:
        people: party to its number of people; the first one is the active party.
        shared: how many of them all have.
        result: the setting.

    Returns:
        seconds from the moment all parties have their lists, seconds of processor, bytes and messages sent and peak
        memory of each process (Python and libraries included), cores, load before.
    """
    context, names, load = multiprocessing.get_context("spawn"), list(people), os.getloadavg()[0]
    ways: dict[str, dict[str, Connection]] = {name: {} for name in names}
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            ways[first][second], ways[second][first] = context.Pipe()
    results: Any = context.Queue()
    ready = context.Barrier(len(names))
    parties = [
        context.Process(
            target=_party,
            args=(name, names[0], People(number, people[name], shared), ways[name], result, ready, results),
        )
        for number, name in enumerate(names)
    ]
    for party in parties:
        party.start()
    found = _collected(results, parties)
    for party in parties:
        party.join()
    figures = {name: found[name] for name in names}
    return {
        "people": people,
        "rows": figures[names[0]].pop("rows"),
        "seconds": max(one["seconds"] for one in figures.values()),
        "bytes": sum(one["bytes"] for one in figures.values()),
        "messages": sum(one["messages"] for one in figures.values()),
        "parties": figures,
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(load, 1),
    }


def _collected(results: Any, parties: list[Any]) -> dict[str, Figures]:
    """What every party measured; a party that failed ends the wait for it."""
    found: dict[str, Figures] = {}
    while len(found) < len(parties):
        try:
            name, figures = results.get(timeout=1.0)
        except queue.Empty:
            if any(party.exitcode for party in parties):
                for party in parties:
                    party.terminate()
                raise ChildProcessError("A party's process failed; what it said stands above.") from None
        else:
            found[name] = figures
    return found


@dataclass(frozen=True)
class People:
    """Identifiers like those of people, of 18 digits, made as they are asked for: the party `number` has `length`."""

    number: int
    length: int
    shared: int

    def __iter__(self) -> Iterator[str]:
        start = (self.number + 1) * 10**12
        for i in range(self.length):
            yield f"{31010419 * 10**9 + i if i < self.shared else start + i:018d}"


def _party(
    name: str,
    active: str,
    people: People,
    ways: dict[str, Connection],
    result: str,
    ready: Any,
    results: Any,
) -> None:
    from ftl.align import AlignmentSettings, align
    from ftl.channel import RecordedChannel, Recording

    recording = Recording()
    channel = RecordedChannel(_PipeChannel(name, ways), recording)
    settings = AlignmentSettings.model_validate({"result": result})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ready.wait(TIMEOUT)
    start, work = time.perf_counter(), time.process_time()
    aligned = align(channel, active, iter(people), timeout=TIMEOUT, settings=settings)
    figures = {
        "seconds": round(time.perf_counter() - start, 3),
        "processor_seconds": round(time.process_time() - work, 3),
        "bytes": recording.bytes_sent[name],
        "messages": recording.sent[name],
        "megabytes_at_start": before // 1024,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "rows": len(aligned.rows),
    }
    results.put((name, figures))


class _PipeChannel:
    """A channel over pipes between processes; a thread for each peer takes what comes."""

    def __init__(self, me: str, ways: dict[str, Connection]) -> None:
        from ftl.channel import Inbox

        self.me, self.peers, self._ways, self._inbox = me, tuple(ways), ways, Inbox(me)
        for peer in ways:
            threading.Thread(target=self._take, args=(peer,), daemon=True).start()

    def send(self, to: str, topic: str, payload: bytes) -> None:
        self._ways[to].send_bytes(topic.encode().ljust(64) + payload)

    def receive(self, sender: str, topic: str, timeout: float) -> bytes:
        return self._inbox.take(sender, topic, timeout)

    def _take(self, peer: str) -> None:
        try:
            while True:
                message = self._ways[peer].recv_bytes()
                self._inbox.put(peer, message[:64].decode().strip(), message[64:])
        except (EOFError, OSError):
            self._inbox.close(peer, "its process has ended")


def openmined(people: int) -> Figures:
    """The peer's figures; if its environment cannot be made, a sentence under ``missing``."""
    python = CACHE / "bin" / "python"
    try:
        if not (CACHE / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", str(CACHE)], check=True, capture_output=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", PEER], check=True, capture_output=True)
            (CACHE / "complete").touch()
    except (subprocess.CalledProcessError, OSError) as exc:
        return {"missing": f"{PEER} could not be installed: {exc}"}
    done = subprocess.run(
        [str(python), __file__, "--peer", str(people)], check=True, capture_output=True, timeout=TIMEOUT
    )
    return {"version": PEER} | json.loads(done.stdout)


def _peer(people: int) -> Figures:
    """Runs in the peer's environment: its client and its server, each in a process, as its README has them."""
    near, far = multiprocessing.Pipe()
    ready = multiprocessing.Barrier(2)
    server = multiprocessing.Process(target=_peer_server, args=(people, far, ready), daemon=True)
    server.start()
    far.close()  # so that a server that ends early ends the wait for its answer
    import private_set_intersection.python as psi

    client = psi.client.CreateWithNewKey(True)
    ids = list(People(0, people, people // 2))
    ready.wait(TIMEOUT)
    start = time.perf_counter()
    request = client.CreateRequest(ids).SerializeToString()
    near.send_bytes(request)
    setup, response = psi.ServerSetup(), psi.Response()
    setup.ParseFromString(near.recv_bytes())
    response.ParseFromString(near.recv_bytes())
    shared = len(client.GetIntersection(setup, response))
    seconds = time.perf_counter() - start
    server.join()
    sizes = len(request) + setup.ByteSize() + response.ByteSize()
    return {"seconds": round(seconds, 3), "shared": shared, "bytes": sizes}


def _peer_server(people: int, way: Connection, ready: Any) -> None:
    import private_set_intersection.python as psi

    server = psi.server.CreateWithNewKey(True)
    ids = list(People(1, people, people // 2))
    ready.wait(TIMEOUT)
    setup = server.CreateSetupMessage(1e-9, people, ids).SerializeToString()
    request = psi.Request()
    request.ParseFromString(
        way.recv_bytes()
    )  # before it sends: two that send at once, more than a pipe holds, stand still
    way.send_bytes(setup)
    way.send_bytes(server.ProcessRequest(request).SerializeToString())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=1_000_000, help="of the large run; the others are scaled with it")
    parser.add_argument("--only", choices=["million", "unbalanced", "growth", "openmined"])
    parser.add_argument("--json", action="store_true", help="one object on one line")
    parser.add_argument("--peer", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peer:
        print(json.dumps(_peer(given.peer)))
        return
    parts: dict[str, Callable[[], Figures]] = {
        "million": lambda: million(given.people),
        "openmined": lambda: against_openmined(given.people // 10),
        "unbalanced": lambda: unbalanced(given.people // 100, given.people * 10),
        "growth": lambda: growth(given.people // 10),
    }
    figures: Figures = {}
    for name, part in parts.items():
        if given.only in {None, name}:
            figures |= part()
    print(json.dumps(figures, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
