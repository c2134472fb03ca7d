"""The logistic function as a sum of sines, so that it can be computed from parts that nobody puts together.

With sin(u + v) = sin u cos v + cos u sin v, a sum of K sines of a margin a + b is a sum of 2 K products of a number
that one party computes from a alone and one that the other computes from b alone. And since all sines have a common
period, parts may be shifted by any amounts that add up to a multiple of it: a third party's part is split into two
uniform shares of the period.

Only odd harmonics are used: they repeat with the opposite sign after half a period, as a smoothed square wave does, so
the fit need not fight a jump. The error falls geometrically in K, the logistic function being analytic within pi of
the real line.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_HARMONICS = 40
_GRID = 400
_STRETCHES = (1.3, 1.6, 2.0, 2.5, 4.0, 8.0)
"""Candidates for half a period in units of the reach."""
_LEAST_SIZE = 1e-4
_TAIL = 6.0
"""Log-odds over which the weight of an error falls by e: few people are far out."""


@dataclass(frozen=True)
class Series:
    """σ(t) ≈ 1/2 + Σ coefficients[m] · sin((2m + 1) · 2π · t / period) for |t| up to a reach.

    Attributes:
        period: in log-odds.
        coefficients: float64, shape (K,).
    """

    period: float
    coefficients: Floats

    @property
    def speeds(self) -> Floats:
        """Radians per period of each harmonic, float64, shape (K,)."""
        return speeds(len(self.coefficients))

    @property
    def roots(self) -> Floats:
        """Square roots of the sizes of the coefficients, not below a hundredth, float64, shape (K,)."""
        return np.asarray(np.sqrt(np.maximum(np.abs(self.coefficients), _LEAST_SIZE)))


def speeds(harmonics: int) -> Floats:
    """Radians per period of odd harmonics, float64, shape (K,)."""
    return np.asarray(2 * math.pi * (2.0 * np.arange(harmonics) + 1.0), dtype=np.float64)


def choose(reach: float, error: float) -> Series:
    """The shortest series whose weighted error is at most `error`, on margins up to `reach`."""
    for harmonics in range(3, MOST_HARMONICS + 1):
        found = [fit(2 * stretch * reach, harmonics, reach) for stretch in _STRETCHES]
        best = min(found, key=lambda one: one[1])
        if best[1] <= error:
            break
    return best[0]


def fit(period: float, harmonics: int, reach: float) -> tuple[Series, float]:
    """Weighted least squares on a grid, and the largest weighted error there.

    Args:
        period: of the first harmonic, in log-odds.
        harmonics: how many.
        reach: largest margin.
    """
    grid = np.linspace(0, reach, _GRID)
    weight = np.exp(-grid / _TAIL) + 0.02
    sines = np.sin(np.outer(grid / period, speeds(harmonics)))
    target = np.tanh(grid / 2) / 2
    ridge = 1e-6 * np.eye(harmonics)  # keeps coefficients small, and so the rounding of what they multiply
    stacked, wanted = (
        np.vstack([sines * weight[:, None], ridge]),
        np.concatenate([target * weight, np.zeros(harmonics)]),
    )
    coefficients = np.linalg.lstsq(stacked, wanted, rcond=None)[0]
    return Series(period, coefficients), float(np.abs((sines @ coefficients - target) * weight).max())


def encrypted_part(series: Series, phase: Floats) -> Floats:
    """What the first party encrypts of its phases, float64, shape (n, 2 K).

    Sines and cosines times the root of the harmonic's coefficient; the other half of it is with the second party, so
    that the rounding of both is felt alike.

    Args:
        series: the series.
        phase: shape (n,), margin in periods.
    """
    angle = np.outer(phase, series.speeds)
    return np.hstack([series.roots * np.sin(angle), series.roots * np.cos(angle)])


def value_part(series: Series, phase: Floats) -> Floats:
    """What the second party multiplies it with to get σ - 1/2, float64, shape (n, 2 K)."""
    angle = np.outer(phase, series.speeds)
    rest = series.coefficients / series.roots
    return np.hstack([rest * np.cos(angle), rest * np.sin(angle)])


def slope_part(series: Series, phase: Floats) -> Floats:
    """What the second party multiplies it with to get σ' = σ (1 - σ), float64, shape (n, 2 K)."""
    angle = np.outer(phase, series.speeds)
    rate = series.coefficients / series.roots * series.speeds / series.period
    return np.hstack([-rate * np.sin(angle), rate * np.cos(angle)])
