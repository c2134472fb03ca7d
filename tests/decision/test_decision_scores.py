"""The four scores, what each rests on, and scores that cannot be true."""

import json
import math
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftl.consortium.deciding import Income, Scorecard
from ftl.decision import Application, Policy, Scored, again, anomaly, decide
from ftl.decision.policy import SHIPPED
from ftl.errors import PartyUnavailable, PolicyError

CARD = Scorecard()
INCOME = Income(model="income", base=40_000)
PLAIN = Application(amount=50_000.0, term=24)


def own(place, **values) -> Policy:
    shutil.copytree(SHIPPED / "standard", place / "own")
    path = place / "own" / "policy.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return Policy(place / "own")


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy(SHIPPED / "standard")


def test_every_score_says_its_band_its_model_and_the_probability_or_the_estimate(tmp_path):
    policy = own(tmp_path, income_bands={"low": 0, "middle": 30_000, "high": 90_000})
    scored = Scored(0.03, model="credit_risk/7", income=80_000.0, income_model="income/2")
    scores = decide(policy, "credit.1", PLAIN, scored, CARD, INCOME).scores
    assert scores.income == round(CARD.base_score + CARD.pdo)
    assert {name: one.model for name, one in scores.basis.items()} == {
        "credit": "credit_risk/7",
        "income": "income/2",
        "fraud": "standard/1",
        "standard": "standard/1",
    }
    assert {name: one.band for name, one in scores.basis.items()} == {
        "credit": "B",
        "income": "middle",
        "fraud": "A",
        "standard": "A",
    }
    assert (scores.basis["income"].estimate, scores.basis["income"].probability) == (80_000.0, None)
    assert scores.basis["credit"].probability == pytest.approx(0.03)


def test_without_a_model_of_income_there_is_no_income_score(policy):
    scores = decide(policy, "full.1", PLAIN, Scored(0.03), CARD).scores
    assert scores.income is None
    assert sorted(scores.basis) == ["credit", "fraud", "standard"]


def test_income_enters_the_standard_score_by_its_points_and_only_where_it_is_known(tmp_path):
    policy = own(tmp_path, standard={"credit": 1, "income": 1})
    rich, poor = (decide(policy, "credit.1", PLAIN, Scored(0.05, income=x), CARD, INCOME).scores for x in (9e4, 1e4))
    assert rich.standard > poor.standard
    assert rich.standard == pytest.approx((rich.credit + rich.income) / 2, abs=1)
    alone = decide(policy, "credit.1", PLAIN, Scored(0.05), CARD, INCOME).scores
    assert alone.standard == alone.credit


@given(st.floats(0.001, 0.97), st.one_of(st.none(), st.floats(0, 1e9)))
def test_all_scores_stay_within_floor_and_ceiling(probability, income):
    policy = Policy(SHIPPED / "standard")
    scores = decide(policy, "credit.1", PLAIN, Scored(probability, income=income), CARD, INCOME).scores
    found = [scores.credit, scores.fraud, scores.standard, *([] if income is None else [scores.income])]
    assert all(CARD.floor <= one <= CARD.ceiling for one in found)


def test_rules_may_use_income(tmp_path):
    policy = own(tmp_path)
    graph = json.loads((policy.place / "decision.json").read_text())
    content = next(node for node in graph["nodes"] if node["id"] == "indicators")["content"]
    content["expressions"].append({"id": "e9", "key": "hurried", "value": "income != null and income < 1000"})
    (policy.place / "decision.json").write_text(json.dumps(graph))
    rules = Policy(policy.place)
    assert decide(rules, "full.1", PLAIN, Scored(0.01, income=900.0), CARD, INCOME).decision == "refer"
    assert decide(rules, "full.1", PLAIN, Scored(0.01, income=2000.0), CARD, INCOME).decision == "approve"
    assert decide(rules, "full.1", PLAIN, Scored(0.01), CARD).decision == "approve"


@pytest.mark.parametrize(
    ("scored", "why"),
    [
        (Scored(0.01, lost=[200.0, 51.0]), "The reasons cost more points"),
        (Scored(0.9, lost=[]), "No reason explains"),
    ],
)
def test_reasons_that_contradict_the_score_are_referred(tmp_path, scored, why):
    made = decide(own(tmp_path, explained=["F"]), "full.1", PLAIN, scored, CARD)
    assert (made.decision, made.anomaly, made.limit) == ("refer", "abnormal_score", None)
    assert made.why.startswith(why)


def test_reasons_that_go_with_the_score_or_are_not_known_change_nothing(tmp_path):
    policy = own(tmp_path, explained=["F"])
    for scored in (Scored(0.01, lost=[200.0, 49.0]), Scored(0.01, lost=[]), Scored(0.01), Scored(0.9, lost=[3.0])):
        assert anomaly(policy, scored) is None


def test_a_model_that_gives_no_number_cannot_score(policy):
    made = decide(policy, "full.1", PLAIN, Scored(math.nan), CARD)
    assert (made.decision, made.anomaly, made.scores.credit) == ("refer", "cannot_score", None)


def test_parties_are_asked_again_after_the_anomalies_that_the_policy_names(tmp_path):
    policy = own(tmp_path, retried=["run_time_error", "abnormal_score"])
    away, wrong = PartyUnavailable("bank is away."), PolicyError("bad file.")
    asked = [again(policy, one) for one in (away, Scored(0.999), Scored(0.1), None, wrong)]
    assert asked == [True, True, False, False, False]


def test_a_failure_of_rules_tells_the_client_nothing_of_the_server(tmp_path):
    policy = own(tmp_path)
    graph = json.loads((policy.place / "decision.json").read_text())
    content = next(node for node in graph["nodes"] if node["id"] == "indicators")["content"]
    content["expressions"].append({"id": "e9", "key": "x", "value": "amount > 40000 ? number('abc') : 1"})
    (policy.place / "decision.json").write_text(json.dumps(graph))
    made = decide(Policy(policy.place), "full.1", PLAIN, Scored(0.01), CARD)
    assert made.anomaly == "run_time_error"
    assert str(tmp_path) not in made.why
