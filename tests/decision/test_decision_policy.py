"""Policies as files, decisions by them, and what happens when something goes wrong."""

import json
import math
import shutil
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftl.consortium.deciding import Scorecard
from ftl.decision import Application, Policy, Scored, decide, effective, policies
from ftl.decision.entropy import credit_entropy, entropy, gain
from ftl.decision.policy import SHIPPED
from ftl.errors import PartyUnavailable, PolicyError

CARD = Scorecard()
COUNTS = st.dictionaries(st.text(max_size=3), st.integers(0, 1000), max_size=6)


@pytest.fixture(scope="module")
def policy():
    return Policy(SHIPPED / "standard")


@pytest.fixture
def own(tmp_path):
    shutil.copytree(SHIPPED / "standard", tmp_path / "own")
    return tmp_path / "own"


def change(place, file, **values):
    path = place / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def plain(**more) -> Application:
    return Application(**{"amount": 50_000.0, "term": 24, **more})


def test_the_shipped_policy_passes_its_own_examples(policy):
    assert policy.failures() == []


def test_an_example_that_fails_says_what_was_expected_and_what_was_found(own):
    rows = json.loads((own / "examples.json").read_text())
    rows[0]["expect"]["limit"] = 1
    (own / "examples.json").write_text(json.dumps(rows))
    (failure,) = Policy(own).failures()
    assert (failure.key, failure.expected, failure.found) == ("limit", 1, 50000)


def test_a_good_applicant_is_approved_with_limit_price_and_the_rule_that_fired(policy):
    made = decide(policy, "full.1", plain(), Scored(0.015), CARD)
    assert (made.decision, made.band, made.limit, made.rate, made.months) == ("approve", "A", 50_000, 0.06, 24)
    assert made.rules == ["R0 no rule against it"]
    assert made.anomaly is None
    assert made.scores.credit == round(600 + 20 / math.log(2) * (math.log(0.985 / 0.015) - math.log(50)))


def test_a_listed_applicant_is_declined_by_every_service_that_looks(policy):
    assert decide(policy, "full.1", plain(listed=True), Scored(0.015), CARD).decision == "decline"
    only = decide(policy, "blacklist.1", plain(listed=True), None, CARD)
    assert (only.decision, only.scores.credit) == ("decline", None)
    assert decide(policy, "credit.1", plain(), Scored(0.015), CARD).decision is None


@pytest.mark.parametrize(
    ("scored", "anomaly"),
    [
        (None, "cannot_score"),
        (PartyUnavailable("bank did not answer."), "run_time_error"),
        (Scored(0.0001), "abnormal_score"),
        (Scored(0.995), "abnormal_score"),
    ],
)
def test_what_goes_wrong_is_referred_under_a_code_of_its_own_and_never_decided(policy, scored, anomaly):
    made = decide(policy, "full.1", plain(), scored, CARD)
    assert (made.decision, made.anomaly, made.limit) == ("refer", anomaly, None)


def test_a_graph_that_fails_on_an_application_refers_it(own):
    graph = json.loads((own / "decision.json").read_text())
    next(node for node in graph["nodes"] if node["id"] == "indicators")["content"]["expressions"].append(
        {"id": "e9", "key": "broken", "value": "amount > 40000 ? number('abc') : 1"}
    )
    (own / "decision.json").write_text(json.dumps(graph))
    made = decide(Policy(own), "full.1", plain(amount=50_000.0), Scored(0.015), CARD)
    assert (made.decision, made.anomaly) == ("refer", "run_time_error")


def test_fraud_and_standard_scores_fall_with_haste(policy):
    calm = decide(policy, "full.1", plain(), Scored(0.05), CARD).scores
    hasty = decide(policy, "full.1", plain(velocity_day=3), Scored(0.05), CARD).scores
    assert hasty.fraud < calm.fraud
    assert hasty.standard < calm.standard
    assert hasty.credit == calm.credit
    assert min(calm.credit, calm.fraud) <= calm.standard <= max(calm.credit, calm.fraud)


def test_an_unknown_service_names_the_known_ones(policy):
    with pytest.raises(PolicyError, match="no such service") as caught:
        decide(policy, "full.9", plain(), Scored(0.1), CARD)
    assert "full.1" in caught.value.cure


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"bands": {"A": 0.5, "B": 0.2, "C": 1.0}}, "bands must ascend"),
        ({"bands": {"A": 0.5}}, "end at 1"),
        ({"fraud": {"intercept": 0, "weights": {"shoe_size": 1}}}, "no indicator 'shoe_size'"),
        ({"fraud": {"intercept": 0, "weights": {"band": 1}}}, "no indicator 'band' to weigh"),
        ({"standard": {"income": 1}}, "weight above 0 of credit or fraud"),
        ({"income_bands": {"low": 100, "high": 50}}, "`income_bands` must ascend"),
        ({"most_lost": {"Z": 10}}, "no band 'Z'"),
        ({"approved_by": ""}, "approved_by"),
        ({"effective_from": "soon"}, "effective_from"),
        ({"unheard": 1}, "unheard"),
    ],
)
def test_a_wrong_policy_file_is_refused_with_its_name_and_field(own, values, why):
    change(own, "policy.json", **values)
    with pytest.raises(PolicyError, match=why):
        Policy(own)


def test_a_graph_without_a_decision_is_refused_when_it_is_loaded(own):
    (own / "decision.json").write_text(
        json.dumps({"nodes": [{"id": "in", "type": "inputNode", "name": "in"}], "edges": []})
    )
    with pytest.raises(PolicyError, match=r"decision.json"):
        Policy(own)


def test_of_several_versions_the_newest_that_counts_already_is_used(tmp_path):
    for name, day in (("a", "2026-01-01"), ("b", "2026-03-01"), ("c", "2026-09-01")):
        shutil.copytree(SHIPPED / "standard", tmp_path / name)
        change(tmp_path / name, "policy.json", effective_from=day)
    places = policies(tmp_path)
    assert effective(places, date(2026, 6, 1)).name == "b"
    assert effective(places, date(2026, 9, 1)).name == "c"
    with pytest.raises(PolicyError, match="No policy counts yet"):
        effective(places, date(2025, 1, 1))
    change(tmp_path / "a", "policy.json", effective_from="2026-03-01")
    with pytest.raises(PolicyError, match="begin on the same day"):
        effective(places, date(2026, 6, 1))
    assert policies(tmp_path / "nothing") == [SHIPPED / "standard"]


@given(COUNTS)
def test_entropy_is_between_nothing_and_that_of_equal_shares(counts):
    kinds = sum(count > 0 for count in counts.values())
    assert -1e-9 <= entropy(counts) <= math.log2(max(kinds, 1)) + 1e-9
    assert entropy({**counts, "none of it": 0}) == entropy(counts)


def test_entropy_of_equal_shares_its_gain_and_the_credit_score():
    assert entropy({"a": 5, "b": 5, "c": 5, "d": 5}) == 2.0
    events = {"applications": {"a": 1, "b": 1}, "transactions": {"x": 7}}
    assert credit_entropy(events) == 1 / 2
    assert credit_entropy({}) == 1
    assert gain(events, {"applications": 0.25, "collections": 3.0}) == 0.75
