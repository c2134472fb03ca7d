"""Load on a server: closed loop by wrk, open loop at a constant rate with latency from the time a request was due."""

import asyncio
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

SCRIPT = """
local bodies = {}
for line in io.lines("%(bodies)s") do bodies[#bodies + 1] = line end
local i = 0
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer %(token)s"
function request() i = i %% #bodies + 1; return wrk.format(nil, "%(path)s", nil, bodies[i]) end
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


@dataclass(frozen=True)
class Measured:
    """What a load run saw; times in milliseconds."""

    rate: float
    p50: float
    p99: float
    errors: int


def closed(url: str, path: str, token: str, bodies: bytes, *, connections: int, seconds: int) -> Measured:
    """As many requests as the server takes over some connections."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "bodies").write_bytes(bodies)
        script = Path(place) / "load.lua"
        script.write_text(SCRIPT % {"bodies": Path(place) / "bodies", "token": token, "path": path})
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) ([\d.]+) ([\d.]+)", said)
    assert found, said
    requests, duration, errors, p50, p99 = (float(one) for one in found.groups())
    return Measured(requests / duration * 1e6, p50, p99, int(errors))


def opened(url: str, path: str, token: str, people: list[bytes], *, rate: float, seconds: float) -> Measured:
    """Requests that are due at a constant rate, whether or not the ones before have been answered."""
    return asyncio.run(_opened(url, path, token, people, rate, seconds))


async def _opened(url: str, path: str, token: str, people: list[bytes], rate: float, seconds: float) -> Measured:
    parts, count = urlsplit(url), int(rate * seconds)
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    took, refused = np.full(count, np.nan), 0

    async def one(number: int, due: float) -> None:
        nonlocal refused
        try:
            reader, writer = free.pop() if free else await asyncio.open_connection(parts.hostname, parts.port)
            body = people[number % len(people)]
            writer.write(_head(path, token, len(body)) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1]))  # type: ignore[index]
            free.append((reader, writer))
            refused += head[9:12] not in {b"200", b"404"}
            took[number] = time.perf_counter() - due
        except (OSError, asyncio.IncompleteReadError):
            return

    start, tasks = time.perf_counter() + 0.1, []
    for number in range(count):
        due = start + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(number, due)))
    await asyncio.wait(tasks, timeout=30)
    done = took[~np.isnan(took)] * 1000
    for _, writer in free:
        writer.close()
    lost = count - len(done)  # those that broke are among them
    p50, p99 = np.quantile(done, [0.5, 0.99])
    return Measured(len(done) / seconds, float(p50), float(p99), lost + refused)


def _head(path: str, token: str, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    ).encode()
