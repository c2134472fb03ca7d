"""Settings of `neural_transfer`."""

import difflib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ftl.errors import ConsortiumError


class Settings(BaseModel):
    """How the two networks are trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: int = Field(32, ge=2, le=1024)
    """Width d of the hidden representations. Time and traffic grow in proportion to it, and of the encrypted variant
    with d · (shared people + d)."""
    epochs: int = Field(100, ge=1, le=10_000)
    """Full-batch steps, each one exchange of gradients."""
    learning_rate: float = Field(0.01, gt=0, le=1)
    """Of Adam, in both parties."""
    task_weight: float = Field(100.0, gt=0)
    """Weight of the loss on labels against the alignment of the representations."""
    protection: Literal["shared", "encrypted"] = "encrypted"
    """How gradients are computed: on secret shares, whose masks are made ahead by encryption, or under encryption."""
    calibration: float = Field(0.2, ge=0, le=0.5)
    """Share of the shared training people kept out of training, to turn the network's margin into log-odds and to weigh
    it against the active party's own model. With 0 the margin is taken as it is and the own model is not added."""
    initial_scale: float = Field(1.0, gt=0, le=10)
    """Standard deviation of the weights at the start."""
    standardize: bool = True
    """Bring numeric columns to mean 0 and deviation 1 by the party's own people, cut off at 10 deviations."""
    noise: float = Field(0.0, ge=0)
    """Standard deviation of noise that each party adds to the weight gradients it helps the other to, in units of the
    label loss's gradient before `task_weight`. Above 0 runs no longer repeat, since the noise must not be guessed."""
    min_shared: int = Field(40, ge=10)
    """With fewer shared training people the run falls back to the active party alone."""
    checkpoint_every: int = Field(10, ge=1)
    """Epochs between two checkpoints."""

    def calibration_people(self, shared: int) -> int:
        """How many of `shared` training people are kept out of training."""
        return round(self.calibration * shared)


class Plan(msgspec.Struct, frozen=True):
    """What both parties of a run agree on; the active party sends it.

    Attributes:
        shared: training people that both parties know.
        calibration: how many of them are kept out of training.
        test: people of the holdout that both parties know.
        hidden: width of the representations.
        epochs: steps.
        protection: how gradients are computed.
        inputs: columns of the active party's network, with the constant.
    """

    shared: int
    calibration: int
    test: int
    hidden: int
    epochs: int
    protection: Literal["shared", "encrypted"]
    inputs: int


def check(given: Mapping[str, Any]) -> Settings:
    """Freeze the settings.

    Raises:
        ConsortiumError: names the wrong key and the nearest right one, or the key, its value and what it must be.
    """
    for key in given:
        if key not in Settings.model_fields:
            near = difflib.get_close_matches(key, Settings.model_fields, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ConsortiumError(
                f"neural_transfer has no setting {key!r}.", cure=f"{hint}It has {', '.join(Settings.model_fields)}."
            )
    try:
        return Settings.model_validate(dict(given))
    except ValidationError as exc:
        first = exc.errors()[0]
        key = str(first["loc"][0])
        raise ConsortiumError(
            f"neural_transfer setting {key!r} is {given.get(key)!r}: {first['msg']}.",
            cure=f"The default is {Settings.model_fields[key].default!r}.",
        ) from exc
