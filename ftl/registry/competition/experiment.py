"""An experiment: who competes, for which share of the applicants, until when, and what may be concluded from it."""

import hashlib
import re
import secrets
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ftl.consortium import Folder
from ftl.crypto.keystore import replace
from ftl.errors import RegistryError
from ftl.registry import store
from ftl.registry.promotion import check_gate
from ftl.registry.versions import CHAMPION, ModelVersion, bundle_of, current_version

NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
Policy = Literal["automatic", "ask", "never"]
Mode = Literal["split", "shadow"]
Share = Annotated[float, Meta(gt=0, lt=1)]
UNIT = 1 << 64


class StopRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a verdict may be spoken.

    Attributes:
        alpha: how often a challenger that is no better may be promoted, however often one looks.
        least_bad, least_good: outcomes of either kind before the first look counts.
        most_days: the experiment ends after so many days without a winner.
        worthwhile: AUC difference that the test is tuned to find soonest.
    """

    alpha: Annotated[float, Meta(gt=0, lt=0.5)] = 0.05
    least_bad: Annotated[int, Meta(ge=10)] = 50
    least_good: Annotated[int, Meta(ge=10)] = 50
    most_days: Annotated[int, Meta(ge=1)] = 90
    worthwhile: Annotated[float, Meta(gt=0, lt=0.5)] = 0.01


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Guardrails: a challenger that breaks one is not promoted, however well it ranks.

    Attributes:
        latency_ratio: its 99th percentile of latency over the champion's, at most.
        degraded: share of its answers without a party that it needs, at most.
        calibration: its mean predicted probability over the observed bad rate lies within 1/x and x.
        stability: population stability index of its scores against the champion's, at most.
        disparity: lowest approval rate of a group over the highest, at least (29 CFR 1607.4(D), four fifths).
        errors: share of its requests that it failed to answer, at most; or the champion's, where that is more.
    """

    latency_ratio: Annotated[float, Meta(gt=1)] = 2.0
    degraded: Annotated[float, Meta(ge=0, le=1)] = 0.05
    calibration: Annotated[float, Meta(gt=1)] = 1.5
    stability: Annotated[float, Meta(gt=0)] = 1.0
    disparity: Annotated[float, Meta(ge=0, le=1)] = 0.8
    errors: Annotated[float, Meta(ge=0, le=1)] = 0.01


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A competition.

    Attributes:
        name: of the experiment.
        model: of the registered model.
        champion: version that answers whoever no challenger answers.
        challengers: version to the share of applicants that it answers; in shadow mode to the share that it scores.
        mode: ``split``: a challenger answers its share. ``shadow``: it is scored and never answered.
        key: hex, draws who belongs to whose share; the same applicant always to the same.
        started: when.
        cutoff: probability of default up to which an application counts as approved.
        stop: when a verdict may be spoken.
        limits: guardrails.
        policy: what happens to a winner: promoted at once, after a person has agreed, or never by this experiment.
        ended: when it ended, or None.
        why: it ended.
    """

    name: str
    model: str
    champion: str
    challengers: dict[str, Share]
    mode: Mode
    key: str
    started: datetime
    cutoff: Annotated[float, Meta(gt=0, lt=1)] = 0.2
    stop: StopRule = StopRule()
    limits: Limits = Limits()
    policy: Policy = "ask"
    ended: datetime | None = None
    why: str = ""

    def arm(self, pseudonym: bytes) -> str:
        """The version whose share an applicant belongs to; always the same.

        Args:
            pseudonym: of the applicant.
        """
        drawn = hashlib.blake2b(pseudonym, key=bytes.fromhex(self.key), digest_size=8).digest()
        place = int.from_bytes(drawn, "big") / UNIT
        for version, share in self.challengers.items():
            if place < share:
                return version
            place -= share
        return self.champion


def start(
    folder: Folder,
    name: str,
    challengers: dict[str, float],
    now: datetime,
    *,
    mode: Mode = "split",
    policy: Policy = "ask",
    cutoff: float = 0.2,
    stop: StopRule | None = None,
    limits: Limits | None = None,
) -> Experiment:
    """Begin an experiment against the present champion.

    Args:
        folder: the consortium.
        name: lower-case letters, digits and dashes.
        challengers: version to its share of the applicants.
        now: with its zone.
        mode: whether challengers answer.
        policy: what happens to a winner.
        cutoff: probability of default up to which an application counts as approved.
        stop: when a verdict may be spoken.
        limits: guardrails.

    Returns:
        the experiment; gateways take it up within seconds.

    Raises:
        RegistryError: the name is taken or impossible, another experiment runs, a version does not exist or was refused
            by the offline gate, shares do not leave anything to the champion.
    """
    model, uri = folder.consortium.training.model_name, store.tracking_uri(folder)
    _check_name(folder, name)
    champion = current_version(uri, model, CHAMPION)
    if champion is None:
        raise RegistryError(f"{model} has no champion to compete with.", cure="Train and register a model first.")
    _check_shares(challengers, champion.version)
    for version in challengers:
        check_gate(uri, ModelVersion(model, version))
        bundle_of(uri, ModelVersion(model, version))
    experiment = Experiment(
        name,
        model,
        champion.version,
        challengers,
        mode,
        secrets.token_hex(32),
        now,
        cutoff,
        stop or StopRule(),
        limits or Limits(),
        policy,
    )
    _write(folder, _checked(experiment))
    return experiment


def end(folder: Folder, name: str, now: datetime, why: str) -> Experiment:
    """End an experiment; its champion answers everybody again. Ending it twice changes nothing.

    Raises:
        RegistryError: there is none of that name.
    """
    experiment = read_experiment(folder, name)
    if experiment.ended is None:
        experiment = msgspec.structs.replace(experiment, ended=now, why=why)
        _write(folder, experiment)
    return experiment


def running(folder: Folder) -> Experiment | None:
    """The experiment under way, if any."""
    return next((one for one in experiments(folder) if one.ended is None), None)


def experiments(folder: Folder) -> list[Experiment]:
    """All experiments, by name."""
    return [read_experiment(folder, path.parent.name) for path in sorted(home(folder).glob("*/experiment.json"))]


def read_experiment(folder: Folder, name: str) -> Experiment:
    """One experiment.

    Raises:
        RegistryError: there is none of that name, or its file is unreadable.
    """
    path = home(folder) / name / "experiment.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Experiment)
    except FileNotFoundError as exc:
        known = ", ".join(sorted(one.name for one in home(folder).glob("*"))) or "none"
        raise RegistryError(f"There is no experiment {name!r}.", cure=f"There are: {known}.") from exc
    except msgspec.MsgspecError as exc:
        raise RegistryError(f"{path} is no experiment: {exc}.", cure="Restore it from a backup.") from exc


def home(folder: Folder) -> Path:
    """Where experiments lie at the coordinator, a folder each."""
    return folder.coordinator / "experiments"


def _check_name(folder: Folder, name: str) -> None:
    if not NAME.fullmatch(name):
        raise RegistryError(f"{name!r} cannot name an experiment.", cure="Use lower-case letters, digits and '-'.")
    if (home(folder) / name).exists():
        raise RegistryError(f"There was an experiment {name!r} already.", cure="Choose another name.")
    if other := running(folder):
        raise RegistryError(
            f"Experiment {other.name!r} is under way.", cure=f"End it first: ftl experiment end … {other.name}."
        )


def _check_shares(challengers: dict[str, float], champion: str) -> None:
    if not challengers or champion in challengers:
        what = f"Version {champion} is the champion itself." if challengers else "No challenger was named."
        raise RegistryError(what, cure="Name other versions, each with its share.")
    if not sum(challengers.values()) < 1 or min(challengers.values()) <= 0:
        raise RegistryError(
            f"The challengers' shares add up to {sum(challengers.values()):g}.",
            cure="Each must be above 0, and together below 1, so that the champion keeps answering.",
        )


def _checked(experiment: Experiment) -> Experiment:
    """Decoded again: bounds are checked there."""
    try:
        return msgspec.json.decode(msgspec.json.encode(experiment), type=Experiment)
    except msgspec.ValidationError as exc:
        raise RegistryError(f"The experiment cannot be started: {exc}.", cure="Correct the value it names.") from exc


def _write(folder: Folder, experiment: Experiment) -> None:
    path = home(folder) / experiment.name / "experiment.json"
    replace(path, msgspec.json.format(msgspec.json.encode(experiment), indent=2))
