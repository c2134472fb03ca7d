"""What Gaussian noise on a released vector is worth, in the terms of differential privacy.

A party releases a vector of length at most `clip`, so two people's vectors differ by at most 2 · clip, whoever they
are. With noise of standard deviation sigma per coordinate, one release is Gaussian-private with mu = 2 · clip / sigma,
and T releases, even if each is chosen in view of those before, with mu · sqrt(T) (Dong, Roth and Su 2022, corollary 2).
"""

import math

from scipy.optimize import brentq
from scipy.special import log_ndtr

DELTA = 1e-5
"""The delta for which an epsilon is stated."""


def epsilon(noise: float, releases: int, delta: float = DELTA) -> float:
    """The epsilon of `releases` releases at `delta`; infinite without noise, 0 without a release.

    Args:
        noise: standard deviation of each coordinate over the greatest length of a vector.
        releases: of the same person's columns.
        delta: probability left aside.
    """
    if releases == 0:
        return 0.0
    if noise == 0:
        return math.inf
    mu = 2 / noise * math.sqrt(releases)
    if _delta(mu, 0.0) <= delta:
        return 0.0
    return float(brentq(lambda eps: _delta(mu, eps) - delta, 0.0, mu * mu / 2 + 10 * mu + 10))


def noise_for(target: float, releases: int, delta: float = DELTA) -> float:
    """The least noise, as for :func:`epsilon`, with which `releases` releases cost at most `target`."""
    low, high = 1e-3, 1e6
    solved = brentq(lambda x: epsilon(math.exp(x), releases, delta) - target, math.log(low), math.log(high))
    return math.exp(float(solved)) * (1 + 1e-9)


def _delta(mu: float, eps: float) -> float:
    """Delta of a mu-Gaussian-private release at `eps` (Balle and Wang 2018, theorem 8)."""
    inside = float(log_ndtr(mu / 2 - eps / mu))
    outside = eps + float(log_ndtr(-mu / 2 - eps / mu))
    return math.exp(inside) - math.exp(min(outside, inside))
