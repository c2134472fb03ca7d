"""Settings of how a table is kept up to date when its source changes its mind."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

NullCursor = Literal["wait", "always", "refuse"]
Repeated = Literal["stop", "newest"]


class Contract(BaseModel):
    """What happens when the columns of the source change after the first sync."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    new_columns: Literal["evolve", "freeze", "discard"] = "discard"
    """A column that the mapping does not name: lands under its own name beside the others and is published once it is
    mapped; stops the sync; or is left out.
    """
    lost_columns: Literal["evolve", "freeze", "discard"] = "freeze"
    """A mapped column that is gone: its cells are missing from now on; stops the sync; or the table stays as it is.
    """
    changed_types: Literal["evolve", "freeze", "discard"] = "evolve"
    """A mapped column that has another type: its cells are cast as before; stops the sync; or its cells are missing
    from now on.
    """


class Keep(BaseModel):
    """How long old versions of the table stay readable, by number or time; what only they need is then removed."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    days: float = Field(30, ge=0, allow_inf_nan=False)
    """After another version has taken its place, and an hour at least, for queries that are under way."""
    versions: int = Field(10_000, ge=1)
    """At most so many, the newest ones: a stream makes several a second."""
