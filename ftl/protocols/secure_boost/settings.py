"""Settings of `secure_boost`."""

import difflib
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ftl.errors import ConsortiumError


class Settings(BaseModel):
    """How the trees are grown. Names in brackets are XGBoost's for the same thing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int = Field(40, ge=1, le=1000)
    """Trees (of each class); fewer when `validation` stops them early."""
    learning_rate: float = Field(0.3, gt=0, le=1)
    """Share of a leaf's Newton step that is taken (eta)."""
    depth: int = Field(3, ge=1, le=6)
    """Levels of a tree (max_depth)."""
    l2: float = Field(1.0, ge=0)
    """Added to a leaf's hessian (lambda)."""
    min_gain: float = Field(1e-6, ge=0)
    """A split must gain more (gamma)."""
    min_hessian: float = Field(1.0, ge=0)
    """Least hessian in a leaf (min_child_weight)."""
    min_bucket: int = Field(20, ge=2)
    """Fewest training people in a leaf, and between two sums that the active party may decrypt. A passive party refuses
    to take part with a smaller one than its own settings say."""
    max_bins: int = Field(32, ge=2, le=100)
    """Quantile bins of a numeric column. More bins cost decryption in proportion."""
    rows: float = Field(1.0, gt=0, le=1)
    """Share of the training people that each tree is grown on, drawn evenly (subsample). Work shrinks with it."""
    columns: float = Field(1.0, gt=0, le=1)
    """Share of each party's columns that a tree may use (colsample_bytree). Work shrinks with it."""
    goss_top: float = Field(0.0, ge=0, lt=1)
    """With `goss_other`: gradient-based one-side sampling. The share of people with the largest gradients, who are all
    kept. 0.2 and 0.1 make trees some three times faster; but passive parties see who is kept, and those are more often
    the bad ones."""
    goss_other: float = Field(0.0, ge=0, lt=1)
    """Share of people drawn from the others, who count more for it."""
    validation: float = Field(0.0, ge=0, le=0.5)
    """Share of the shared people that trains no tree and tells when to stop; 0 grows all rounds."""
    patience: int = Field(10, ge=1)
    """Rounds without a better validation loss before it stops; the best round is the last that is kept."""
    own_model: bool = True
    """Also fit a model of the active party's columns on all its labelled rows, for people whom the others do not know.
    Without it they get the average answer."""
    min_shared: int = Field(100, ge=10)
    """With fewer shared training people the run falls back to the active party's own model."""
    cipher: Literal["ou", "paillier"] = "ou"
    """Okamoto–Uchiyama or Paillier (some ten times slower, and studied for longer)."""
    key_bits: int = Field(2048, ge=2048, le=8192)
    """Length of the modulus."""

    @model_validator(mode="after")
    def _one_way_to_sample(self) -> Self:
        if (self.goss_top > 0) != (self.goss_other > 0) or self.goss_top + self.goss_other >= 1:
            raise ValueError("goss_top and goss_other are set together and sum to less than 1")
        if self.goss_top > 0 and self.rows < 1:
            raise ValueError("rows are drawn either evenly (rows) or by gradient (goss_top, goss_other)")
        return self


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
                f"secure_boost has no setting {key!r}.", cure=f"{hint}It has {', '.join(Settings.model_fields)}."
            )
    try:
        return Settings.model_validate(dict(given))
    except ValidationError as exc:
        first = exc.errors()[0]
        if not first["loc"]:
            raise ConsortiumError(f"secure_boost settings do not fit together: {first['msg']}.") from exc
        key = str(first["loc"][0])
        raise ConsortiumError(
            f"secure_boost setting {key!r} is {given.get(key)!r}: {first['msg']}.",
            cure=f"The default is {Settings.model_fields[key].default!r}.",
        ) from exc
