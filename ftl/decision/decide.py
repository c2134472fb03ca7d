"""From an applicant's answer to a decision: blacklist, scores, indicators, rules, limit; and what to do when it fails.

A decision is never made by default: what cannot be scored, scores outside the range that the model was calibrated on,
and a failure while deciding each have a code of their own and are referred to a person.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import numpy as np

from ftl.consortium.model import Scorecard
from ftl.decision.entropy import APPLICATIONS, COLLECTIONS, TRANSACTIONS, Counts, credit_entropy, entropy, gain
from ftl.decision.policy import ORDINARY, Policy
from ftl.decision.scorecard import score
from ftl.errors import FtlError, PolicyError

Anomaly = Literal["cannot_score", "abnormal_score", "run_time_error"]
NO_SERVICE = "There is no such service."


class Application(msgspec.Struct, frozen=True):
    """What an application asks for, and what is known of the applicant beside the scores. Names nobody.

    Attributes:
        amount: of money, in the consortium's currency.
        term: months.
        product: code.
        listed: whether the applicant is on the consortium's blacklist.
        velocity_day, velocity_month: applications by the same person in the last day and the last 30 days.
        events: kind to counts, for entropy.
    """

    amount: float
    term: int
    product: str = ""
    listed: bool = False
    velocity_day: int = 0
    velocity_month: int = 0
    events: dict[str, dict[str, int]] = {}


class Scored(msgspec.Struct, frozen=True):
    """What the model says of the applicant.

    Attributes:
        probability: of default.
        degraded: whether a party that the model needs did not answer.
    """

    probability: float
    degraded: bool = False


class Scores(msgspec.Struct, frozen=True):
    """The scores of a decision, all on the consortium's scale; None where a module did not run or there is no model.

    Attributes:
        credit: from the probability of default.
        income: from a regression model, once the consortium has one.
        fraud: from an expert's weights on indicators.
        standard: the policy's combination of credit and fraud.
    """

    credit: int | None = None
    income: int | None = None
    fraud: int | None = None
    standard: int | None = None


class Decision(msgspec.Struct, frozen=True):
    """The outcome.

    Attributes:
        decision: ``approve``, ``refer`` to a person, or ``decline``; None where the service does not decide.
        scores: that it rests on.
        band: of risk.
        limit: money that may be lent.
        rate: yearly.
        months: longest term.
        product: recommended, where the policy says one.
        rules: that fired.
        listed: whether the applicant is on the blacklist.
        anomaly: why a person must look at it, if something went wrong.
        service: code of the service.
        policy: name and version.
        more: whatever else the policy's graph says.
    """

    decision: Literal["approve", "refer", "decline"] | None
    scores: Scores
    listed: bool
    service: str
    policy: str
    band: str | None = None
    limit: float | None = None
    rate: float | None = None
    months: int | None = None
    product: str | None = None
    rules: list[str] = []
    anomaly: Anomaly | None = None
    more: dict[str, Any] = {}


KNOWN = frozenset({"decision", "rule", "limit", "rate", "months", "product"})


def decide(
    policy: Policy, service: str, application: Application, scored: Scored | FtlError | None, scorecard: Scorecard
) -> Decision:
    """Decide on one application.

    Args:
        policy: that counts today.
        service: code; says which modules run.
        application: what is asked for.
        scored: by the model; why it could not be scored; or None where nobody knows the applicant.
        scorecard: the consortium's scale.

    Raises:
        PolicyError: the policy has no such service.
    """
    modules = policy.declared.services.get(service)
    if modules is None:
        raise PolicyError(NO_SERVICE, cure=f"Services: {', '.join(policy.declared.services)}.")
    listed = application.listed if "blacklist" in modules else False
    name = f"{policy.declared.name}/{policy.declared.version}"
    if "scores" not in modules:
        return Decision("decline" if listed else None, Scores(), listed, service, name)
    if not isinstance(scored, Scored):
        anomaly: Anomaly = "cannot_score" if scored is None else "run_time_error"
        return Decision("refer", Scores(), listed, service, name, anomaly=anomaly)
    given = indicators(policy, application, scored, listed=listed)
    scores = _scores(policy, given, scorecard)
    low, high = policy.declared.calibrated
    if not low <= scored.probability <= high:
        return Decision("refer", scores, listed, service, name, given["band"], anomaly="abnormal_score")
    if "rules" not in modules:
        return Decision(None, scores, listed, service, name, given["band"])
    return _by_rules(policy, {**given, "score": scores.credit}, Decision(None, scores, listed, service, name))


def indicators(policy: Policy, application: Application, scored: Scored, *, listed: bool) -> dict[str, Any]:
    """What rules see of an application, complete: every key of :data:`ORDINARY`."""
    events: Mapping[str, Counts] = application.events
    return {
        **ORDINARY,
        "listed": listed,
        "degraded": scored.degraded,
        "band": policy.band(scored.probability),
        "probability": scored.probability,
        "amount": application.amount,
        "term": application.term,
        "product": application.product,
        "velocity_day": application.velocity_day,
        "velocity_month": application.velocity_month,
        "credit_entropy": credit_entropy(events),
        "entropy_gain": gain(events, policy.declared.base_entropy),
        "entropy_applications": entropy(events.get(APPLICATIONS, {})),
        "entropy_transactions": entropy(events.get(TRANSACTIONS, {})),
        "entropy_collections": entropy(events.get(COLLECTIONS, {})),
    }


def _by_rules(policy: Policy, given: dict[str, Any], plain: Decision) -> Decision:
    try:
        said = policy.rules(given)
    except PolicyError:
        return msgspec.structs.replace(plain, decision="refer", band=given["band"], anomaly="run_time_error")
    return msgspec.structs.replace(
        plain,
        decision=said["decision"],
        band=given["band"],
        limit=said.get("limit"),
        rate=said.get("rate"),
        months=said.get("months"),
        product=said.get("product") or None,
        rules=[rule for rule in (said.get("rule"), *said.get("rules", ())) if rule],
        more={key: value for key, value in said.items() if key not in given and key not in KNOWN and key != "rules"},
    )


def _scores(policy: Policy, given: dict[str, Any], scorecard: Scorecard) -> Scores:
    fraud = policy.fraud_probability(given)
    odds = {name: np.log(p) - np.log1p(-p) for name, p in (("credit", given["probability"]), ("fraud", fraud))}
    weights = dict[str, float](policy.declared.standard.items())
    mean = sum(weights.get(name, 0.0) * one for name, one in odds.items()) / sum(weights.values())
    combined = 1 / (1 + np.exp(-mean))
    points = score(np.array([given["probability"], fraud, combined]), scorecard).tolist()
    return Scores(credit=points[0], fraud=points[1], standard=points[2])
