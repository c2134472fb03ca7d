"""Faults while requests come in: every request is answered, and every answer is the right one for its moment."""

import asyncio
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest
from conftest import COMBINER, PLUGIN, Site, expected, identifiers, listens, register, result, wait_for

from ftl import registry
from ftl.crypto import issue
from ftl.federation import ports
from ftl.protocols import Combiner
from ftl.serving.clients import add_client, remove_client
from ftl.serving.credentials import gateway_tls, server_name
from ftl.serving.http1 import Peer

THREADS = 3
OTHER = Combiner(COMBINER.trees, 0.5, 0.3, COMBINER.parties)


@dataclass
class Gateway:
    """Two processes behind one port."""

    site: Site
    main: psutil.Process
    url: str

    @property
    def workers(self) -> list[psutil.Process]:
        found = []
        for one in self.main.children(recursive=True):
            with suppress(psutil.Error):  # it has just ended
                found += [one] if "worker" in " ".join(one.cmdline()) else []
        return found

    def ready(self, count: int = 2) -> bool:
        """Whether so many processes have answered lately."""
        try:
            return len({self.ask(4)["trace_id"][:8] for _ in range(10)}) == count
        except (httpx.HTTPError, KeyError):
            return False

    def ask(self, number: int, **headers: str) -> dict[str, str]:
        bearer = {"authorization": f"Bearer {self.site.token}", **headers}
        return dict(httpx.post(f"{self.url}/v1/scores", json=identifiers(number), headers=bearer, timeout=10).json())


@pytest.fixture(scope="module")
def gateway(site: Site) -> Iterator[Gateway]:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "ftl.serving.gateway", str(site.folder.root), "--port", str(port)]
    options = ["--processes", "2", "--budget", "1.0", "--poll", "0.2"]
    with (site.folder.root / "gateway2.log").open("ab") as log:
        environment = {**os.environ, "PYTHONPATH": str(PLUGIN)}
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log, env=environment)
    made = Gateway(site, psutil.Process(process.pid), f"http://127.0.0.1:{port}")
    try:
        wait_for(lambda: listens(port), "the gateway to listen")
        wait_for(made.ready, "both processes to answer")
        yield made
    finally:
        process.terminate()
        process.wait(20)


@dataclass
class Seen:
    """What callers saw; a request whose connection broke was sent again."""

    answers: list[tuple[int, dict[str, object]]] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    broken: int = 0

    def versions(self) -> set[str]:
        return {str(body["model"]["version"]) for _, body in self.answers}  # type: ignore[index]


@contextmanager
def flood(gateway: Gateway) -> Iterator[Seen]:
    """Callers who ask about random people one after the other, over kept connections."""
    seen, done = Seen(), threading.Event()

    def call(number: int) -> None:
        headers = {"authorization": f"Bearer {gateway.site.token}"}
        with httpx.Client(base_url=gateway.url, headers=headers, timeout=10) as connection:
            while not done.is_set():
                number = (number * 7 + 3) % 200
                try:
                    said = connection.post("/v1/scores", json=identifiers(number))
                except httpx.TransportError:
                    seen.broken += 1
                    continue
                if said.status_code == 200:
                    seen.answers.append((number, said.json()))
                else:
                    seen.refused[said.status_code] += 1

    callers = [threading.Thread(target=call, args=(number,)) for number in range(THREADS)]
    for caller in callers:
        caller.start()
    try:
        yield seen
    finally:
        done.set()
        for caller in callers:
            caller.join()


def wrong(site: Site, seen: Seen, combiners: dict[str, Combiner] | None = None) -> list[object]:
    """Answers that are neither the model's nor, where they say so, the bank's own."""
    found: list[object] = []
    for number, body in seen.answers:
        version = body["model"]["version"]  # type: ignore[index]
        combiner = (combiners or {}).get(version, COMBINER)
        right = expected(site, number, partner=not body["degraded"], combiner=combiner)
        if body["probability_of_default"] != pytest.approx(right, abs=1e-12) or body["degraded"] != bool(body["why"]):
            found.append(body)
    return found


