"""Clients, tokens, rates and replays; the endpoints that need them."""

import fcntl
import multiprocessing
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import jwt
import pytest
from conftest import Site, expected, identifiers, make_site

from ftl.consortium import Folder
from ftl.errors import (
    InvalidRequest,
    NotAllowed,
    NotAuthorised,
    PartyUnavailable,
    Replayed,
    ServiceError,
    TooManyRequests,
)
from ftl.serving.clients import (
    Access,
    Client,
    add_client,
    clients_file,
    read_clients,
    read_grant_request,
    remove_client,
)
from ftl.serving.endpoints import shared_home
from ftl.serving.metrics import Metrics
from ftl.serving.replay import Replays
from ftl.serving.shared import SharedTable
from ftl.serving.velocity import Velocity


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def place(tmp_path: Path) -> Folder:
    return make_site(tmp_path).folder


@pytest.fixture
def clock() -> Clock:
    return Clock()


def bearer(token: str) -> bytes:
    return b"Bearer " + token.encode()


def test_a_token_admits_its_client_to_its_services_until_it_expires(place: Folder, clock: Clock) -> None:
    secret = add_client(place, "lender", ("scores",))
    access = Access(place, clock)
    grant = access.grant("lender", secret)
    assert (grant.scope, grant.expires_in) == ("scores", 900)
    assert access.admit(bearer(grant.access_token), "scores").id == "lender"
    with pytest.raises(NotAllowed, match="lender may not use 'decisions'"):
        access.admit(bearer(grant.access_token), "decisions")
    clock.now += 901
    with pytest.raises(NotAuthorised, match="has expired"):
        access.admit(bearer(grant.access_token), "scores")


def test_a_token_of_another_key_another_algorithm_or_changed_by_a_letter_is_refused(
    place: Folder, clock: Clock
) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    access = Access(place, clock)
    secret = add_client(place, "lender")
    clock.now += 2
    good = access.grant("lender", secret).access_token
    claims = jwt.decode(good, options={"verify_signature": False})
    head, body, signature = good.split(".")
    forged = [
        jwt.encode(claims, Ed25519PrivateKey.generate(), "EdDSA"),
        jwt.encode(claims, "s" * 32, "HS256"),
        jwt.encode(claims, None, "none"),
        f"{head}.{body[:-2]}xx.{signature}",
        "",
        "a.b.c",
        "ä",
    ]
    for token in forged:
        with pytest.raises(NotAuthorised, match="missing, wrong or has expired"):
            access.admit(bearer(token), "scores")
    assert access.admit(bearer(good), "scores").id == "lender"


def test_a_service_code_is_a_scope_for_that_service_alone_and_decisions_for_every_one(
    place: Folder, clock: Clock
) -> None:
    secrets = {
        name: add_client(place, name, (scope,)) for name, scope in (("one", "blacklist.1"), ("all", "decisions"))
    }
    access = Access(place, clock)

    def admitted(name: str, wanted: str = "") -> Client:
        return access.admit(bearer(access.grant(name, secrets[name], wanted).access_token), "decisions")

    admitted("one").check_service("blacklist.1")
    for code in ("blacklist.1", "full.1", "full.2"):
        admitted("all").check_service(code)
    admitted("all", "credit.1").check_service("credit.1")
    for client in (admitted("one"), admitted("all", "credit.1")):
        with pytest.raises(NotAllowed, match=r"may not use 'full\.1'.*ask the coordinator") as refused:
            client.check_service("full.1")
        assert refused.value.field == "service"
    with pytest.raises(NotAllowed, match=r"one may not use 'full\.1'\. It may use blacklist\.1"):
        access.grant("one", secrets["one"], "blacklist.1 full.1")
    token = bearer(access.grant("one", secrets["one"]).access_token)
    with pytest.raises(NotAllowed, match="one may not use 'scores'"):
        access.admit(token, "scores")


def test_a_token_gains_nothing_when_its_client_is_registered_anew_with_more(place: Folder, clock: Clock) -> None:
    secret = add_client(place, "lender", ("full.1",))
    access = Access(place, clock)
    token = bearer(access.grant("lender", secret).access_token)
    remove_client(place, "lender")
    add_client(place, "lender", ("scores", "full.1", "credit.1"))
    clock.now += 1.1
    assert access.admit(token, "decisions").scopes == ("full.1",)


