"""What is answered when a party, a certificate, a part or the registry is not as it should be."""

import asyncio
import os
import shutil
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from asgi_client import running
from conftest import COMBINER, Site, expected, identifiers, register, result, tables, wait_for
from deltalake import write_deltalake

from ftl import registry
from ftl.consortium import load
from ftl.crypto import pseudonym
from ftl.federation import ports
from ftl.protocols import Combiner
from ftl.serving import gateway_app
from ftl.serving.credentials import gateway_tls, party_certificate, scoring_key, server_name
from ftl.serving.http1 import Peer
from ftl.serving.wire import PATH, Question, Wanted, encode_question


@pytest.fixture
def partner_away(site: Site) -> Iterator[Site]:
    site.stop("partner", signal.SIGKILL)
    yield site
    site.start("partner")


def degraded(site: Site, number: int = 4) -> dict[str, object]:
    said = site.score(identifiers(number))
    assert said.status_code == 200
    body = said.json()
    assert body["degraded"] is True
    assert body["parties"] == {"bank": "known", "partner": "unavailable"}
    assert body["probability_of_default"] == pytest.approx(expected(site, number, partner=False), abs=1e-12)
    return dict(body)


def test_a_partner_that_is_down_gives_the_banks_own_score_and_says_so(partner_away: Site) -> None:
    said = degraded(partner_away)
    assert said["why"] == "partner's score server cannot be reached. Scored by bank alone."


def test_a_partner_that_hangs_gives_the_banks_own_score_within_the_budget(site: Site) -> None:
    os.killpg(site.processes["partner"].pid, signal.SIGSTOP)
    try:
        start = time.perf_counter()
        said = degraded(site)
        assert time.perf_counter() - start < 3
        assert said["why"] == "partner did not answer within 1000 ms. Scored by bank alone."
    finally:
        os.killpg(site.processes["partner"].pid, signal.SIGCONT)
    wait_for(lambda: site.score(identifiers(4)).json()["degraded"] is False, "the partner to be asked again")


def test_without_the_bank_the_answer_is_a_503_that_may_be_retried(site: Site) -> None:
    site.stop("bank", signal.SIGKILL)
    try:
        said = site.score(identifiers(4))
        assert said.status_code == 503
        assert said.json()["code"] == "party_unavailable"
        assert said.headers["retry-after"] == "1"
        assert said.json()["detail"] == "bank's score server cannot be reached."
    finally:
        site.start("bank")
    wait_for(lambda: site.score(identifiers(4)).status_code == 200, "the bank to answer again")


def ask(site: Site, tls: ssl.SSLContext, party: str = "bank", name: str | None = None) -> tuple[int, bytes]:
    peer = Peer(f"https://127.0.0.1:{ports(site.folder)[f'score-{party}']}", tls, name or server_name(party))
    question = Question([Wanted("run-1", "0" * 64, 1)], [pseudonym(scoring_key(site.folder), "nobody")])

    async def once() -> tuple[int, bytes]:
        async with asyncio.timeout(10):
            return await peer.post(PATH, encode_question(question))

    return asyncio.run(once())


def client(site: Site) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(site.folder.coordinator / "keys" / "servers" / "authority.pem")
    return context


def test_a_caller_without_a_certificate_is_refused(site: Site) -> None:
    with pytest.raises(OSError, match=r"(?i)certificate.required|reset|closed"):
        ask(site, client(site))


def test_another_partys_certificate_does_not_open_a_score_server(site: Site) -> None:
    other, _ = party_certificate(site.folder.node("partner"))
    context = client(site)
    context.load_cert_chain(other.certificate, other.key)
    with pytest.raises(OSError, match=r"(?i)unknown.ca|bad.certificate|decrypt|reset|closed"):
        ask(site, context)


def test_a_server_that_is_not_the_party_is_not_asked(site: Site) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"(?i)hostname mismatch"):
        ask(site, gateway_tls(site.folder), name=server_name("partner"))


def test_a_part_with_another_hash_is_refused_without_telling_where_it_lies(site: Site) -> None:
    status, body = ask(site, gateway_tls(site.folder))
    assert status == 200
    assert b"missing or has another hash" in body
    assert str(site.folder.root).encode() not in body


def test_a_corrupted_part_is_not_used_and_the_answer_is_marked(site: Site) -> None:
    done = result(site.folder, "run-spoiled")
    part = site.folder.node("partner").model("run-spoiled") / "part.json"
    part.write_bytes(part.read_bytes().replace(b"1.733", b"0.733"))
    version = register(site.folder, done)
    promote(site, version.version)
    try:
        wait_for(lambda: answering(site) == version.version, "the new champion")
        said = degraded(site)
        assert "missing or has another hash" in str(said["why"])
    finally:
        promote(site, "1")
        wait_for(lambda: answering(site) == "1", "the old champion")


def promote(site: Site, version: str) -> None:
    registry.promote(site.folder, "credit_risk", version, reason="test", approved_by="test")


def answering(site: Site) -> str:
    return str(site.score(identifiers(4)).json()["model"]["version"])


