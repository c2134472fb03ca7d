"""Settings of features that are aggregates over child tables: what was known of each row of a parent at its date."""

import datetime as dt
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""A table, column or feature, as in SQL."""

Days = Annotated[int, Field(ge=1, le=36_500)]


class Part(BaseModel):
    """Base: frozen, strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Aggregate(Part):
    """One feature, computed over each window."""

    of: Literal["count", "sum", "mean", "min", "max", "share", "distinct", "days_since"]
    """Rows; a sum, mean, least or largest value of `column`; the share of rows for which `where` is true; different
    values of `column`; days since the last row, over all time and not by window.
    """
    column: Name | None = None
    """Column of the child table."""
    where: str | None = None
    """SQL expression over one row of the child table (DuckDB dialect); only rows for which it is true count."""


class Child(Part):
    """A table with many rows per row of the parent."""

    table: Name
    """One of the party's tables."""
    on: dict[Name, Name] = Field(min_length=1)
    """Column of the parent to the column of this table that has the same value."""
    date: Name
    """Date or timestamp of a row; it counts where this is before the parent's date, and not on it."""
    known: Name | None = None
    """Date or timestamp from which on the row was known as it is now; it counts where this too is before."""
    where: str | None = None
    """SQL expression over one row (DuckDB dialect); other rows do not count at all."""
    windows: tuple[Days, ...] = (30, 90, 365)
    """Days before the parent's date, each a window of its own."""
    features: dict[Name, Aggregate] = Field(min_length=1)
    """Feature to what it is. Its columns are ``CHILD_FEATURE_DAYS``, of `days_since` ``CHILD_FEATURE``."""


class View(Part):
    """The rows of a parent table with aggregates over its children."""

    parent: Name
    """One of the party's tables; all of its columns are columns of the view."""
    at: Name | None = None
    """Column of the parent, a date or timestamp: what happened then or later is not known."""
    day: dt.date | None = None
    """The same date for all rows, in place of `at`."""
    children: dict[Name, Child] = Field(min_length=1)
    """Name to child table."""


class WindowSource(Part):
    """Aggregates over the party's own validated tables; a table names one of the views."""

    kind: Literal["windows"]
    """Which sort of source this is."""
    views: dict[Name, View] = Field(min_length=1)
    """Name to view."""