def test_a_wrong_secret_or_an_unknown_client_gets_no_token(place: Folder, clock: Clock) -> None:
    add_client(place, "lender", ("scores",))
    access = Access(place, clock)
    for name, secret in (("lender", "wrong"), ("nobody", ""), ("", "")):
        with pytest.raises(NotAuthorised, match="id or secret is wrong"):
            access.grant(name, secret)


def test_a_client_that_was_removed_or_lost_a_service_is_refused_a_second_later(place: Folder, clock: Clock) -> None:
    secret = add_client(place, "lender")
    access = Access(place, clock)
    token = access.grant("lender", secret).access_token
    access.admit(bearer(token), "scores")
    remove_client(place, "lender")
    clock.now += 1.1
    with pytest.raises(NotAuthorised, match="missing, wrong"):
        access.admit(bearer(token), "scores")


def test_a_rate_lets_bursts_of_a_second_through_and_refills(place: Folder, clock: Clock) -> None:
    secret = add_client(place, "lender", per_second=5)
    access = Access(place, clock)
    token = bearer(access.grant("lender", secret).access_token)
    for _ in range(5):
        access.admit(token, "scores")
    with pytest.raises(TooManyRequests, match="lender may send 5 requests a second"):
        access.admit(token, "scores")
    clock.now += 0.4
    access.admit(token, "scores")
    access.admit(token, "scores")
    with pytest.raises(TooManyRequests, match="5 requests a second"):
        access.admit(token, "scores")


def test_a_quota_ends_with_the_day(place: Folder, clock: Clock) -> None:
    secret = add_client(place, "lender", per_day=2)
    access = Access(place, clock)
    token = bearer(access.grant("lender", secret).access_token)
    access.admit(token, "scores")
    access.admit(token, "scores")
    with pytest.raises(TooManyRequests, match="has used its 2 requests of today"):
        access.admit(token, "scores")
    clock.now += 12 * 3600 + 1
    fresh = bearer(access.grant("lender", secret).access_token)
    assert access.admit(fresh, "scores").id == "lender"


def test_the_clients_file_holds_no_secret_and_is_its_owners_only(place: Folder) -> None:
    secret = add_client(place, "lender")
    assert secret not in clients_file(place).read_text()
    assert clients_file(place).stat().st_mode & 0o777 == 0o600
    assert set(read_clients(place)) == {"default", "lender"}


def test_two_clients_of_one_name_and_unknown_services_are_refused(place: Folder) -> None:
    add_client(place, "lender")
    with pytest.raises(ServiceError, match="a client 'lender' already"):
        add_client(place, "lender")
    with pytest.raises(ServiceError, match="no service 'everything'"):
        add_client(place, "other", ("everything",))
    with pytest.raises(ServiceError, match=r"no service 'full.9'.*blacklist\.1"):
        add_client(place, "other", ("full.9",))
    with pytest.raises(ServiceError, match="no client 'nobody'"):
        remove_client(place, "nobody")


@pytest.mark.parametrize("body", [b"", b"grant_type=password", b"\xff\xfe=1", b"grant_type"])
def test_anything_but_client_credentials_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"grant_type is not client_credentials|no form"):
        read_grant_request(body, b"")


def test_a_repeated_idempotency_key_is_refused_for_its_client_only_and_not_for_ever(tmp_path: Path) -> None:
    clock = Clock()
    replays, neighbour = Replays(tmp_path, b"k", clock), Replays(tmp_path, b"k", clock)

    def send(client: str, key: bytes | None, to: Replays = replays) -> None:
        with to.once(client, key):
            pass

    send("a", b"k")
    send("b", b"k")
    send("a", None)
    send("a", None)
    for process in (replays, neighbour):
        with pytest.raises(Replayed, match="was answered before"):
            send("a", b"k", process)
    clock.now += 601
    send("a", b"k", neighbour)
    with pytest.raises(InvalidRequest, match="0 bytes"):
        send("a", b"")


def test_what_failed_for_the_moment_may_be_sent_again_under_its_key_and_what_was_refused_may_not(
    tmp_path: Path,
) -> None:
    replays = Replays(tmp_path, b"k", Clock())
    with pytest.raises(PartyUnavailable, match="away"), replays.once("a", b"1"):
        raise PartyUnavailable("away")
    with replays.once("a", b"1"):
        pass
    with pytest.raises(InvalidRequest, match="wrong"), replays.once("a", b"2"):
        raise InvalidRequest("wrong")
    with pytest.raises(Replayed, match="before"), replays.once("a", b"2"):
        pass


