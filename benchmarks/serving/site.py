"""A consortium with a trained model to ask: the taiwan scenario, collected, checked, trained and served."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from ftl import consortium
from ftl.consortium import Folder
from ftl.federation import ports
from ftl.quality import read_validated
from ftl.serving import client_token_file

READY_SECONDS = 240
BUSY = 0.15
"""Share of a core that a server which prepares answers takes at least."""
UNKNOWN_EVERY = 10
"""One in ten applicants is known to nobody."""


@dataclass(frozen=True)
class Site:
    """A served consortium."""

    folder: Folder

    @property
    def url(self) -> str:
        """Of the gateway."""
        return f"http://127.0.0.1:{ports(self.folder)['gateway']}"

    @property
    def token(self) -> str:
        """Of the default client."""
        return client_token_file(self.folder).read_text().strip()


def prepare(root: Path) -> Site:
    """The trained scenario; made when it is not there."""
    ftl = [sys.executable, "-m", "ftl.cli"]
    if not (root / "consortium.yaml").exists():
        subprocess.run([*ftl, "new", str(root), "--scenario", "taiwan"], check=True)
    if not list(root.glob("var/nodes/bank/models/*")):
        for number in range(2):  # a champion and a challenger
            subprocess.run([*ftl, "run", str(root), "--in-process", "--seed", str(number)], check=True)
    return Site(consortium.load(root))


def applicants(site: Site, count: int, seed: int = 0) -> list[dict[str, str]]:
    """Random people of the bank, one in ten of them unknown; all identifiers are simulated."""
    node = site.folder.node(site.folder.consortium.active)
    names = site.folder.consortium.identifiers
    table = read_validated(node, node.party.features.table, list(names))
    everybody = list(zip(*(table.column(name).to_pylist() for name in names), strict=True))
    draw = random.Random(seed)
    people = [dict(zip(names, map(str, draw.choice(everybody)), strict=True)) for _ in range(count)]
    for number in range(0, count, UNKNOWN_EVERY):
        people[number] = {name: str(10**16 + number) for name in names}
    return people


@contextmanager
def served(site: Site) -> Iterator[list[psutil.Process]]:
    """Score servers and gateway, up and with everybody's answers prepared; yields their worker processes."""
    log = (site.folder.root / "serving.log").open("ab")
    command = [sys.executable, "-m", "ftl.cli", "serve", str(site.folder.root)]
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        _await(site)
        everybody = psutil.Process(process.pid).children(recursive=True)
        workers = [one for one in everybody if "worker" in " ".join(one.cmdline())]
        _settle(workers)
        yield workers
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)


def _await(site: Site) -> None:
    """Until somebody is scored by all parties."""
    deadline, person = time.monotonic() + READY_SECONDS, applicants(site, 2)[1]
    headers = {"authorization": f"Bearer {site.token}"}
    while time.monotonic() < deadline:
        try:
            said = httpx.post(f"{site.url}/v1/scores", json=person, headers=headers, timeout=5)
            if said.status_code == 200 and not said.json()["degraded"]:
                break
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    else:
        raise TimeoutError(f"{site.url} did not score within {READY_SECONDS} s; see {site.folder.root}/serving.log")


def _settle(workers: list[psutil.Process]) -> None:
    """Until the servers have little to do by themselves: the parties have prepared all answers by then."""
    deadline, quiet = time.monotonic() + READY_SECONDS, 0
    while quiet < 2 and time.monotonic() < deadline:
        before = [sum(one.cpu_times()[:2]) for one in workers]
        time.sleep(1)
        busy = max(sum(one.cpu_times()[:2]) - used for one, used in zip(workers, before, strict=True))
        quiet = quiet + 1 if busy < BUSY else 0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def bodies(people: list[dict[str, str]]) -> bytes:
    """One JSON object a line."""
    return "\n".join(json.dumps(person) for person in people).encode()
