"""Settings of `transfer_boost`, and what they come to for a given number of shared people."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ftl.errors import ConsortiumError


class Settings(BaseModel):
    """How the federated trees are grown. The defaults were chosen on draws of training rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    opinion_rounds: int = Field(8, ge=0, le=100)
    """Rounds that learn, from the partners' columns, what the active party's own model thinks of the shared people.
    Opinions are far less noisy than labels, so a few dozen people are enough. 0: only labels teach."""
    opinion_columns: float = Field(0.15, gt=0, le=1)
    """Share of each partner's columns that one of those trees may use; few, so that all columns have a say."""
    rounds: int | None = Field(None, ge=0, le=500)
    """Most rounds that learn from labels; each grows one tree per ensemble. Fewer are kept when the held-out people
    say so. None: 16."""
    learning_rate: float = Field(0.3, gt=0, le=1)
    """Share of a leaf's Newton step that is taken. A smaller one needs more rounds."""
    depth: int | None = Field(None, ge=1, le=6)
    """Levels of those trees. None: 1 below 2,000 shared people, 2 below 10,000, else 3; deeper trees need more."""
    columns: float = Field(1.0, gt=0, le=1)
    """Share of each party's columns that one of those trees may use."""
    rows: float = Field(1.0, gt=0, le=1)
    """Share of its training people on which a tree is grown, drawn anew for each."""
    l2: float = Field(5.0, ge=0)
    """Added to a leaf's hessian (lambda of XGBoost). A person weighs at most 1/4 against it; where the label is a
    number a person weighs 1, and four times as much is added."""
    min_bucket: int | None = Field(None, ge=2)
    """Fewest training people in a leaf, and between two sums that the active party may decrypt. None: a fiftieth of the
    shared people, at least 5 and at most 20."""
    min_gain: float = Field(1e-6, ge=0)
    """A split must gain more."""
    folds: int = Field(5, ge=2, le=20)
    """Ensembles grown side by side, each without one fold of the shared people; the model is their mean. Those left out
    tell how many rounds to keep and how far to trust the trees. With few people the folds are drawn several times."""
    max_bins: int = Field(16, ge=2, le=100)
    """Quantile bins of a numeric column. More bins cost decryption in proportion."""
    active_columns: Literal["base", "all"] = "base"
    """What trees of two and more levels see of the active party: only its base model's answer, or all its columns as
    well. With few shared people `all` overfits, since the base has already learned from them on many more rows."""
    min_shared: int = Field(40, ge=10)
    """With fewer shared training people the run falls back to the active party alone."""
    partner_only: bool = True
    """Also grow trees of each partner's columns alone, for people whom the active party does not know."""
    alone_rounds: int = Field(12, ge=1, le=500)
    """Rounds of those."""
    alone_depth: int = Field(3, ge=1, le=6)
    """Levels of those."""
    alone_columns: float = Field(0.5, gt=0, le=1)
    """Share of the partner's columns that one of those trees may use."""
    alone_learning_rate: float = Field(0.5, gt=0, le=1)
    """Share of a leaf's Newton step that those trees take: with a larger one half as many rounds teach as much."""
    cipher: Literal["ou", "paillier"] = "ou"
    """Okamoto–Uchiyama or Paillier (some ten times slower, and studied for longer)."""
    key_bits: int = Field(2048, ge=2048, le=8192)
    """Length of the modulus."""

    def schedule(self, shared: int) -> "Schedule":
        """What the settings come to for `shared` training people."""
        depth = self.depth or (1 if shared < 2000 else 2 if shared < 10_000 else 3)
        least = self.min_bucket or min(max(shared // 50, 5), 20)
        draws = min(max(FOLD_PEOPLE // max(shared, 1), 1), MOST_DRAWS)
        return Schedule(16 if self.rounds is None else self.rounds, depth, least, draws)


FOLD_PEOPLE = 500
"""With half as many shared people and fewer the folds are drawn more than once, so that the mean is calmer."""
MOST_DRAWS = 4
"""More ensembles than four times the folds calm it no further."""


@dataclass(frozen=True)
class Schedule:
    """What depends on how many people are shared.

    Attributes:
        rounds: most rounds that learn from labels.
        depth: levels of their trees.
        min_bucket: fewest training people between two sums.
        draws: how often the folds are drawn; each draw has an ensemble per fold.
    """

    rounds: int
    depth: int
    min_bucket: int
    draws: int


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
