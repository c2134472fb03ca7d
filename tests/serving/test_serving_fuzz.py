"""Hostile callers: whatever is sent, nothing fails inside, answers are as described, and others are answered."""

import gzip
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
import schemathesis
from conftest import Site, expected, identifiers
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

load_all_checks()
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
GOOD = identifiers(4)
TEXT = json.dumps(GOOD)
ALL_PATHS = ["/v1/scores", "/v1/scores:batch", "/v1/decisions", "/v1/outcomes", "/oauth/token"]


def test_every_request_the_description_can_lead_to_is_answered_as_described(site: Site) -> None:
    headers = {"authorization": f"Bearer {site.token}"}
    asked = 0
    for found in schemathesis.openapi.from_url(f"{site.url}/openapi.json").get_all_operations():

        @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=found.ok().as_strategy())
        def ask(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=CHECKS, headers=headers, timeout=20)

        ask()
        asked += 1
    assert asked >= len(ALL_PATHS)


HOSTILE = {
    "a name a thousand times": ("{" + '"id_number": "A", ' * 1000 + '"phone": "1"}').encode(),
    "lists within lists": b'{"id_number": ' + b"[" * 400_000 + b"]" * 400_000 + b"}",
    "objects within objects": b'{"fields": ' * 80_000 + b"1" + b"}" * 80_000,
    "half a megabyte of identifier": json.dumps({**GOOD, "phone": "7" * 500_000}).encode(),
    "a number with ten thousand digits": (TEXT[:-1] + ', "fields": {"amount": ' + "9" * 10_000 + "}}").encode(),
    "an exponent out of all bounds": (TEXT[:-1] + ', "fields": {"amount": 1e999999}}').encode(),
    "not a number": (TEXT[:-1] + ', "fields": {"amount": NaN}}').encode(),
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-8 with its mark": TEXT.encode("utf-8-sig"),
    "Latin-1": json.dumps({**GOOD, "phone": "ä"}, ensure_ascii=False).encode("latin-1"),
    "half a surrogate pair": (TEXT[:-2] + '\\ud800"}').encode(),
    "bytes of nought": b"\0" * 10_000,
    "compressed": gzip.compress(TEXT.encode()),
    "two documents": (TEXT + TEXT).encode(),
    "a form": b"id_number=A&phone=1",
    "a prototype": (TEXT[:-1] + ', "__proto__": {"score": 850}}').encode(),
    "more than a megabyte": b" " * 1_200_000,
}


@pytest.mark.parametrize("path", ALL_PATHS)
def test_no_body_makes_the_gateway_fail(site: Site, path: str) -> None:
    headers = {"authorization": f"Bearer {site.token}"}
    with httpx.Client(base_url=site.url, headers=headers, timeout=20) as client:
        for name, body in HOSTILE.items():
            said = client.post(path, content=body)
            assert 400 <= said.status_code < 500, name
            assert said.headers["content-type"] == "application/problem+json", name


POST = b"POST /v1/scores HTTP/1.1\r\nhost: a\r\n"
ODD = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01",
    "a path with noughts": b"GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n",
    "a header of a megabyte": b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 1_000_000 + b"\r\n\r\n",
    "two lengths": POST + b"content-length: 2\r\ncontent-length: 9\r\n\r\n{}",
    "a length below nought": POST + b"content-length: -1\r\n\r\n",
    "length and chunks": POST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk that lies": POST + b"transfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n{}",
}


def raw(site: Site) -> socket.socket:
    address = httpx.URL(site.url)
    made = socket.create_connection((address.host, address.port or 80), timeout=5)
    made.settimeout(2)
    return made


@pytest.mark.parametrize("case", ODD, ids=lambda case: case.replace(" ", "-"))
def test_what_is_hardly_http_gets_a_refusal_or_nothing(site: Site, case: str) -> None:
    with raw(site) as connection:
        try:
            connection.sendall(ODD[case])
            said = connection.recv(64)
        except (TimeoutError, ConnectionError):
            said = b""
    assert not said.startswith(b"HTTP/1.1 5")
    assert site.score(GOOD).status_code == 200


@pytest.fixture
def crowd(site: Site) -> Iterator[list[socket.socket]]:
    """200 who say nothing, 50 who stopped in the middle of the headers, 50 in the middle of the body."""
    head = f"POST /v1/scores HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {site.token.strip()}\r\n"
    with ExitStack() as stack:
        connections = [stack.enter_context(raw(site)) for _ in range(300)]
        for one in connections[200:250]:
            one.sendall(head.encode()[:-9])
        for one in connections[250:]:
            one.sendall(f"{head}content-length: {len(TEXT)}\r\n\r\n{TEXT[:10]}".encode())
        yield connections


def test_idle_and_slow_clients_keep_nobody_waiting_and_are_answered_when_they_finish(
    site: Site, crowd: list[socket.socket]
) -> None:
    slowest = 0.0
    for number in range(20):
        started = time.perf_counter()
        said = site.score(identifiers(number))
        slowest = max(slowest, time.perf_counter() - started)
        assert said.json()["probability_of_default"] == pytest.approx(expected(site, number))
    assert slowest < 5.0
    for byte in TEXT[10:].encode():
        crowd[-1].sendall(bytes([byte]))
    assert crowd[-1].recv(64).startswith(b"HTTP/1.1 200")
