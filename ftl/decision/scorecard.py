"""Probability of default to a scorecard's points.

Siddiqi, *Credit Risk Scorecards* (Wiley 2006), ch. 6 "Scaling": score = offset + factor · ln(odds), with
factor = pdo / ln 2 and offset = base_score − factor · ln(base_odds), odds being good to bad. ``pdo`` is *points to
double the odds*. The model's probabilities go in as they are: calibration is the recipe's own matter.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ftl.consortium.deciding import Scorecard

SMALLEST_PROBABILITY = 1e-12
"""Keeps the odds finite; far beyond floor and ceiling of any scorecard."""


def probability(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability of default, float64, shape (m,), from log-odds of default of that shape."""
    # exp of a non-positive number only, so that nothing overflows on either side.
    small = np.exp(-np.abs(log_odds))
    return np.where(log_odds >= 0, 1.0, small) / (1.0 + small)


def points_per_log_odds(scorecard: Scorecard) -> float:
    """Points that one unit of log-odds is worth: pdo / ln 2."""
    return scorecard.pdo / math.log(2)


def score(default: NDArray[np.float64], scorecard: Scorecard) -> NDArray[np.int64]:
    """Points, int64, shape (m,), rounded half to even and clipped to [floor, ceiling].

    Args:
        default: probability of default, float64, shape (m,).
        scorecard: base score, base odds (good to bad), points to double the odds, floor, ceiling.
    """
    bounded = np.clip(default, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    good_odds = (1 - bounded) / bounded
    factor = points_per_log_odds(scorecard)
    points = scorecard.base_score + factor * (np.log(good_odds) - math.log(scorecard.base_odds))
    return np.clip(np.rint(points), scorecard.floor, scorecard.ceiling).astype(np.int64)


def points(default: float, scorecard: Scorecard) -> int:
    """As :func:`score`, of one probability of default."""
    bounded = min(max(default, SMALLEST_PROBABILITY), 1 - SMALLEST_PROBABILITY)
    odds = math.log((1 - bounded) / bounded) - math.log(scorecard.base_odds)
    exact = scorecard.base_score + points_per_log_odds(scorecard) * odds
    return int(min(max(round(exact), scorecard.floor), scorecard.ceiling))
