"""The Python client against the running gateway, and against one that only refuses."""

import csv
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import Site, consortium_text, expected, identifiers, wait_for

from ftl.client import Client
from ftl.collect import collect
from ftl.consortium import Folder, load
from ftl.errors import (
    ApplicantUnknown,
    InvalidRequest,
    NotAllowed,
    NotAuthorised,
    PartyUnavailable,
    Replayed,
    ScoringError,
    TooManyRequests,
)
from ftl.quality import check
from ftl.serving import tell_outcomes
from ftl.serving.clients import add_client, remove_client

NOW = datetime(2026, 3, 1, tzinfo=UTC)
Names = tuple[str, ...]


def registered(site: Site, name: str, scopes: Names = ("scores", "outcomes"), per_day: int = 0) -> Client:
    """A client that the gateway has taken up."""
    made = Client(site.url, name, add_client(site.folder, name, scopes, per_day=per_day), sleep=lambda _: None)

    def admitted() -> bool:
        try:
            return bool(made._bearer())
        except NotAuthorised:
            return False

    wait_for(admitted, "the gateway to know the client")
    return made


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[Client]:
    with registered(site, "python-lender") as made:
        yield made
    remove_client(site.folder, "python-lender")


def test_a_score_comes_with_its_reasons_and_fields_stand_in_for_what_is_stored(site: Site, client: Client) -> None:
    assert client.score(identifiers(4))["probability_of_default"] == pytest.approx(expected(site, 4))
    answer = client.score(identifiers(4), {"amount": 1900.0})
    assert answer["probability_of_default"] == pytest.approx(expected(site, 4, amount=1900.0))
    assert {reason["code"] for reason in answer["reasons"]} <= {"B1", "B2", "P1"}


def test_a_batch_keeps_its_order_and_says_who_is_unknown(site: Site, client: Client) -> None:
    first, stranger, second = client.score_batch([identifiers(4), identifiers(9_999), identifiers(250)])
    assert first["scored"]["probability_of_default"] == pytest.approx(expected(site, 4))
    assert stranger["refused"]["code"] == "applicant_unknown"
    assert second["scored"]["parties"]["partner"] == "unknown"


def test_outcomes_are_counted(client: Client) -> None:
    told: list[dict[str, str | None]] = [{**identifiers(4), "outcome": "bad"}, {**identifiers(5), "outcome": None}]
    assert client.tell(told) == 2


