"""Load on a server: closed loop by wrk, open loop at a constant rate with latency from the time a request was due."""

import asyncio
import gc
import random
import re
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import uvloop
from numpy.typing import NDArray

SCRIPT = """
local requests = {}
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer %(token)s"
function init()
  math.randomseed(7)
  for line in io.lines("%(bodies)s") do requests[#requests + 1] = wrk.format(nil, "%(path)s", nil, line) end
end
function request() return requests[math.random(#requests)] end
bad = 0
function response(status) if status ~= 200 and status ~= 404 then bad = bad + 1 end end
local threads = {}
function setup(thread) table.insert(threads, thread) end
function done(summary, latency)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.timeout
  for _, thread in ipairs(threads) do failed = failed + thread:get("bad") end
  io.write(string.format("RESULT %%d %%d %%d %%f %%f\\n", summary.requests, summary.duration, failed,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""
CONNECTIONS = 64
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
FINE = {b"200", b"404"}
PATIENCE_SECONDS = 30
"""For the last answers of an open loop; whoever has none by then was lost."""


@dataclass(frozen=True)
class Measured:
    """What a load run saw; times in milliseconds.

    Attributes:
        rate: answers a second.
        p50, p99: latency.
        errors: answers that were neither a score nor "unknown", and requests that were lost.
        late: 99th percentile of how late the generator itself sent, of an open loop; part of the latency.
    """

    rate: float
    p50: float
    p99: float
    errors: int
    late: float = 0.0


def closed(url: str, path: str, token: str, bodies: Sequence[bytes], *, connections: int, seconds: int) -> Measured:
    """As many requests, each about one of `bodies` drawn at random, as the server takes over some connections."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "bodies").write_bytes(b"\n".join(bodies))
        script = Path(place) / "load.lua"
        script.write_text(SCRIPT % {"bodies": Path(place) / "bodies", "token": token, "path": path})
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) ([\d.]+) ([\d.]+)", said)
    assert found, said
    requests, duration, errors, p50, p99 = (float(one) for one in found.groups())
    return Measured(requests / duration * 1e6, p50, p99, int(errors))


Right = Callable[[bytes, bytes], bool]
"""Whether an answer, status and whole message, is one that may be given."""


def fine(status: bytes, _: bytes) -> bool:
    """A score, or somebody unknown."""
    return status in FINE


def opened(
    url: str, path: str, token: str, bodies: Sequence[bytes], *, rate: float, seconds: float, right: Right = fine
) -> Measured:
    """Requests that are due at a constant rate, whether or not the ones before have been answered.

    A request that finds all connections busy waits for one, and that counts: latency runs from when it was due.
    """
    load = Load([_request(path, token, body) for body in bodies], round(rate * seconds), rate, right)
    gc.disable()  # a pause of the generator would be taken for one of the server
    try:
        uvloop.run(load.run(url))
    finally:
        gc.enable()
    done = ~np.isnan(load.took)
    p50, p99 = np.quantile(load.took[done], [0.5, 0.99]) * 1000
    lost = int((~done).sum())
    late = float(np.nanquantile(load.late, 0.99)) * 1000
    return Measured(done.sum() / seconds, float(p50), float(p99), lost + load.wrong, late)


@dataclass
class Load:
    """An open loop over kept connections.

    Attributes:
        requests: to draw from.
        count: how many are sent.
        rate: a second.
        right: whether an answer may be given.
        took: seconds from due to answered, NaN where there is no answer; shape (count,).
        late: seconds from due to when the generator came to it.
        wrong: answers that may not be given.
    """

    requests: list[bytes]
    count: int
    rate: float
    right: Right
    wrong: int = 0
    answered: int = 0
    begin: float = 0.0
    idle: list["Connection"] = field(default_factory=list)
    waiting: deque[int] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.took: NDArray[np.float64] = np.full(self.count, np.nan)
        self.late: NDArray[np.float64] = np.full(self.count, np.nan)
        self.draw = random.Random(7)

    async def run(self, url: str) -> None:
        """Send all of them and wait for the answers."""
        parts, loop = urlsplit(url), asyncio.get_running_loop()
        where = parts.hostname or "", parts.port or 80
        opened = [await loop.create_connection(lambda: Connection(self), *where) for _ in range(CONNECTIONS)]
        self.idle = [connection for _, connection in opened]
        everybody = list(self.idle)
        self.begin = time.perf_counter() + 0.1
        for place in range(self.count):
            while (wait := self.due(place) - time.perf_counter()) > 0:  # noqa: ASYNC110 - nothing but time passes
                await asyncio.sleep(wait)
            self.late[place] = -wait
            self.send(place)
        deadline = time.perf_counter() + PATIENCE_SECONDS
        while self.answered < self.count and time.perf_counter() < deadline:  # noqa: ASYNC110 - too rare to matter
            await asyncio.sleep(0.05)
        for connection in everybody:
            connection.transport.close()

    def due(self, place: int) -> float:
        """When a request should be sent."""
        return self.begin + place / self.rate

    def send(self, place: int) -> None:
        """Over an idle connection, or over the next that becomes one."""
        if self.idle:
            self.idle.pop().ask(place, self.draw.choice(self.requests))
        else:
            self.waiting.append(place)

    def done(self, connection: "Connection", place: int, status: bytes, message: bytes) -> None:
        """An answer has come."""
        self.took[place] = time.perf_counter() - self.due(place)
        self.answered += 1
        self.wrong += not self.right(status, message)
        self.idle.append(connection)
        if self.waiting:
            self.send(self.waiting.popleft())


class Connection(asyncio.Protocol):
    """One kept connection, one request at a time; what is under way when it breaks is lost."""

    def __init__(self, load: Load) -> None:
        self.load, self.place, self.received = load, -1, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Called by the loop."""
        if self in self.load.idle:
            self.load.idle.remove(self)
        if self.place >= 0:
            self.load.answered += 1

    def ask(self, place: int, request: bytes) -> None:
        """Send a request."""
        self.place, self.received = place, b""
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self.received += data
        head = self.received.find(b"\r\n\r\n")
        length = LENGTH.search(self.received, 0, head) if head >= 0 else None
        if length is None or len(self.received) < head + 4 + int(length[1]):
            return
        place, self.place = self.place, -1
        self.load.done(self, place, self.received[9:12], self.received)


def _request(path: str, token: str, body: bytes) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body
