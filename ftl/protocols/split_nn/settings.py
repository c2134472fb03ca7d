"""Settings of `split_nn`, and what they come to for a given number of shared people."""

import difflib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ftl.errors import ConsortiumError
from ftl.protocols.split_nn.budget import noise_for

BATCH_PEOPLE = 2000
"""Shared people for each exchange of a round, unless `batches` says otherwise."""
MOST_BATCHES = 8


class Settings(BaseModel):
    """How the network is built, trained and protected. Defaults were compared with test figures in sight."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int = Field(24, ge=1, le=200)
    """Most rounds; in each, every shared person's vector is released once. More rounds cost more of the budget."""
    patience: int = Field(8, ge=1)
    """Rounds without a better validation loss before the run stops; the best round is kept."""
    validation: float = Field(0.2, ge=0.05, le=0.5)
    """Share of the shared people that trains nothing and tells when to stop; drawn without regard to labels."""
    batches: int | None = Field(None, ge=1, le=64)
    """Exchanges per round, each on its own people, the same in all rounds. None: one for every 2,000 shared people, at
    most 8."""
    width: int = Field(4, ge=1, le=64)
    """Numbers in a party's vector. Wider ones share the same length, so each number is covered by the noise more."""
    hidden: int = Field(16, ge=1, le=256)
    """Width of the layer above the vectors."""
    max_bins: int = Field(16, ge=2, le=100)
    """Quantile bins of a numeric column; a category and *missing* are bins of their own."""
    min_bucket: int | None = Field(None, ge=2)
    """Fewest training people of a batch behind one returned sum; rarer bins are put together. None: a fiftieth of the
    batch, at least 5 and at most 20."""
    local_epochs: int = Field(1, ge=1, le=50)
    """Passes of the active party over a released batch before it answers (FedBCD)."""
    minibatch: int = Field(256, ge=8)
    """People in each of its steps."""
    learning_rate: float = Field(0.02, gt=0, le=1)
    """Of the active party's network (Adam)."""
    embedding_rate: float = Field(0.1, gt=0, le=1)
    """Of the passive parties' tables (Adam), one step for each exchange."""
    l2: float = Field(0.01, ge=0)
    """Weight decay of the active party's network."""
    active_columns: Literal["base", "all"] = "base"
    """What the network sees of the active party: its base model's answer, or a vector of its columns too. The base has
    learned from the columns already, so `all` mostly overfits. Classes have no base and always use all."""
    noise: float = Field(0.5, ge=0)
    """Standard deviation of the noise on each number of a released vector, where the vector's greatest length is 1."""
    epsilon: float | None = Field(None, gt=0)
    """Instead of `noise`: what all rounds may cost a person at delta = 1e-5."""
    noise_at_scoring: bool = True
    """Whether a scored person's vector has the same noise; the same person gets the same noise again."""
    gradient_noise: float = Field(30.0, ge=0)
    """Standard deviation of the noise on each returned sum, where one person moves a sum by at most 1. More hides more
    of the labels, and slows what is learned."""
    min_shared: int = Field(100, ge=40)
    """With fewer shared training people the run falls back to the active party alone."""
    cipher: Literal["ou", "paillier"] = "ou"
    """Okamoto–Uchiyama or Paillier (some ten times slower, and studied for longer)."""
    key_bits: int = Field(2048, ge=2048, le=8192)
    """Length of the modulus."""

    def plan(self, shared: int) -> "Plan":
        """What the settings come to for `shared` training people."""
        batches = self.batches or min(max(shared // BATCH_PEOPLE, 1), MOST_BATCHES)
        fitting = shared - round(shared * self.validation)
        least = self.min_bucket or min(max(fitting // batches // 50, 5), 20)
        noise = self.noise if self.epsilon is None else noise_for(self.epsilon, self.rounds)
        return Plan(shared, self.rounds, batches, self.validation, self.width, self.max_bins, least, noise)


class Plan(msgspec.Struct, frozen=True):
    """What all parties of a run agree on; each works it out, and the active party's must be the same.

    Attributes:
        shared: training people that all parties know.
        rounds: most rounds.
        batches: exchanges per round.
        validation: share of the people who train nothing.
        width: numbers in a vector.
        max_bins: bins of a numeric column.
        min_bucket: fewest people of a batch in a bucket.
        noise: standard deviation over the greatest length of a vector.
    """

    shared: int
    rounds: int
    batches: int
    validation: float
    width: int
    max_bins: int
    min_bucket: int
    noise: float


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
                f"split_nn has no setting {key!r}.", cure=f"{hint}It has {', '.join(Settings.model_fields)}."
            )
    try:
        return Settings.model_validate(dict(given))
    except ValidationError as exc:
        first = exc.errors()[0]
        key = str(first["loc"][0])
        raise ConsortiumError(
            f"split_nn setting {key!r} is {given.get(key)!r}: {first['msg']}.",
            cure=f"The default is {Settings.model_fields[key].default!r}.",
        ) from exc
