"""The four scores of a decision, all on the consortium's scale, and what each rests on.

A score is linear in log-odds, so scores are combined there: the *standard* one is the weighted mean of the log-odds of
those that are known. Income has no odds; as twice the income is worth as many points as twice the odds, it enters as
the odds that would give its points.
"""

import math
from typing import Any

import msgspec

from ftl.consortium.deciding import Income, Scorecard
from ftl.decision.policy import Policy
from ftl.decision.scorecard import SMALLEST_PROBABILITY, points

SMALLEST_INCOME = 1e-9
"""Keeps the logarithm finite; far below the floor of any scorecard."""


class Scored(msgspec.Struct, frozen=True):
    """What models say of the applicant.

    Attributes:
        probability: of default.
        degraded: whether a party that the model needs did not answer.
        model: name and version that said it.
        lost: scorecard points that each reason given cost; None where they are not known.
        income: estimate, where the consortium has a model of it that knows the applicant.
        income_model: name and version that said that.
    """

    probability: float
    degraded: bool = False
    model: str = ""
    lost: list[float] | None = None
    income: float | None = None
    income_model: str = ""


class Basis(msgspec.Struct, frozen=True):
    """What a score rests on.

    Attributes:
        band: of risk, or of income; None where the policy has no bands for it.
        model: name and version of the model, or of the policy whose weights were used.
        probability: of default or of fraud; None of income.
        estimate: of income; None of the others.
    """

    band: str | None
    model: str
    probability: float | None = None
    estimate: float | None = None


class Scores(msgspec.Struct, frozen=True):
    """The scores of a decision; None where a module did not run or there is no model.

    Attributes:
        credit: from the probability of default.
        income: from a regression model, where the consortium has one.
        fraud: from an expert's weights on indicators.
        standard: the policy's combination of the others.
        basis: score to what it rests on.
    """

    credit: int | None = None
    income: int | None = None
    fraud: int | None = None
    standard: int | None = None
    basis: dict[str, Basis] = {}


def four(
    policy: Policy, given: dict[str, Any], scored: Scored, scorecard: Scorecard, declared: Income | None
) -> Scores:
    """All scores of an applicant.

    Args:
        policy: that counts today.
        given: indicators.
        scored: by the models.
        scorecard: the consortium's scale.
        declared: how income becomes a score; None without a model of it.
    """
    odds = {"credit": _log_odds(scored.probability), "fraud": _log_odds(policy.fraud_probability(given))}
    if scored.income is not None and declared is not None:
        richer = math.log(max(scored.income, SMALLEST_INCOME) / declared.base)
        odds["income"] = -(math.log(scorecard.base_odds) + richer)
    weights = {name: weight for name, weight in policy.declared.standard.items() if name in odds}
    odds["standard"] = sum(weight * odds[name] for name, weight in weights.items()) / sum(weights.values())
    chances = {name: 1 / (1 + math.exp(-one)) for name, one in odds.items()}
    on_scale = {name: points(chance, scorecard) for name, chance in chances.items()}
    return Scores(**on_scale, basis=_basis(policy, scored, chances))


def _basis(policy: Policy, scored: Scored, chances: dict[str, float]) -> dict[str, Basis]:
    own = policy.named
    models = {"credit": scored.model, "fraud": own, "standard": own}
    found = {name: Basis(policy.band(chances[name]), model, chances[name]) for name, model in models.items()}
    if scored.income is not None and "income" in chances:
        found["income"] = Basis(policy.income_band(scored.income), scored.income_model, estimate=scored.income)
    return found


def _log_odds(probability: float) -> float:
    bounded = min(max(probability, SMALLEST_PROBABILITY), 1 - SMALLEST_PROBABILITY)
    return math.log(bounded) - math.log1p(-bounded)
