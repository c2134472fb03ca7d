"""Settings of how answers become scores, and of what a model must show before it may answer."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Figure = Literal["auc", "ks", "r2", "accuracy"]
"""Figures of which more is better."""
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Deciding(BaseModel):
    """Base: frozen, strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Scorecard(Deciding):
    """score = base_score + pdo/ln 2 · (ln(odds of good) − ln(base_odds)), clipped to [floor, ceiling]."""

    base_score: float = 600
    """Score at the base odds."""
    base_odds: float = Field(50, gt=0)
    """Good people per bad one at the base score."""
    pdo: float = Field(20, gt=0)
    """Points that double the odds."""
    floor: int = 300
    """Lowest score."""
    ceiling: int = 850
    """Highest score."""


class Income(Deciding):
    """score = base_score + pdo/ln 2 · ln(income / base), on the scorecard's scale and within its bounds."""

    model: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    """Name of the registered model; its label is of kind `number`, its parties and identifiers are this consortium's.
    """
    base: float = Field(gt=0, allow_inf_nan=False)
    """Income at the base score; twice as much is worth `scorecard.pdo` points more."""


class Gate(Deciding):
    """Figures on the holdout that a version needs before it may compete or answer."""

    least: dict[Figure, Finite] = {"auc": 0.5, "r2": 0.0}
    """Figure to its smallest value; a figure that the model's kind does not have is left out. A guess has an AUC of 0.5
    and explains none of a number's variance.
    """
    below_champion: float = Field(0.1, ge=0, allow_inf_nan=False)
    """How far each of them may lie below the champion's."""


class Registry(Deciding):
    """What becomes of trained versions."""

    gate: Gate = Gate()
    """What a version needs before it may compete."""
    cutoff: float = Field(0.2, gt=0, lt=1)
    """Probability of default up to which the model card counts a person as approved, when it compares groups."""
