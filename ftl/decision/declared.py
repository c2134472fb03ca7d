"""What ``policy.json`` declares, checked."""

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ftl.errors import PolicyError

POLICY = "policy.json"
Module = Literal["blacklist", "scores", "rules"]
Anomaly = Literal["cannot_score", "abnormal_score", "run_time_error"]
Text = Annotated[str, Meta(min_length=1)]
SERVICE_CODE = r"^[a-z][a-z0-9_-]*\.[0-9]+$"
"""Name and version, such as ``full.1``."""
ServiceCode = Annotated[str, Meta(pattern=SERVICE_CODE, max_length=64)]
Plain = dict[str, Any]


class FraudWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An expert's logistic weights on indicators; nothing here was learned from data.

    Attributes:
        intercept: log-odds of fraud with every indicator at 0.
        weights: indicator to what one unit of it adds.
    """

    intercept: float
    weights: dict[str, float]


class Declared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``policy.json`` says.

    Attributes:
        name: of the policy.
        version: of it.
        effective_from: first day on which it counts.
        approved_by: who decided so.
        services: service code to the modules that run for it.
        bands: band to the highest probability of default in it, ascending; the last is 1.
        calibrated: probabilities outside are called abnormal and referred.
        standard: score to its weight in the combined one; one that is not known is left out.
        fraud: how indicators become a fraud score.
        retries: times that the parties are asked again after an anomaly.
        retried: anomalies after which they are.
        most_lost: band to the points that its reasons may have cost together; beyond, they contradict the score.
        explained: bands in which a score without any reason contradicts itself.
        income_bands: band of income to the smallest income in it, ascending.
        base_entropy: kind of event to the base population's entropy, in bits.
        approved_digest: of what was approved, as `ftl policy approve` writes it; empty without.
    """

    name: Text
    version: Text
    effective_from: date
    approved_by: Text
    services: dict[ServiceCode, list[Module]]
    bands: dict[str, Annotated[float, Meta(gt=0, le=1)]]
    calibrated: tuple[float, float]
    standard: dict[Literal["credit", "income", "fraud"], Annotated[float, Meta(ge=0)]]
    fraud: FraudWeights
    retries: Annotated[int, Meta(ge=0, le=5)] = 1
    retried: tuple[Anomaly, ...] = ("run_time_error",)
    most_lost: dict[str, Annotated[float, Meta(gt=0)]] = {}
    explained: list[str] = []
    income_bands: dict[str, Annotated[float, Meta(ge=0)]] = {}
    base_entropy: dict[str, float] = {}
    approved_digest: str = ""


ORDINARY: Plain = {
    "listed": False,
    "degraded": False,
    "band": "C",
    "score": 600,
    "probability": 0.08,
    "income": None,
    "amount": 10_000.0,
    "term": 12,
    "product": "",
    "velocity_day": 0,
    "velocity_month": 0,
    "credit_entropy": 1.0,
    "entropy_gain": 0.0,
    "entropy_applications": 0.0,
    "entropy_transactions": 0.0,
    "entropy_collections": 0.0,
}
"""Every indicator that rules may use, with the value of an ordinary application; income is None where no model says."""
COUNTABLE = tuple(name for name, value in ORDINARY.items() if isinstance(value, int | float))
"""Those that a weight can be put on."""


def check(place: Path, declared: Declared) -> None:
    """Refuse what contradicts itself.

    Args:
        place: the policy's folder, for the message.
        declared: what its file says.

    Raises:
        PolicyError: bands, an indicator or the combination of scores is wrong.
    """
    highest = list(declared.bands.values())
    if not highest or highest != sorted(set(highest)) or highest[-1] != 1:
        raise PolicyError(f"{place / POLICY}: bands must ascend and end at 1.", cure="Correct `bands`.")
    if unknown := sorted({*declared.most_lost, *declared.explained} - declared.bands.keys()):
        raise PolicyError(f"{place / POLICY}: there is no band {unknown[0]!r}.", cure="Name one of `bands`.")
    if list(declared.income_bands.values()) != sorted(set(declared.income_bands.values())):
        raise PolicyError(f"{place / POLICY}: `income_bands` must ascend.", cure="Correct it.")
    if unknown := sorted(declared.fraud.weights.keys() - set(COUNTABLE)):
        raise PolicyError(
            f"{place / POLICY}: there is no indicator {unknown[0]!r} to weigh.", cure=f"Known: {', '.join(COUNTABLE)}."
        )
    if sum(weight for score, weight in declared.standard.items() if score != "income") <= 0:
        raise PolicyError(
            f"{place / POLICY}: `standard` needs a weight above 0 of credit or fraud.", cure="Correct it."
        )


def read(path: Path, kind: Any) -> Any:
    """A JSON file of a policy as a value of `kind`.

    Args:
        path: of the file.
        kind: type of what it holds.

    Raises:
        PolicyError: it is missing or wrong; names it and the field.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        raise PolicyError(
            f"{path} is missing.", cure="A policy needs policy.json, decision.json, examples.json."
        ) from None
    except (OSError, msgspec.MsgspecError) as exc:
        raise PolicyError(f"{path}: {exc}.", cure="Correct the file.") from exc