def collected(root: Path, bad: dict[int, int | str]) -> Folder:
    """The lender's folder, with the label of some people collected and published."""
    if not root.exists():
        (root / "data").mkdir(parents=True)
        (root / "consortium.yaml").write_text(json.dumps(consortium_text()))
    folder = load(root)
    with (root / "data" / "bank.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["id", "phone", "amount", "ceiling", "since", "bad"])
        lines.writerows([*identifiers(number).values(), 1, 2, "2020-01-01", label] for number, label in bad.items())
    collect(folder.node("bank"), "people", "full", lambda: NOW)
    check(folder.node("bank"), "people", lambda: NOW)
    return folder


def test_a_synced_label_is_told_once_and_again_where_it_changed(site: Site, client: Client, tmp_path: Path) -> None:
    said: list[Any] = []
    tell, client.tell = client.tell, lambda told: said.extend(told) or tell(told)  # type: ignore[method-assign,func-returns-value]
    try:
        folder = collected(tmp_path / "lender", {4: 1, 5: 0, 6: ""})
        assert tell_outcomes(folder, client) == 3
        assert said == [
            {**identifiers(4 + place), "outcome": outcome} for place, outcome in enumerate(("bad", "good", None))
        ]
        assert tell_outcomes(folder, client) == 0
        said.clear()
        assert tell_outcomes(collected(tmp_path / "lender", {4: 1, 5: 1}), client) == 2
        assert {(one["id_number"], one["outcome"]) for one in said} == {
            (identifiers(5)["id_number"], "bad"),
            (identifiers(6)["id_number"], None),
        }
    finally:
        client.tell = tell  # type: ignore[method-assign]


def test_refusals_are_the_errors_that_the_gateway_named(site: Site, client: Client) -> None:
    with pytest.raises(InvalidRequest, match="holds a field that does not exist") as refused:
        client.score(identifiers(4), {"amout": 1})
    assert (refused.value.field, refused.value.cure) == ("fields.amout", "Did you mean amount?")
    with pytest.raises(ApplicantUnknown, match="bank does not know the applicant"):
        client.score(identifiers(9_999))
    client.score(identifiers(4), key="python-client-1")
    with pytest.raises(Replayed, match="was answered before"):
        client.score(identifiers(4), key="python-client-1")
    with pytest.raises(NotAllowed, match="may not use 'decisions'"):
        client.decide({**identifiers(4), "application": {"amount": 1000, "term": 12}})
    with (
        pytest.raises(NotAuthorised, match="id or secret is wrong"),
        Client(site.url, "python-lender", "wrong") as other,
    ):
        other.score(identifiers(4))


def test_a_token_that_no_longer_counts_is_replaced_without_the_caller_noticing(site: Site, client: Client) -> None:
    client._token = "a.token.of-yesterday"
    assert client.score(identifiers(4))["probability_of_default"] == pytest.approx(expected(site, 4))
    kept = client._token
    client.score(identifiers(5))
    assert client._token == kept
    client._renew_at = 0.0
    client.score(identifiers(5))
    assert client._renew_at > 0.0


def test_a_quota_that_is_used_up_is_an_error_after_the_retries(site: Site) -> None:
    try:
        with registered(site, "python-small", ("scores",), per_day=1) as small:
            waits: list[float] = []
            small._sleep = waits.append
            small.score(identifiers(4))
            with pytest.raises(TooManyRequests, match="has used its 1 requests of today"):
                small.score(identifiers(4))
        assert len(waits) == 3
        assert min(waits) >= 1.0
    finally:
        remove_client(site.folder, "python-small")


class Scripted(BaseHTTPRequestHandler):
    """Gives tokens, and to anything else the next of the server's answers."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        status, headers, body = 200, {}, b'{"access_token": "t", "expires_in": 900}'
        if self.path != "/oauth/token":
            status, headers, body = self.server.answers.pop(0)  # type: ignore[attr-defined]
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_: object) -> None:
        pass


@pytest.fixture
def scripted() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Scripted)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def asking(server: HTTPServer, answers: list[tuple[int, dict[str, str], bytes]], waits: list[float]) -> Client:
    server.answers = answers  # type: ignore[attr-defined]
    return Client(f"http://127.0.0.1:{server.server_port}", "a", "b", sleep=waits.append, draw=lambda: 1.0)


def test_it_waits_as_long_as_the_gateway_says_and_longer_each_time_where_it_says_nothing(scripted: HTTPServer) -> None:
    waits: list[float] = []
    busy: tuple[int, dict[str, str], bytes] = (503, {}, b"")
    with asking(scripted, [busy, (429, {"retry-after": "7"}, b""), busy, (200, {}, b'{"score": 1}')], waits) as client:
        assert client.score({"id": "1"}) == {"score": 1}
    assert waits == pytest.approx([0.2, 7.0, 0.8])


def test_what_no_gateway_would_answer_is_an_error_all_the_same(scripted: HTTPServer) -> None:
    with asking(scripted, [(502, {}, b"<html>"), (200, {}, b"[1]")], []) as client:
        for _ in range(2):
            with pytest.raises(ScoringError, match="no gateway answered"):
                client.score({"id": "1"})


def test_a_gateway_that_is_down_is_asked_again_and_then_named() -> None:
    waits: list[float] = []
    with (
        Client("http://127.0.0.1:1", "a", "b", retries=2, sleep=waits.append) as client,
        pytest.raises(PartyUnavailable, match="gateway does not answer"),
    ):
        client.score({"id": "1"})
    assert len(waits) == 2


def test_the_client_is_imported_without_the_weight_of_the_rest() -> None:
    heavy = "{'numpy', 'pyarrow', 'pandas', 'torch', 'pydantic', 'msgspec', 'mlflow'}"
    code = f"import sys, ftl.client; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
