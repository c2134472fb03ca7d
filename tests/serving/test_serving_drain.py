"""A gateway that is told to stop answers those whom it has already heard."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import httpx
import pytest
from conftest import PLUGIN, Site, expected, identifiers, listens, wait_for

CALLERS = 24


@dataclass
class Leaving:
    """One gateway process with a patient budget, that a test stops."""

    site: Site
    process: subprocess.Popen[bytes]
    port: int

    def post(self, number: int) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.site.token}"}
        return httpx.post(
            f"http://127.0.0.1:{self.port}/v1/scores", json=identifiers(number), headers=headers, timeout=90
        )

    def answers(self) -> bool:
        try:
            said = self.post(4)
        except httpx.HTTPError:
            return False
        return said.status_code == 200 and not said.json()["degraded"]

    def under_way(self) -> int:
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=30).text
        found = re.search(r"^ftl_requests_under_way (\S+)$", text, re.MULTILINE)
        assert found is not None
        return int(float(found[1]))

    def metered(self) -> int:
        folder = self.site.folder.coordinator / "serving" / "metering"
        return sum(path.read_bytes().count(b"\n") for path in folder.glob("*.jsonl"))


@pytest.fixture
def leaving(site: Site) -> Iterator[Leaving]:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "ftl.serving.gateway", str(site.folder.root), "--port", str(port)]
    with (site.folder.root / "leaving.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--processes", "1", "--budget", "60"],
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(PLUGIN)},
        )
    made = Leaving(site, process, port)
    try:
        wait_for(lambda: listens(port), "the gateway to listen")
        wait_for(made.answers, "all parties to answer")
        yield made
    finally:
        process.kill()
        process.wait(20)


def test_who_waits_for_a_party_when_the_gateway_is_told_to_stop_gets_the_whole_answer_and_is_metered(
    leaving: Leaving,
) -> None:
    partner = leaving.site.processes["partner"].pid
    before = leaving.metered()
    with ThreadPoolExecutor(CALLERS) as callers:
        os.killpg(partner, signal.SIGSTOP)
        try:
            asked = [callers.submit(leaving.post, number) for number in range(CALLERS)]
            wait_for(lambda: leaving.under_way() == CALLERS, "all callers to be heard")
            leaving.process.terminate()
            wait_for(lambda: not listens(leaving.port), "nobody new to be heard")
        finally:
            os.killpg(partner, signal.SIGCONT)
        answers = [one.result(90) for one in asked]
    assert [answer.status_code for answer in answers] == [200] * CALLERS
    for number, answer in enumerate(answers):
        said = answer.json()
        assert said["degraded"] is False
        assert said["probability_of_default"] == pytest.approx(expected(leaving.site, number), abs=1e-12)
    assert leaving.process.wait(60) == 0
    assert leaving.metered() - before >= CALLERS
