"""A party's own coefficients as a table for its own eyes: standard errors, test statistics and p-values."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.protocols.hetero_linear.design import Design

Floats = NDArray[np.float64]

FILE = "coefficients.json"


class Row(msgspec.Struct, frozen=True):
    """One coefficient.

    Attributes:
        term: the column, or the category or missing value that the coefficient stands for.
        coefficient: change of the margin (log-odds, or the label's units) for one deviation of the column.
        per_unit: change of the margin for one unit of the column.
        standard_error: of `coefficient`; None where it was not computed, or the coefficient is held at 0.
        statistic: coefficient / standard error.
        p_value: two-sided, of the hypothesis that the coefficient is 0.
    """

    term: str
    coefficient: float
    per_unit: float
    standard_error: float | None = None
    statistic: float | None = None
    p_value: float | None = None


class Table(msgspec.Struct, frozen=True):
    """What a party keeps in `coefficients.json`.

    Attributes:
        rows: the intercept first at the active party.
        distribution: of the statistic: ``normal``, or ``t`` with `freedom` degrees.
        freedom: 0 for the normal distribution.
        note: how far the p-values can be trusted.
    """

    rows: list[Row]
    distribution: str
    freedom: int
    note: str


def table(
    names: list[str],
    deviations: Floats,
    coefficients: Floats,
    free: NDArray[np.bool_],
    covariance: Floats | None,
    freedom: int,
    note: str,
) -> bytes:
    """The table as JSON.

    Args:
        names: of p terms.
        deviations: shape (p,): of the columns behind them.
        coefficients: shape (p,), in units of the margin.
        free: bool, shape (p,): coefficients that are not held at 0.
        covariance: of the free ones; None where there is none.
        freedom: of the t distribution; 0 for the normal one.
        note: for the reader.
    """
    from scipy import special

    errors = np.full(len(names), np.nan)
    if covariance is not None:
        errors[free] = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = coefficients / errors
    below = -np.abs(statistic)
    tail = special.stdtr(freedom, below) if freedom else special.ndtr(below)
    rows = [
        Row(name, float(coefficients[i]), float(coefficients[i] / deviations[i]))
        if not errors[i] > 0
        else Row(
            name,
            float(coefficients[i]),
            float(coefficients[i] / deviations[i]),
            float(errors[i]),
            float(statistic[i]),
            float(2 * tail[i]),
        )
        for i, name in enumerate(names)
    ]
    found = Table(rows, "t" if freedom else "normal", freedom, note)
    return msgspec.json.format(msgspec.json.encode(found), indent=2)


def deviations(design: Design) -> Floats:
    """Of a design's terms, shape (p,)."""
    return np.array([term.deviation for term in design.terms])
