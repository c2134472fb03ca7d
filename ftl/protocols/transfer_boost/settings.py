"""Settings of `transfer_boost`, and what they come to for a given number of shared people."""

import difflib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ftl.errors import ConsortiumError


class Settings(BaseModel):
    """How the federated trees are grown. The defaults were chosen by cross-validation on training rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int | None = Field(None, ge=1, le=500)
    """Most rounds; each grows one tree per fold. Fewer are kept when the held-out folds say so. None: 32 of trees with
    one level, 16 of deeper ones."""
    learning_rate: float = Field(0.3, gt=0, le=1)
    """Share of a leaf's Newton step that is taken. A smaller one needs more rounds."""
    depth: int | None = Field(None, ge=1, le=6)
    """Levels of a tree. None: 1 below 600 shared people, 2 below 5,000, else 3; deeper trees need more people."""
    l2: float = Field(20.0, ge=0)
    """Added to a leaf's hessian (lambda of XGBoost). A shared person weighs at most 1/4 against it."""
    min_bucket: int | None = Field(None, ge=2)
    """Fewest training people in a leaf, and between two sums that the active party may decrypt. None: a fiftieth of the
    shared people, at least 5 and at most 20."""
    min_gain: float = Field(1e-6, ge=0)
    """A split must gain more."""
    folds: int = Field(5, ge=2, le=20)
    """Ensembles grown side by side, each without one fold of the shared people; the model is their mean. Those left out
    tell how many rounds to keep and how far to trust the trees."""
    max_bins: int = Field(16, ge=2, le=100)
    """Quantile bins of a numeric column. More bins cost decryption in proportion."""
    active_columns: Literal["base", "all"] = "base"
    """What the federated trees see of the active party: only its base model's log-odds, or all its columns as well.
    With few shared people `all` overfits, since the base has already learned from them on many more rows."""
    min_shared: int = Field(40, ge=10)
    """With fewer shared training people the run falls back to the active party alone."""
    cipher: Literal["ou", "paillier"] = "ou"
    """Okamoto–Uchiyama or Paillier (some ten times slower, and studied for longer)."""
    key_bits: int = Field(2048, ge=2048, le=8192)
    """Length of the modulus."""

    def plan(self, shared: int) -> "Plan":
        """What the settings come to for `shared` training people."""
        depth = self.depth or (1 if shared < 600 else 2 if shared < 5000 else 3)
        rounds = self.rounds or (32 if depth == 1 else 16)
        least = self.min_bucket or min(max(shared // 50, 5), 20)
        return Plan(shared, self.folds, rounds, depth, least, self.max_bins)


class Plan(msgspec.Struct, frozen=True):
    """What all parties of a run agree on; the active party sends it.

    Attributes:
        shared: training people that all parties know.
        folds: ensembles side by side.
        rounds: most rounds.
        depth: levels of a tree.
        min_bucket: fewest training people between two sums.
        max_bins: bins of a numeric column.
    """

    shared: int
    folds: int
    rounds: int
    depth: int
    min_bucket: int
    max_bins: int


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
                f"transfer_boost has no setting {key!r}.", cure=f"{hint}It has {', '.join(Settings.model_fields)}."
            )
    try:
        return Settings.model_validate(dict(given))
    except ValidationError as exc:
        first = exc.errors()[0]
        key = str(first["loc"][0])
        raise ConsortiumError(
            f"transfer_boost setting {key!r} is {given.get(key)!r}: {first['msg']}.",
            cure=f"The default is {Settings.model_fields[key].default!r}.",
        ) from exc
