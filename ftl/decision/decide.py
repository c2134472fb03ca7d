"""From an applicant's answer to a decision: blacklist, scores, indicators, rules, limit; and what to do when it fails.

A decision is never made by default: what cannot be scored, scores outside the range that the model was calibrated on,
and a failure while deciding each have a code of their own and are referred to a person.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ftl.consortium.deciding import Income, Scorecard
from ftl.decision.anomaly import anomaly
from ftl.decision.declared import ORDINARY, Anomaly
from ftl.decision.entropy import APPLICATIONS, COLLECTIONS, TRANSACTIONS, Counts, credit_entropy, entropy, gain
from ftl.decision.policy import Policy
from ftl.decision.scores import Scored, Scores, four
from ftl.errors import FtlError, PolicyError

RULES_FAILED = "The rules failed on this application."


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
        why: the same in words.
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
    why: str | None = None
    more: dict[str, Any] = {}


KNOWN = frozenset({"decision", "rule", "limit", "rate", "months", "product"})


def decide(
    policy: Policy,
    service: str,
    application: Application,
    scored: Scored | FtlError | None,
    scorecard: Scorecard,
    income: Income | None = None,
) -> Decision:
    """Decide on one application.

    Args:
        policy: that counts today.
        service: code; says which modules run.
        application: what is asked for.
        scored: by the models; why it could not be scored; or None where nobody knows the applicant, or where the
            service needs no score.
        scorecard: the consortium's scale.
        income: how income becomes a score; None without a model of it.

    Raises:
        PolicyError: the policy has no such service.
    """
    modules = policy.modules(service)
    listed = application.listed if "blacklist" in modules else False
    plain = Decision(None, Scores(), listed, service, policy.named)
    if "scores" not in modules:
        return msgspec.structs.replace(plain, decision="decline" if listed else None)
    wrong = anomaly(policy, scored)
    if not isinstance(scored, Scored) or (wrong and wrong[0] == "cannot_score"):
        return _referred(plain, wrong)
    given = indicators(policy, application, scored, listed=listed)
    scores = four(policy, given, scored, scorecard, income)
    plain = msgspec.structs.replace(plain, scores=scores, band=given["band"])
    if wrong:
        return _referred(plain, wrong)
    return _by_rules(policy, {**given, "score": scores.credit}, plain) if "rules" in modules else plain


def indicators(policy: Policy, application: Application, scored: Scored, *, listed: bool) -> dict[str, Any]:
    """What rules see of an application, complete: every key of :data:`ORDINARY`."""
    events: Mapping[str, Counts] = application.events
    return {
        **ORDINARY,
        "listed": listed,
        "degraded": scored.degraded,
        "band": policy.band(scored.probability),
        "probability": scored.probability,
        "income": scored.income,
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


def _referred(plain: Decision, wrong: tuple[Anomaly, str] | None) -> Decision:
    code, why = wrong or ("run_time_error", "")
    return msgspec.structs.replace(plain, decision="refer", anomaly=code, why=why)


def _by_rules(policy: Policy, given: dict[str, Any], plain: Decision) -> Decision:
    try:
        said = policy.rules(given)
    except PolicyError:  # its message names the policy's folder, which is nothing to a client
        return _referred(plain, ("run_time_error", RULES_FAILED))
    return msgspec.structs.replace(
        plain,
        decision=said["decision"],
        limit=said.get("limit"),
        rate=said.get("rate"),
        months=said.get("months"),
        product=said.get("product") or None,
        rules=[rule for rule in (said.get("rule"), *said.get("rules", ())) if rule],
        more={key: value for key, value in said.items() if key not in given and key not in KNOWN and key != "rules"},
    )
