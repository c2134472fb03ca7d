"""From the network's margin to log-odds, weighed against the active party's own model on people neither has seen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftl.protocols.trees import probability

RIDGE = 1.0
"""Penalty on the factors of standardised margins: for few people they stay small."""

STEPS = 50


@dataclass(frozen=True)
class Calibration:
    """Log-odds = own · (own log-odds - centre) + slope · margin + offset; without the first term for strangers to A.

    Attributes:
        slope: factor on the margin.
        offset: added.
        own: factor on the active party's log-odds.
        centre: mean of those.
    """

    slope: float = 1.0
    offset: float = 0.0
    own: float = 0.0
    centre: float = 0.0


def calibrate(margin: NDArray[np.float64], own: NDArray[np.float64], label: NDArray[np.float64]) -> Calibration:
    """Logistic regression of the label on both, by Newton's method.

    Args:
        margin: float64, shape (n,), of people not used in training the networks.
        own: float64, shape (n,), log-odds by the active party's model of other rows.
        label: float64, shape (n,), 1 is bad.

    Returns:
        factors; none of them below 0: a margin that ranks people the wrong way round gets the factor 0.
    """
    columns = np.column_stack([margin, own])
    middle, spread = columns.mean(axis=0), columns.std(axis=0)
    spread[spread == 0] = 1.0
    used = np.ones(2, dtype=bool)
    fit = _logistic((columns - middle) / spread, label, used)
    if (fit[:2] < 0).any():
        used = fit[:2] >= 0
        fit = _logistic((columns - middle) / spread, label, used)
    factors = np.maximum(fit[:2], 0.0) / spread
    return Calibration(
        slope=float(factors[0]),
        offset=float(fit[2] - factors[0] * middle[0]),
        own=float(factors[1]),
        centre=float(middle[1]),
    )


def _logistic(columns: NDArray[np.float64], label: NDArray[np.float64], used: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Two factors (0 where not used) and the constant."""
    x = np.column_stack([columns * used, np.ones(len(label))])
    penalty = np.diag([RIDGE, RIDGE, 1e-9])
    fit = np.zeros(3)
    for _ in range(STEPS):
        chance = probability(x @ fit)
        hessian = (x * (chance * (1 - chance))[:, None]).T @ x + penalty
        step = np.linalg.solve(hessian, x.T @ (label - chance) - penalty @ fit)
        fit += step
        if np.abs(step).max() < 1e-10:
            break
    return fit
