"""A consortium with a trained model to ask: the taiwan scenario, collected, checked, trained and served."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc

from ftl import consortium, registry
from ftl.consortium import Folder
from ftl.errors import FtlError
from ftl.federation import ports
from ftl.quality import read_validated
from ftl.serving import client_token_file, provision_scoring

READY_SECONDS = 240
BUSY = 0.15
"""Share of a core that a server which prepares answers takes at least."""
KNOWN_PER_UNKNOWN = 9
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
    def model(self) -> str:
        """Name of the registered model."""
        return self.folder.consortium.training.model_name

    @property
    def names(self) -> list[str]:
        """Of the identifiers."""
        return list(self.folder.consortium.identifiers)

    @property
    def token(self) -> str:
        """Of the default client."""
        return client_token_file(self.folder).read_text().strip()


def prepare(root: Path) -> Site:
    """The trained scenario with a champion, version 1, and a challenger, version 2; made as far as it is not there."""
    ftl = [sys.executable, "-m", "ftl.cli"]
    if not (root / "consortium.yaml").exists():
        subprocess.run([*ftl, "new", str(root), "--scenario", "taiwan"], check=True, stdout=sys.stderr)
    site = Site(consortium.load(root))
    provision_scoring(site.folder, datetime.now(UTC))
    for seed in range(versions(site), 2):
        subprocess.run([*ftl, "run", str(root), "--in-process", "--seed", str(seed)], check=True, stdout=sys.stderr)
    registry.promote(site.folder, site.model, "1", reason="the benchmark's champion", approved_by="benchmark")
    return site


def versions(site: Site) -> int:
    """How many versions the model has."""
    uri = registry.tracking_uri(site.folder)
    known = (registry.ModelVersion(site.model, str(number)) for number in (1, 2))
    found = 0
    with suppress(FtlError):
        for version in known:
            registry.bundle_of(uri, version)
            found += 1
    return found


def everybody(site: Site) -> list[bytes]:
    """A request for each person of the bank, and for a ninth as many whom nobody knows; all are simulated people.

    Whoever draws from it at random asks about an unknown person one time in ten.
    """
    known = _identifiers(site).to_pylist()
    unknown = [dict.fromkeys(site.names, str(10**16 + number)) for number in range(len(known) // KNOWN_PER_UNKNOWN)]
    return [json.dumps(person).encode() for person in (*known, *unknown)]


def drawn(site: Site, count: int, seed: int = 0) -> pa.Table:
    """Random people of the bank, one in ten of them replaced by somebody unknown."""
    table, draw = _identifiers(site), np.random.default_rng(seed)
    people = table.take(pa.array(draw.integers(0, len(table), count)))
    unknown = pa.array((10**16 + np.arange(count)).astype(str))
    nobody = pa.array(draw.random(count) < 1 / (1 + KNOWN_PER_UNKNOWN))
    columns = [pc.if_else(nobody, unknown, people.column(name)) for name in site.names]
    return pa.table(columns, names=site.names)


def _identifiers(site: Site) -> pa.Table:
    """Everybody's identifiers as text."""
    node = site.folder.node(site.folder.consortium.active)
    table = read_validated(node, node.party.features.table, list(site.names))
    return table.select(site.names).cast(pa.schema([(name, pa.string()) for name in site.names]))


@contextmanager
def served(site: Site) -> Iterator[dict[psutil.Process, str]]:
    """Score servers and gateway, up and with everybody's answers prepared; yields worker processes and their kinds."""
    log = (site.folder.root / "serving.log").open("ab")
    command = [sys.executable, "-m", "ftl.cli", "serve", str(site.folder.root)]
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        _await(site)
        workers = _workers(site, psutil.Process(process.pid))
        _settle(list(workers))
        yield workers
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)
        log.close()


def _workers(site: Site, main: psutil.Process) -> dict[psutil.Process, str]:
    """Processes that answer, by the port that they answer on."""
    kinds = {f":{port} ": name for name, port in ports(site.folder).items()}
    found = {}
    for one in main.children(recursive=True):
        command = " ".join(one.cmdline())
        if "worker" in command:
            found[one] = next((name for port, name in kinds.items() if port in command), "another")
    return found


def _await(site: Site) -> None:
    """Until somebody is scored by all parties."""
    deadline, person = time.monotonic() + READY_SECONDS, everybody(site)[0]
    headers = {"authorization": f"Bearer {site.token}"}
    while time.monotonic() < deadline:
        try:
            said = httpx.post(f"{site.url}/v1/scores", content=person, headers=headers, timeout=5)
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