def test_a_gateway_process_that_is_killed_is_replaced_while_the_other_answers(gateway: Gateway) -> None:
    before = {worker.pid for worker in gateway.workers}
    assert len(before) == 2
    with flood(gateway) as seen:
        time.sleep(0.5)
        os.kill(min(before), signal.SIGKILL)
        wait_for(lambda: len({worker.pid for worker in gateway.workers} - before) == 1, "another process")
        wait_for(gateway.ready, "both processes to answer")
    assert not seen.refused
    assert seen.broken <= THREADS  # the connections that the dead process held
    assert len(seen.answers) > 100
    assert wrong(gateway.site, seen) == []


def test_a_partner_that_is_killed_restarted_and_frozen_under_load_costs_no_request(gateway: Gateway) -> None:
    site = gateway.site
    with flood(gateway) as seen:
        time.sleep(0.3)
        site.stop("partner", signal.SIGKILL)
        wait_for(lambda: any(body["degraded"] for _, body in seen.answers), "a degraded answer")
        site.start("partner")
        wait_for(lambda: not seen.answers[-1][1]["degraded"], "the partner to be asked again")
        os.killpg(site.processes["partner"].pid, signal.SIGSTOP)
        late = "partner did not answer within 1000 ms."
        wait_for(lambda: any(str(body["why"]).startswith(late) for _, body in seen.answers), "an answer without it")
        os.killpg(site.processes["partner"].pid, signal.SIGCONT)
        wait_for(lambda: not seen.answers[-1][1]["degraded"], "the partner to go on")
    assert (seen.broken, dict(seen.refused)) == (0, {})
    assert wrong(site, seen) == []
    reasons = {str(body["why"]).split(" Scored")[0] for _, body in seen.answers if body["degraded"]}
    assert reasons >= {"partner's score server cannot be reached.", late}


def test_twenty_changes_of_champion_under_load_lose_no_request_and_mix_no_versions(gateway: Gateway) -> None:
    site = gateway.site
    second = register(site.folder, result(site.folder, "run-2-load", OTHER)).version
    with flood(gateway) as seen:
        for number in range(20):
            version = (second, "1")[number % 2]
            registry.promote(site.folder, "credit_risk", version, reason="test", approved_by="test")
            place = len(seen.answers)
            wait_for(
                lambda v=version, p=place: {b["model"]["version"] for _, b in seen.answers[p:][-5:]} == {v},  # type: ignore[misc,index]
                f"version {version}",
            )
    assert (seen.broken, dict(seen.refused)) == (0, {})
    assert seen.versions() == {"1", second}
    assert wrong(site, seen, {second: OTHER}) == []


def test_one_client_has_one_rate_and_one_use_of_a_key_over_both_processes(gateway: Gateway) -> None:
    secret = add_client(gateway.site.folder, "two-process", ("scores",), per_day=10)
    form, token = {"grant_type": "client_credentials"}, ""
    time.sleep(1.1)  # until both processes look at the file again
    token = httpx.post(f"{gateway.url}/oauth/token", data=form, auth=("two-process", secret)).json()["access_token"]
    once = Counter(gateway.ask(5, **{"idempotency-key": "both"}).get("code", "answered") for _ in range(12))
    assert once == {"answered": 1, "replayed": 11}
    bearer = f"Bearer {token}"
    said = Counter(gateway.ask(5, authorization=bearer).get("code", "answered") for _ in range(14))
    remove_client(gateway.site.folder, "two-process")
    assert said == {"answered": 10, "too_many_requests": 4}


def test_every_answer_is_metered_once_and_counted_once_over_both_processes(gateway: Gateway) -> None:
    folder = gateway.site.folder.coordinator / "serving" / "metering"

    def lines() -> int:
        return sum(path.read_bytes().count(b"\n") for path in folder.glob("*.jsonl"))

    def counted() -> float:
        time.sleep(1.2)  # figures of the other process are at most a second old
        text = httpx.get(f"{gateway.url}/metrics").text
        return float(re.search(r'path="/v1/scores",status="200"} (\S+)', text)[1])  # type: ignore[index]

    before, figure = lines(), counted()
    with flood(gateway) as seen:
        time.sleep(0.5)
    assert counted() - figure == len(seen.answers) > 20
    assert lines() - before == len(seen.answers)


