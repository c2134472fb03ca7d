"""Looking every day without being fooled: always-valid p-values of a mean difference.

References:
    Robbins (1970), Statistical methods related to the law of the iterated logarithm: the mixture martingale.
    Johari, Koomen, Pekelis, Walsh (2022), Always valid inference, Operations Research 70(3): the mixture sequential
        probability ratio test with a normal prior, and why its p-value may be read at any time.
    Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (2024), Time-uniform central limit theory and asymptotic confidence
        sequences, Annals of Statistics: that it holds for estimators that are asymptotically normal, such as an AUC.
"""

import math


def always_valid_p(difference: float, variance: float, worthwhile: float) -> float:
    """P-value of one look against "the challenger is no better"; the smallest over all looks may be used at any time.

    With θ the difference, V its variance and a normal mixture N(0, τ²) over what it might truly be, the likelihood
    ratio is sqrt(V/(V+τ²)) · exp(θ²τ²/(2V(V+τ²))); one-sided, its mixture is over τ's positive half.

    Args:
        difference: estimate of challenger minus champion.
        variance: of the estimate; shrinks as outcomes arrive.
        worthwhile: τ, the size of difference that is found soonest.

    Returns:
        in (0, 1].
    """
    if not variance > 0:
        return 1.0
    prior = worthwhile * worthwhile
    spread = variance + prior
    centre = difference * math.sqrt(prior / (variance * spread))
    log_ratio = 0.5 * math.log(variance / spread) + centre * centre / 2 + math.log(2 * _normal(centre))
    return min(1.0, math.exp(-min(log_ratio, 700.0)))


def interval(difference: float, variance: float, worthwhile: float, alpha: float) -> tuple[float, float]:
    """Two-sided confidence sequence at one look: contains the truth at all looks together with probability 1 − α.

    Args:
        difference: as for :func:`always_valid_p`.
        variance: likewise.
        worthwhile: likewise.
        alpha: as a share.
    """
    if not variance > 0:
        return -math.inf, math.inf
    spread = variance + worthwhile * worthwhile
    half = math.sqrt(variance * spread / worthwhile**2 * math.log(spread / (variance * alpha * alpha)))
    return difference - half, difference + half


def _normal(x: float) -> float:
    """Distribution function of the standard normal; above 0 also far out."""
    return max(0.5 * math.erfc(-x / math.sqrt(2)), 1e-300)