def test_rates_and_quotas_are_one_over_all_processes_and_outlive_them(place: Folder, clock: Clock) -> None:
    secret = add_client(place, "lender", per_second=5, per_day=8)
    one, other = Access(place, clock), Access(place, clock)
    token = bearer(one.grant("lender", secret).access_token)
    for number in range(5):
        (one, other)[number % 2].admit(token, "scores")
    with pytest.raises(TooManyRequests, match="5 requests a second"):
        other.admit(token, "scores")
    clock.now += 1
    for _ in range(3):
        other.admit(token, "scores")
    with pytest.raises(TooManyRequests, match="its 8 requests of today"):
        Access(place, clock).admit(token, "scores")


def test_a_batch_counts_for_each_of_its_applicants(place: Folder, clock: Clock) -> None:
    secret = add_client(place, "lender", per_second=5)
    access = Access(place, clock)
    token = bearer(access.grant("lender", secret).access_token)
    access.admit(token, "scores", 20)
    for seconds, refused in ((1, True), (1.8, True), (0.6, False)):
        clock.now += seconds
        if refused:
            with pytest.raises(TooManyRequests, match="5 requests a second"):
                access.admit(token, "scores")
        else:
            access.admit(token, "scores")


@pytest.mark.parametrize("jump", [-86_400.0, -3600.0, 3600.0 * 24 * 400])
def test_a_clock_that_jumps_locks_no_client_out(place: Folder, clock: Clock, jump: float) -> None:
    secret = add_client(place, "lender", per_second=2)
    access, replays = Access(place, clock), Replays(shared_home(place), b"k", clock)
    token = bearer(access.grant("lender", secret).access_token)
    access.admit(token, "scores")
    with replays.once("lender", b"1"):
        pass
    clock.now += jump
    renewed = bearer(access.grant("lender", secret).access_token)
    for _ in range(6):
        access.admit(renewed, "scores")
        clock.now += 0.5
    with replays.once("lender", b"2"):
        pass
    assert Velocity(shared_home(place), clock).count("ab" * 16) == (0, 0)


def test_applications_are_counted_over_processes_for_a_day_and_a_month(tmp_path: Path, clock: Clock) -> None:
    one, other, subject = Velocity(tmp_path, clock), Velocity(tmp_path, clock), "5c" * 16
    assert [one.count(subject), other.count(subject), one.count("5d" * 16)] == [(0, 0), (1, 1), (0, 0)]
    clock.now += 86_400
    assert other.count(subject) == (0, 2)
    clock.now += 30 * 86_400 - 1
    assert one.count(subject) == (0, 1)
    for _ in range(30):
        counted = other.count(subject)
    assert counted == (24, 24)


def add(path: Path, times: int) -> None:
    table = SharedTable(path, "q", 1)
    for _ in range(times):
        table.change(b"n" * 16, 1.0, lambda _, record: [1 + (record or (0,))[0]])


def test_counts_of_processes_that_count_at_once_add_up_and_none_waits_for_one_that_froze(tmp_path: Path) -> None:
    path, context = tmp_path / "t", multiprocessing.get_context("fork")
    counting = [context.Process(target=add, args=(path, 2000)) for _ in range(3)]
    for process in counting:
        process.start()
    for process in counting:
        process.join()
    seen: list[object] = []
    table = SharedTable(path, "q", 1)
    table.change(b"n" * 16, 1.0, lambda _, record: seen.extend(record or ()) or [0])
    assert seen == [6000]
    with path.open("rb") as frozen:
        fcntl.flock(frozen, fcntl.LOCK_EX)
        table.change(b"n" * 16, 1.0, lambda *_: [7])  # returns although nobody ever gives the lock back
    table.change(b"n" * 16, 1.0, lambda _, record: seen.extend(record or ()) or [0])
    assert seen == [6000, 7]


def test_a_full_bucket_gives_up_the_record_changed_longest_ago(tmp_path: Path) -> None:
    table = SharedTable(tmp_path / "t", "q", 1)
    for number in range(9):
        table.change(bytes([number + 1]) * 16, float(number + 1), lambda _, record: record or [5])
    found: dict[int, object] = {}
    for number in (1, 2):
        table.change(bytes([number + 1]) * 16, 99.0, lambda _, r, n=number: found.setdefault(n, r) or [0])
    assert found == {1: (5,), 2: (5,)}


