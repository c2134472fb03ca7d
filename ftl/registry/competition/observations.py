"""What gateways saw of an experiment, and the outcomes that arrived later, joined by a keyed subject.

No identifier is written: a subject is a hash under the coordinator's metering key, unlike the pseudonym that parties
know. An outcome may come late, for some people only, and may be corrected: the last one that arrived counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.errors import RegistryError

T = TypeVar("T", bound=msgspec.Struct)

EXPOSURES, OUTCOMES = "exposures.jsonl", "outcomes.jsonl"


class Exposure(msgspec.Struct, frozen=True, array_like=True):
    """One answer.

    Attributes:
        at: seconds since 1970.
        subject: hex.
        arm: version that answered.
        scored: version to its probability of default.
        milliseconds: version to the time its sub-scores took.
        degraded: versions that lacked a party.
        failed: versions that were asked and gave no answer.
    """

    at: float
    subject: str
    arm: str
    scored: dict[str, float]
    milliseconds: float
    degraded: list[str] = []
    failed: list[str] = []


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of an applicant.

    Attributes:
        at: seconds since 1970, when it was told.
        subject: hex.
        outcome: whether the loan went bad; None takes back what was told before.
        group: that the applicant belongs to, for comparing approval rates; never used to score.
    """

    at: float
    subject: str
    outcome: Literal["bad", "good"] | None
    group: str = ""


@dataclass(frozen=True)
class Observations:
    """People with a known outcome whom two versions have scored, and all answers.

    Attributes:
        label: float64, shape (n,), 1 is bad.
        champion: float64, shape (n,), its probability of default.
        challenger: float64, shape (n,).
        group: n texts, empty where not told.
        all_champion, all_challenger: float64, shape (m,): probabilities of everybody, outcome known or not.
        milliseconds: version to the times of the answers it gave, float64.
        degraded: version to its share of answers without a party it needs.
        errors: version to the share of requests that it failed to answer.
    """

    label: NDArray[np.float64]
    champion: NDArray[np.float64]
    challenger: NDArray[np.float64]
    group: tuple[str, ...]
    all_champion: NDArray[np.float64]
    all_challenger: NDArray[np.float64]
    milliseconds: dict[str, NDArray[np.float64]]
    degraded: dict[str, float]
    errors: dict[str, float]


def observations(place: Path, champion: str, challenger: str) -> Observations:
    """Join what was seen.

    A person who applied several times counts once, with the first answer: several would not be independent. Requests
    that a version failed to answer count among its errors only.

    Args:
        place: the experiment's folder; outcomes, which all experiments share, lie beside it.
        champion: version.
        challenger: version.

    Raises:
        RegistryError: a file holds a line that is none of ours.
    """
    requests = _lines(place / EXPOSURES, Exposure)
    exposures: dict[str, Exposure] = {}
    for one in requests:
        if not one.failed:
            exposures.setdefault(one.subject, one)
    outcomes = {one.subject: one for one in sorted(_lines(place.parent / OUTCOMES, Outcome), key=lambda one: one.at)}
    both = [one for one in exposures.values() if champion in one.scored and challenger in one.scored]
    known = [
        (one, told) for one in both if (told := outcomes.get(one.subject)) is not None and told.outcome is not None
    ]
    return Observations(
        label=np.array([told.outcome == "bad" for _, told in known], dtype=np.float64),
        champion=np.array([one.scored[champion] for one, _ in known], dtype=np.float64),
        challenger=np.array([one.scored[challenger] for one, _ in known], dtype=np.float64),
        group=tuple(told.group for _, told in known),
        all_champion=np.array([one.scored[champion] for one in both], dtype=np.float64),
        all_challenger=np.array([one.scored[challenger] for one in both], dtype=np.float64),
        milliseconds={arm: _times(exposures.values(), arm) for arm in (champion, challenger)},
        degraded={arm: _degraded(exposures.values(), arm) for arm in (champion, challenger)},
        errors={arm: _errors(requests, arm) for arm in (champion, challenger)},
    )


def _times(exposures: Iterable[Exposure], arm: str) -> NDArray[np.float64]:
    return np.array([one.milliseconds for one in exposures if one.arm == arm], dtype=np.float64)


def _degraded(exposures: Iterable[Exposure], arm: str) -> float:
    lacking = [arm in one.degraded for one in exposures if arm in one.scored]
    return float(np.mean(lacking)) if lacking else 0.0


def _errors(requests: Iterable[Exposure], arm: str) -> float:
    failed = [arm in one.failed for one in requests if arm in one.scored or arm in one.failed]
    return float(np.mean(failed)) if failed else 0.0


def _lines(path: Path, kind: type[T]) -> list[T]:
    """All whole lines; one that a crash cut off is left out."""
    if not path.exists():
        return []
    decoder = msgspec.json.Decoder(kind)
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            found.append(decoder.decode(line))
        except msgspec.MsgspecError as exc:
            raise RegistryError(f"{path}:{number} cannot be read: {exc}.", cure="Remove the line.") from exc
    return found