def test_applicants_are_gone_from_the_memory_of_all_processes_once_others_have_been_answered(gateway: Gateway) -> None:
    site = gateway.site
    marked, pattern = [f"ZQXJV{number:05d}" for number in range(1200)], re.compile(rb"ZQXJV\d{5}")
    headers = {"authorization": f"Bearer {site.token}"}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=10) as connection:
        for text in marked:
            body = {"id_number": text, "phone": f"09{text[5:]}"}
            assert connection.post("/v1/scores", json=body).status_code == 404
            connection.post("/v1/decisions", json={**body, "application": {"amount": 5.0, "term": 12}})

    def left() -> int:
        """In the process that holds most of them: in memory that is free and not yet written over."""
        texts = [
            {text for part in memory(worker.pid) if b"ZQXJV" in part for text in pattern.findall(part)}
            for worker in gateway.workers
        ]
        return max(map(len, texts))

    with flood(gateway):
        wait_for(lambda: left() <= len(marked) // 20, "other requests to write over what was freed")
    parties = [one for name in ("bank", "partner") for one in psutil.Process(site.processes[name].pid).children(True)]
    for process in (one for one in parties if "worker" in " ".join(one.cmdline())):
        assert not any(b"ZQXJV" in part and pattern.search(part) for part in memory(process.pid))


def memory(pid: int) -> Iterator[bytes]:
    """Everything that a process may write to: what a core dump would hold."""
    regions = re.findall(r"^(\w+)-(\w+) rw.. \S+ \S+ \d+ *(\S*)$", Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE)
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for first, last, _ in (region for region in regions if not region[2].startswith("[v")):
            file.seek(int(first, 16))
            try:
                yield file.read(int(last, 16) - int(first, 16))
            except OSError:
                continue


def test_thousands_of_silent_connections_keep_nobody_waiting(gateway: Gateway) -> None:
    most = min(10_000, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500) // 2)
    address = httpx.URL(gateway.url)
    with ExitStack() as stack:
        for _ in range(most):
            stack.enter_context(socket.create_connection((address.host, address.port or 80), timeout=10))
        with flood(gateway) as seen:
            until = time.monotonic() + 30
            while len(seen.answers) <= 20 and time.monotonic() < until:
                time.sleep(0.1)
    assert most > 1000
    assert (seen.broken, dict(seen.refused)) == (0, {})
    assert len(seen.answers) > 20
    assert wrong(gateway.site, seen) == []


LONG_AGO = datetime.now(UTC) - timedelta(days=4000)


def test_a_score_server_whose_certificate_has_expired_is_not_asked(site: Site, tmp_path: Path) -> None:
    servers = site.folder.coordinator / "keys" / "servers"
    old = issue(servers, tmp_path, "bank", [server_name("bank")], now=LONG_AGO)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(old.certificate, old.key)

    async def ask() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        async with server:
            await Peer(f"https://127.0.0.1:{port}", gateway_tls(site.folder), server_name("bank")).post("/", b"")

    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        asyncio.run(ask())


def test_a_gateway_whose_certificate_has_expired_is_not_answered(site: Site, tmp_path: Path) -> None:
    keys = site.folder.coordinator / "keys"
    old = issue(keys / "gateways", tmp_path, "gateway", ["gateway"], now=LONG_AGO)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(keys / "servers" / "authority.pem")
    context.load_cert_chain(old.certificate, old.key)
    url = f"https://127.0.0.1:{ports(site.folder)['score-bank']}"

    async def ask() -> None:
        await Peer(url, context, server_name("bank")).post("/v1/sub-scores", b"")

    with pytest.raises(OSError, match=r"(?i)expired|reset|closed"):
        asyncio.run(ask())
