"""Decisions at the gateway, and what is kept of them."""

import json
import shutil
import signal
from pathlib import Path

import httpx
import msgspec
import pytest
from conftest import Site, expected, identifiers, wait_for

from ftl.consortium.deciding import Scorecard
from ftl.decision import Policy
from ftl.decision.policy import SHIPPED
from ftl.serving.clients import add_client, remove_client
from ftl.serving.decisions import Kept, applications, block, replay
from ftl.serving.subjects import subject_of

ASKED = {"amount": 30000, "term": 12}


def decided(site: Site, number: int, **more: object) -> httpx.Response:
    headers = {"authorization": f"Bearer {site.token}"}
    body = {**identifiers(number), "application": ASKED, **more}
    return httpx.post(f"{site.url}/v1/decisions", json=body, headers=headers, timeout=10)


def test_a_decision_rests_on_the_score_and_names_its_rule_limit_and_policy(site: Site) -> None:
    said = decided(site, 41).json()
    assert said["probability_of_default"] == pytest.approx(expected(site, 41))
    made = said["decision"]
    band = Policy(SHIPPED / "standard").band(expected(site, 41))
    assert (made["band"], made["policy"], made["service"]) == (band, "standard/1", "full.1")
    assert made["decision"] in {"approve", "refer", "decline"}
    assert made["rules"]
    assert said["reasons"]


def metered(site: Site) -> list[dict[str, object]]:
    files = sorted((site.folder.coordinator / "serving" / "metering").glob("*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def test_a_decision_is_metered_under_its_service_code_and_a_score_under_scores(site: Site) -> None:
    decided(site, 31)
    site.score(identifiers(31))
    services = ["full.1", "scores"]
    wait_for(
        lambda: [one["service"] for one in metered(site)[-2:]] == services, "both answers to be metered, in their order"
    )


def test_a_decision_without_a_score_is_metered_as_well(site: Site) -> None:
    before = len(metered(site))
    decided(site, 777_778)
    wait_for(lambda: len(metered(site)) > before, "the answer to be metered")
    (line,) = metered(site)[before:]
    assert (line["service"], line["model"], line["parties"]) == ("full.1", "credit_risk/1", [])


def test_a_service_without_scores_answers_while_no_party_does_and_names_no_model(site: Site) -> None:
    site.stop("bank", signal.SIGKILL)
    site.stop("partner", signal.SIGKILL)
    try:
        before, said = len(metered(site)), decided(site, 47, service="blacklist.1")
        referred = decided(site, 47).json()["decision"]
    finally:
        site.start("bank", "partner")
    body = said.json()
    assert (said.status_code, body["decision"]["listed"], body["decision"]["anomaly"]) == (200, False, None)
    assert (body["model"], body["parties"], body["degraded"], body["reasons"]) == (None, {}, False, [])
    assert (referred["decision"], referred["anomaly"]) == ("refer", "run_time_error")
    wait_for(lambda: len(metered(site)) == before + 2, "both answers to be metered")
    line = metered(site)[before]
    assert (line["service"], line["model"], line["parties"]) == ("blacklist.1", "", [])
    wait_for(lambda: site.score(identifiers(47)).status_code == 200, "the bank to be asked again")


def test_a_client_granted_one_service_is_refused_another_with_its_field_and_what_to_do(site: Site) -> None:
    secret = add_client(site.folder, "lists-only", ("blacklist.1",))
    form = {"grant_type": "client_credentials"}

    def ask(path: str, body: object, token: str) -> httpx.Response:
        return httpx.post(f"{site.url}{path}", json=body, headers={"authorization": f"Bearer {token}"}, timeout=10)

    def grant() -> httpx.Response:
        return httpx.post(f"{site.url}/oauth/token", data=form, auth=("lists-only", secret))

    wait_for(lambda: grant().status_code == 200, "the gateway to know the client")
    token = grant().json()["access_token"]
    body = {**identifiers(48), "application": ASKED}
    assert ask("/v1/decisions", {**body, "service": "blacklist.1"}, token).status_code == 200
    refused = ask("/v1/decisions", {**body, "service": "full.1"}, token)
    assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (403, "forbidden", "service")
    assert "blacklist.1" in refused.json()["cure"]
    assert ask("/v1/scores", identifiers(48), token).status_code == 403
    remove_client(site.folder, "lists-only")


def test_somebody_unknown_is_referred_to_a_person_and_not_refused(site: Site) -> None:
    said = decided(site, 777_777)
    assert said.status_code == 200
    assert (said.json()["decision"]["decision"], said.json()["decision"]["anomaly"]) == ("refer", "cannot_score")


def test_many_applications_in_a_day_are_noticed(site: Site) -> None:
    rules = [decided(site, 43).json()["decision"]["rules"] for _ in range(6)]
    bands = decided(site, 43).json()["decision"]["band"]
    assert bands == "F" or rules[-1] == ["R3 many applications in a short time"]
    assert rules[0] != ["R3 many applications in a short time"]


def test_a_blocked_person_is_declined_soon_after(site: Site) -> None:
    assert decided(site, 44, service="blacklist.1").json()["decision"]["listed"] is False
    block(site.folder, [subject_of(site.folder, identifiers(44))])
    wait_for(
        lambda: decided(site, 44, service="blacklist.1").json()["decision"]["decision"] == "decline",
        "the blacklist",
        15,
    )
    assert decided(site, 45, service="blacklist.1").json()["decision"]["listed"] is False


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"application": {"amount": 0, "term": 12}}, "application.amount"),
        ({"application": {"amount": 5, "term": 12, "colour": "red"}}, "application"),
        ({"service": "full.7"}, "service"),
    ],
)
def test_a_wrong_application_names_the_field(site: Site, body: dict[str, object], field: str) -> None:
    said = decided(site, 46, **body)
    assert (said.status_code, said.json()["field"].startswith(field)) == (422, True)


def test_what_is_kept_for_replay_names_nobody_and_shows_what_a_change_would_do(site: Site, tmp_path) -> None:
    for number in range(50, 60):
        decided(site, number)
    files = sorted(applications(site.folder).glob("*.jsonl"))

    def kept() -> list[Kept]:
        return [msgspec.json.decode(line, type=Kept) for path in files for line in path.read_bytes().splitlines()]

    wait_for(lambda: len(kept()) >= 10, "the lines to be written")
    files = [Path(shutil.copy(path, tmp_path)) for path in files]  # lines of other tests may still be written
    text = "".join(path.read_text() for path in files)
    assert not any(value in text for number in range(40, 60) for value in identifiers(number).values())
    shutil.copytree(SHIPPED / "standard", tmp_path / "strict")
    path = tmp_path / "strict" / "decision.json"
    graph = json.loads(path.read_text())
    route = next(node for node in graph["nodes"] if node["id"] == "route")
    route["content"]["rules"][-1]["o1"] = "'refer'"
    path.write_text(json.dumps(graph))
    same = replay(Policy(SHIPPED / "standard"), files, Scorecard())
    assert all(row.before == row.after for row in same)
    strict = replay(Policy(tmp_path / "strict"), files, Scorecard())
    assert sum(row.applications for row in strict) == sum(row.applications for row in same)
    assert not any(row.after == "approve" for row in strict)
