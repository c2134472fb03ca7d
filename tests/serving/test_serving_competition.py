"""An experiment on live traffic: the gateway in this process, the parties' score servers as they run."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import pytest
from asgi_client import Call, running
from conftest import COMBINER, Site, expected, identifiers, register, result

from ftl import registry
from ftl.errors import RegistryError
from ftl.protocols import Combiner
from ftl.registry import competition
from ftl.registry.competition.experiment import home
from ftl.registry.competition.observations import EXPOSURES, OUTCOMES, observations
from ftl.serving import gateway_app

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SECOND = Combiner([[value / 2 for value in tree] for tree in COMBINER.trees], COMBINER.scale, -0.3, ["bank", "partner"])
EVERYBODY = range(120)


@pytest.fixture(scope="module")
def second(site: Site) -> str:
    """A second version, over the same parts' columns."""
    return register(site.folder, result(site.folder, "run-of-the-challenger", SECOND)).version


@pytest.fixture
def experiment(site: Site, second: str) -> Iterator[competition.Experiment]:
    name = f"e{len(competition.experiments(site.folder))}"
    yield competition.start(site.folder, name, {second: 0.4}, NOW)
    competition.end(site.folder, name, NOW, "the test is over")


async def scored(call: Call, token: str, number: int) -> dict[str, object]:
    headers = {"authorization": f"Bearer {token}"}
    said = await call("POST", "/v1/scores", identifiers(number), headers)
    assert said.status == 200, said.body
    return said.json()


def ask(site: Site, people: range, *, outcomes: list[dict[str, object]] | None = None) -> list[dict[str, object]]:
    async def everybody() -> list[dict[str, object]]:
        async with running(gateway_app(site.folder, budget=2.0, poll=0.2)) as call:
            for _ in range(200):
                if (await call("GET", "/readyz")).status == 200:
                    break
                await asyncio.sleep(0.05)
            said = await asyncio.gather(*(scored(call, site.token, number) for number in people))
            if outcomes:
                headers = {"authorization": f"Bearer {site.token}"}
                told = await call("POST", "/v1/outcomes", {"outcomes": outcomes}, headers)
                assert told.json() == {"accepted": len(outcomes)}
            return said

    return asyncio.run(everybody())


def test_each_applicant_is_answered_by_the_version_of_their_share_and_always_by_the_same(site, second, experiment):
    first, again = ask(site, EVERYBODY), ask(site, EVERYBODY)
    answered = [one["model"]["version"] for one in first]
    assert answered == [one["model"]["version"] for one in again]
    assert 0.25 < answered.count(second) / len(answered) < 0.55
    for number, one in enumerate(first):
        combiner = SECOND if one["model"]["version"] == second else COMBINER
        odds = expected(site, number, combiner=combiner)
        if combiner is COMBINER:
            assert one["probability_of_default"] == pytest.approx(odds)
        else:
            assert one["probability_of_default"] != pytest.approx(expected(site, number))


def test_a_challengers_share_is_scored_by_both_and_outcomes_find_their_answers(site, second, experiment):
    told = [{**identifiers(number), "outcome": "bad" if number % 3 == 0 else "good"} for number in EVERYBODY]
    first = ask(site, EVERYBODY, outcomes=told)
    seen = observations(home(site.folder) / experiment.name, "1", second)
    share = [number for number, one in enumerate(first) if one["model"]["version"] == second]
    assert len(seen.label) == len(share)
    assert seen.label.sum() == sum(number % 3 == 0 for number in share)
    assert sorted(seen.challenger) == pytest.approx(sorted(first[number]["probability_of_default"] for number in share))
    assert sorted(seen.champion) == pytest.approx(sorted(expected(site, number) for number in share))
    (verdict,) = competition.judge(site.folder, experiment.name, NOW)
    assert verdict.decision == "continue"


def test_what_is_written_of_an_experiment_names_nobody(site, second, experiment):
    ask(site, EVERYBODY, outcomes=[{**identifiers(5), "outcome": "bad", "group": "north"}])
    place = home(site.folder)
    for path in (place / experiment.name / EXPOSURES, place / OUTCOMES):
        text = path.read_text()
        assert path.stat().st_mode & 0o777 == 0o600
        for number in EVERYBODY:
            for value in identifiers(number).values():
                assert value not in text


def test_in_shadow_the_champion_answers_everybody(site, second):
    experiment = competition.start(site.folder, "shadowed", {second: 0.9}, NOW, mode="shadow")
    try:
        first = ask(site, range(40))
        assert {one["model"]["version"] for one in first} == {"1"}
        seen = observations(home(site.folder) / experiment.name, "1", second)
        assert len(seen.all_challenger) > 25
    finally:
        competition.end(site.folder, experiment.name, NOW, "the test is over")


def test_a_challenger_that_cannot_be_loaded_leaves_the_champion_answering(site, second):
    broken = result(site.folder, "run-broken")
    parts = [msgspec.structs.replace(part, sha256="0" * 64) for part in broken.parts]
    version = register(site.folder, msgspec.structs.replace(broken, parts=parts)).version
    experiment = competition.start(site.folder, "broken-part", {version: 0.5}, NOW)
    try:
        first = ask(site, range(40))
        assert {one["model"]["version"] for one in first} == {"1"}
        for number, one in enumerate(first):
            assert one["probability_of_default"] == pytest.approx(expected(site, number))
        assert observations(home(site.folder) / experiment.name, "1", version).errors == {"1": 0.0, version: 1.0}
    finally:
        competition.end(site.folder, experiment.name, NOW, "the test is over")


def test_an_experiment_with_nothing_left_for_the_champion_or_beside_another_is_refused(site, second, experiment):
    with pytest.raises(RegistryError, match="is under way"):
        competition.start(site.folder, "another", {second: 0.5}, NOW)
    competition.end(site.folder, experiment.name, NOW, "early")
    for shares, why in (({second: 1.0}, "add up to 1"), ({"1": 0.5}, "is the champion itself"), ({}, "No challenger")):
        with pytest.raises(RegistryError, match=why):
            competition.start(site.folder, "another", shares, NOW)
    with pytest.raises(RegistryError):
        competition.start(site.folder, "another", {"99": 0.5}, NOW)
    with pytest.raises(RegistryError, match="cannot name an experiment"):
        competition.start(site.folder, "../x", {second: 0.5}, NOW)
    assert registry.CHAMPION == "champion"
