"""Settings of `hetero_logistic` and `hetero_linear`, and what the parties of a run agree on."""

import difflib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ftl.errors import ConsortiumError


class Settings(BaseModel):
    """How the regression is fitted. Penalties apply to columns of mean 0 and deviation 1, never to the intercept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    l1: float = Field(0.0, ge=0)
    """Times the sum of absolute coefficients, added to the *mean* loss. Sets coefficients to exactly 0; standard errors
    then hold only for those that stay, as if they had been chosen beforehand."""
    l2: float = Field(0.0, ge=0)
    """Times half the sum of squared coefficients, added to the mean loss; scikit-learn's ``C`` is 1 / (l2 · people)."""
    non_negative: bool = False
    """No coefficient below 0, as scorecards on weights of evidence want it. Columns that are declared monotone keep
    their direction in any case."""
    rounds: int = Field(40, ge=1, le=500)
    """Most evaluations of the gradient; one exchange each."""
    tolerance: float = Field(5e-4, gt=0, le=0.1)
    """The run ends when no party's Newton step on its own columns moves a coefficient by more; one last step of all
    together follows. Below 1e-4 the fixed point's rounding is felt."""
    memory: int = Field(12, ge=1, le=40)
    """Steps that the quasi-Newton method (L-BFGS) remembers."""
    standard_errors: bool = True
    """Compute standard errors and p-values from the information matrix of all parties' columns."""
    own_model: Literal["boosting", "linear"] = "boosting"
    """What answers for people whom a partner does not know: gradient boosting on all labelled rows, or the same kind of
    regression on the active party's columns alone. Numbers (`hetero_linear`) always take the regression."""
    min_rows: int = Field(20, ge=5)
    """Fewest people of a category, with a missing value, or with another value than the column's most frequent one.
    What is rarer has no coefficient of its own: its gradient would be a sum over so few people."""
    min_shared: int = Field(100, ge=50)
    """With fewer shared training people the run falls back to the active party alone."""
    people_per_column: int = Field(5, ge=2)
    """Fewest shared training people for each column of a party; no sums over people are released for more columns."""


class Plan(msgspec.Struct, frozen=True):
    """What all parties of a run agree on; the active party sends it.

    Attributes:
        people: shared training people.
        test: people of the holdout that all parties know.
        link: ``logit`` or ``identity``.
        weighted: whether people count differently.
        curvature: mean weight of a person in the information matrix when the run starts.
        value_bits: bits after the point of columns.
        feature_bits: of what the active party encrypts for each person.
        factor_bits: of what the second party multiplies it with.
        moment_bits: of columns in the information matrix.
        l1, l2, non_negative, rounds, memory, standard_errors, min_rows, people_per_column: as in the settings.
        first: the round that comes next; above 0 when the run goes on from a checkpoint.
    """

    people: int
    test: int
    link: Literal["logit", "identity"]
    weighted: bool
    curvature: float
    value_bits: int
    feature_bits: int
    factor_bits: int
    moment_bits: int
    l1: float
    l2: float
    non_negative: bool
    rounds: int
    memory: int
    standard_errors: bool
    min_rows: int
    people_per_column: int
    first: int

    @property
    def residual_bits(self) -> int:
        """Bits after the point of a shared residual."""
        return self.feature_bits + self.factor_bits


def check(recipe: str, given: Mapping[str, Any]) -> Settings:
    """Freeze the settings.

    Args:
        recipe: its name, for the error.
        given: as in consortium.yaml.

    Raises:
        ConsortiumError: names the wrong key and the nearest right one, or the key, its value and what it must be.
    """
    for key in given:
        if key not in Settings.model_fields:
            near = difflib.get_close_matches(key, Settings.model_fields, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ConsortiumError(
                f"{recipe} has no setting {key!r}.", cure=f"{hint}It has {', '.join(Settings.model_fields)}."
            )
    try:
        return Settings.model_validate(dict(given))
    except ValidationError as exc:
        first = exc.errors()[0]
        key = str(first["loc"][0])
        raise ConsortiumError(
            f"{recipe} setting {key!r} is {given.get(key)!r}: {first['msg']}.",
            cure=f"The default is {Settings.model_fields[key].default!r}.",
        ) from exc