def test_no_request_is_lost_or_mixed_while_the_champion_changes(site: Site) -> None:
    other = Combiner(COMBINER.trees, 0.5, 0.3, COMBINER.parties)
    second = register(site.folder, result(site.folder, "run-2", other))
    answers: list[tuple[int, str, float]] = []
    done = threading.Event()

    def flood() -> None:
        headers = {"authorization": f"Bearer {site.token}"}
        with httpx.Client(headers=headers, timeout=10) as connection:
            while not done.is_set():
                said = connection.post(f"{site.url}/v1/scores", json=identifiers(4))
                body = said.json()
                answers.append((said.status_code, body["model"]["version"], body["probability_of_default"]))

    threads = [threading.Thread(target=flood) for _ in range(2)]
    for thread in threads:
        thread.start()
    for version in (second.version, "1"):
        promote(site, version)
        wait_for(lambda wanted=version: answering(site) == wanted, f"version {version}")  # type: ignore[misc]
    done.set()
    for thread in threads:
        thread.join()
    assert {status for status, _, _ in answers} == {200}
    assert {version for _, version, _ in answers} == {"1", second.version}
    by_version = {version: {p for _, v, p in answers if v == version} for version in ("1", second.version)}
    assert [len(found) for found in by_version.values()] == [1, 1]
    assert by_version["1"].pop() == pytest.approx(expected(site, 4), abs=1e-12)
    assert by_version[second.version].pop() == pytest.approx(expected(site, 4, combiner=other), abs=1e-12)


def test_new_rows_are_answered_from_soon_after_they_are_validated(site: Site) -> None:
    path, (bank, _) = str(site.folder.node("bank").validated("people")), tables()
    number = bank.column_names.index("amount")
    before = site.score(identifiers(4)).json()["probability_of_default"]
    doubled = bank.set_column(number, "amount", [[2 * value for value in bank.column("amount").to_pylist()]])
    write_deltalake(path, doubled, mode="overwrite")
    try:
        wait_for(lambda: site.score(identifiers(4)).json()["probability_of_default"] != before, "the new rows")
    finally:
        write_deltalake(path, bank, mode="overwrite")
    wait_for(lambda: site.score(identifiers(4)).json()["probability_of_default"] == before, "the old rows")
    assert before == pytest.approx(expected(site, 4), abs=1e-12)


def test_a_gateway_started_without_mlflow_answers_with_the_last_good_bundle(site: Site, tmp_path: Path) -> None:
    folder = load(shutil.copytree(site.folder.root, tmp_path / "copy"))
    shutil.rmtree(folder.coordinator / "mlflow")
    (folder.coordinator / "mlflow").touch()  # no store can be made here either

    async def once() -> tuple[int, dict[str, object], str]:
        async with running(gateway_app(folder, poll=0.2)) as call:
            headers = {"authorization": f"Bearer {site.token}"}
            said = await call("POST", "/v1/scores", identifiers(4), headers)
            await asyncio.sleep(0.5)
            models = await call("GET", "/v1/models", None, headers)
            return said.status, said.json(), models.json()["models"][0]["registry"]

    status, body, trouble = asyncio.run(once())
    assert status == 200
    assert body["probability_of_default"] == pytest.approx(expected(site, 4), abs=1e-12)
    assert trouble != "ok"


def test_a_gateway_that_never_saw_a_model_is_not_ready_and_says_why(site: Site, tmp_path: Path) -> None:
    folder = load(shutil.copytree(site.folder.root, tmp_path / "copy"))
    shutil.rmtree(folder.coordinator / "mlflow")
    shutil.rmtree(folder.coordinator / "serving")

    async def once() -> tuple[int, int, dict[str, object]]:
        async with running(gateway_app(folder, poll=60)) as call:
            health, readiness = await call("GET", "/healthz"), await call("GET", "/readyz")
            return health.status, readiness.status, readiness.json()

    health, readiness, body = asyncio.run(once())
    assert (health, readiness) == (200, 503)
    assert str(body["detail"]).startswith("No model is loaded")


def test_nothing_that_is_written_names_an_applicant(site: Site) -> None:
    with httpx.Client(headers={"authorization": f"Bearer {site.token}"}, timeout=10) as connection:
        for number in range(200):
            told = identifiers(number if number % 2 else 500_000 + number)
            connection.post(f"{site.url}/v1/scores", json=told)
            connection.post(f"{site.url}/v1/scores", json={**told, "fields": {"amount": told["phone"]}})
            connection.post(f"{site.url}/v1/scores", content=str(told).encode())
            connection.post(f"{site.url}/{told['id_number']}?phone={told['phone']}")
    written = [
        path
        for path in site.folder.root.rglob("*")
        if path.is_file() and "lake" not in path.relative_to(site.folder.root).parts
    ]
    assert {path.name for path in written} >= {"gateway.log", "bank.log", "partner.log"}
    assert any(path.suffix == ".jsonl" for path in written)
    for path in written:
        content = path.read_bytes()
        for number in range(200):
            for text in identifiers(number if number % 2 else 500_000 + number).values():
                assert text.encode() not in content, f"{path} names {text}"


def test_metering_counts_each_answer_and_hides_the_pseudonym(site: Site) -> None:
    def metered() -> list[bytes]:
        time.sleep(0.5)  # lines are gathered for some milliseconds
        files = (site.folder.coordinator / "serving" / "metering").glob("*.jsonl")
        return [line for path in files for line in path.read_bytes().splitlines()]

    before = len(metered())
    for _ in range(3):
        site.score(identifiers(8))
    site.score(identifiers(999_999))
    lines = metered()
    assert len(lines) == before + 3
    told = identifiers(8)
    known = pseudonym(scoring_key(site.folder), f"{told['id_number']}|{told['phone']}").hex()
    assert len({line[line.index(b"subject") :] for line in lines[-3:]}) == 1
    assert known[:16].encode() not in lines[-1]