def test_figures_of_all_processes_are_added_up_and_those_of_an_ended_one_stay(tmp_path: Path) -> None:
    here, there = Metrics(tmp_path), Metrics(tmp_path)
    there._path = tmp_path / "999999999.figures"  # of a process that has ended
    for process in (here, there, there):
        process.answered("/v1/scores", 200, 0.02)
    there.answered("/v1/models", 200, 0.02)
    there.share(5)
    lines = here.text(2).decode().splitlines()
    assert 'ftl_requests_total{path="/v1/scores",status="200"} 3.0' in lines
    assert 'ftl_requests_total{path="/v1/models",status="200"} 1.0' in lines
    assert 'ftl_request_seconds_bucket{le="0.025",path="/v1/scores"} 3.0' in lines
    assert "ftl_requests_under_way 2.0" in lines
    assert len(lines) == len({line.rpartition(" ")[0] for line in lines})


def test_the_gateway_grants_tokens_to_registered_clients_and_bounds_them(site: Site) -> None:
    secret = add_client(site.folder, "shop", ("scores",), per_second=1)
    httpx.get(f"{site.url}/healthz")
    form = {"grant_type": "client_credentials"}
    time.sleep(1.1)  # until the gateway has looked at the file again
    said = httpx.post(f"{site.url}/oauth/token", data=form, auth=("shop", secret))
    assert said.status_code == 200
    headers = {"authorization": f"Bearer {said.json()['access_token']}"}
    first = httpx.post(f"{site.url}/v1/scores", json=identifiers(3), headers=headers)
    assert first.status_code == 200
    assert httpx.get(f"{site.url}/v1/models", headers=headers).status_code == 403
    second = httpx.post(f"{site.url}/v1/scores", json=identifiers(3), headers=headers)
    assert (second.status_code, second.headers["retry-after"]) == (429, "1")
    assert httpx.post(f"{site.url}/oauth/token", data=form, auth=("shop", "wrong")).status_code == 401


def test_a_batch_answers_everybody_in_order_and_says_who_is_unknown(site: Site) -> None:
    people = [identifiers(4), identifiers(999_999), identifiers(250), {**identifiers(5), "fields": {"amount": 10.0}}]
    headers = {"authorization": f"Bearer {site.token}"}
    answers = httpx.post(f"{site.url}/v1/scores:batch", json={"applicants": people}, headers=headers).json()["answers"]
    assert [sorted(answer) for answer in answers] == [["scored"], ["refused"], ["scored"], ["scored"]]
    assert answers[1]["refused"]["code"] == "applicant_unknown"
    for place, probability in (
        (0, expected(site, 4)),
        (2, expected(site, 250)),
        (3, expected(site, 5, amount=10.0)),
    ):
        assert answers[place]["scored"]["probability_of_default"] == pytest.approx(probability)


def test_a_batch_names_the_place_of_what_is_wrong(site: Site) -> None:
    headers = {"authorization": f"Bearer {site.token}"}
    blank = {"applicants": [identifiers(1), {**identifiers(2), "phone": " "}]}
    said = httpx.post(f"{site.url}/v1/scores:batch", json=blank, headers=headers)
    assert (said.status_code, said.json()["field"]) == (422, "applicants[1].phone")
    assert httpx.post(f"{site.url}/v1/scores:batch", json={"applicants": []}, headers=headers).status_code == 422


def test_a_request_sent_twice_under_one_key_is_answered_once(site: Site) -> None:
    headers = {"authorization": f"Bearer {site.token}", "idempotency-key": "once-only"}
    assert httpx.post(f"{site.url}/v1/scores", json=identifiers(3), headers=headers).status_code == 200
    again = httpx.post(f"{site.url}/v1/scores", json=identifiers(3), headers=headers)
    assert (again.status_code, again.json()["code"]) == (409, "replayed")


def test_metrics_count_answers_by_path_and_status_and_name_nobody(site: Site) -> None:
    site.score(identifiers(6))
    text = httpx.get(f"{site.url}/metrics").text
    assert 'ftl_requests_total{path="/v1/scores",status="200"}' in text
    assert 'ftl_request_seconds_bucket{le="0.1",path="/v1/scores"}' in text
    assert identifiers(6)["id_number"] not in text
