"""What splits would gain, from sums of gradients and hessians, as in XGBoost (Chen and Guestrin 2016)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftl.crypto import Packing, Sums

WITHHELD, EITHER, RISING, FALLING = 0, 1, 2, 3
"""How a candidate is offered: not at all; freely; only if the answer rises with its column; only if it falls."""

UNBOUNDED = (-np.inf, np.inf)
"""Limits of a leaf's step where no monotone split lies above it."""


@dataclass(frozen=True)
class FixedPoint:
    """Gradients and hessians of one round as integers, in steps of 2^(exponent − fraction).

    The exponents follow the round's largest absolute values, so that any loss and any weights fit the same packing.

    Attributes:
        packing: the layout, for values up to 1.
        gradient: exponent of the power of two that no absolute gradient exceeds.
        hessian: likewise.
    """

    packing: Packing
    gradient: int = 0
    hessian: int = 0

    @classmethod
    def of(cls, packing: Packing, gradient: NDArray[np.float64], hessian: NDArray[np.float64]) -> "FixedPoint":
        """Fit the exponents to a round's values."""
        return cls(packing, _exponent(gradient), _exponent(hessian))

    def scaled(
        self, gradient: NDArray[np.float64], hessian: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Both within 1, ready to be packed; the same shapes."""
        return np.ldexp(gradient, -self.gradient), np.ldexp(hessian, -self.hessian)

    def real_gradient(self, sums: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sums of fixed gradients as real numbers."""
        return np.ldexp(self.packing.real(sums), self.gradient)

    def real_hessian(self, sums: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sums of fixed hessians as real numbers."""
        return np.ldexp(self.packing.real(sums), self.hessian)


def _exponent(values: NDArray[np.float64]) -> int:
    largest = float(np.abs(values).max(initial=0.0))
    return int(np.frexp(largest)[1]) if largest else 0


@dataclass(frozen=True)
class Offer:
    """Left sums of one party's candidates at one node, in fixed point and so exact.

    Attributes:
        sums: gradient, hessian and count of the training people on the left, int64, shape (candidates,) each.
        offered: uint8, shape (candidates,): :data:`WITHHELD`, :data:`EITHER`, :data:`RISING` or :data:`FALLING`.
    """

    sums: Sums
    offered: NDArray[np.uint8]

    def rest_of(self, parent: "Offer") -> "Offer":
        """The sibling's offer: the parent's sums minus these, for the same candidates."""
        whole, part = parent.sums, self.sums
        rest = Sums(whole.gradient - part.gradient, whole.hessian - part.hessian, whole.count - part.count)
        return Offer(rest, self.offered)


@dataclass(frozen=True)
class Total:
    """Gradient, hessian and count of all training people of a node, in fixed point, and its limits.

    Attributes:
        limits: (lowest, highest) step of the leaves under the node, from monotone splits above it.
    """

    gradient: int
    hessian: int
    count: int
    limits: tuple[float, float] = UNBOUNDED


@dataclass(frozen=True)
class Rules:
    """How splits are compared.

    Attributes:
        packing: the layout of the fixed-point numbers, for values up to 1.
        l2: lambda.
        min_bucket: fewest training people on either side.
        min_gain: a split must gain more (gamma of XGBoost).
        min_hessian: least hessian on either side (min_child_weight of XGBoost).
    """

    packing: Packing
    l2: float
    min_bucket: int
    min_gain: float = 1e-6
    min_hessian: float = 0.0

    def gains(self, fixed: FixedPoint, total: Total, offer: Offer) -> NDArray[np.float64]:
        """G_L²/(H_L+λ) + G_R²/(H_R+λ) − G²/(H+λ) (eq. 7, doubled), float64; −inf where not allowed.

        With limits on a leaf's step w, a side counts −(2 G w + (H+λ) w²) for its limited step instead.
        """
        count = offer.sums.count
        left = _Side.of(self, fixed, total.limits, offer.sums.gradient, offer.sums.hessian)
        right = _Side.of(
            self, fixed, total.limits, total.gradient - offer.sums.gradient, total.hessian - offer.sums.hessian
        )
        whole = _Side.of(self, fixed, total.limits, np.array([total.gradient]), np.array([total.hessian]))
        allowed = (offer.offered != WITHHELD) & (count >= self.min_bucket) & (total.count - count >= self.min_bucket)
        allowed &= (left.hessian >= self.min_hessian) & (right.hessian >= self.min_hessian)
        allowed &= ~((offer.offered == RISING) & (left.step > right.step))
        allowed &= ~((offer.offered == FALLING) & (left.step < right.step))
        return np.where(allowed, left.score + right.score - whole.score, -np.inf)

    def step(
        self, gradient: NDArray[np.float64], hessian: NDArray[np.float64], limits: tuple[float, float] = UNBOUNDED
    ) -> NDArray[np.float64]:
        """Newton step −G/(H+λ) within the limits (eq. 5), float64, of the same shape."""
        return np.clip(-gradient / np.maximum(hessian + self.l2, 1e-12), *limits)

    def limits_below(
        self, fixed: FixedPoint, total: Total, left: Total, direction: int
    ) -> tuple[tuple[float, float], tuple[float, float]]:
        """Limits of a split's left and right child: with a monotone split neither may cross the middle of their steps.

        Args:
            fixed: what the round's integers stand for.
            total: of the node.
            left: of its left child.
            direction: how the split was offered.
        """
        if direction == EITHER:
            return total.limits, total.limits
        rest = Total(total.gradient - left.gradient, total.hessian - left.hessian, total.count - left.count)
        steps = [
            _Side.of(self, fixed, total.limits, np.array([part.gradient]), np.array([part.hessian])).step[0]
            for part in (left, rest)
        ]
        middle, (low, high) = float(sum(steps)) / 2, total.limits
        return ((low, middle), (middle, high)) if direction == RISING else ((middle, high), (low, middle))


@dataclass(frozen=True)
class _Side:
    """One side of many splits: hessian, limited step and score, float64, shape (candidates,) each."""

    hessian: NDArray[np.float64]
    step: NDArray[np.float64]
    score: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        rules: Rules,
        fixed: FixedPoint,
        limits: tuple[float, float],
        gradient: NDArray[np.int64],
        hessian: NDArray[np.int64],
    ) -> "_Side":
        slope, bend = fixed.real_gradient(gradient), fixed.real_hessian(hessian)
        step = rules.step(slope, bend, limits)
        whole = np.maximum(bend + rules.l2, 1e-12)
        score = slope * slope / whole if limits == UNBOUNDED else -(2 * slope * step + whole * step * step)
        return cls(bend, step, score)


@dataclass(frozen=True)
class Best:
    """The best split of a node: whose it is, and all of the owner's candidates that reach the same gain."""

    party: str
    candidates: list[int]
    gain: float


def best_split(rules: Rules, fixed: FixedPoint, total: Total, offers: dict[str, Offer]) -> Best | None:
    """The split with the highest gain; of equal ones the first party's. None when none gains enough.

    Args:
        rules: how to compare.
        fixed: what the round's integers stand for.
        total: sums over the node.
        offers: party to its candidates, in order of preference.
    """
    best, highest = None, rules.min_gain
    for party, offer in offers.items():
        gains = rules.gains(fixed, total, offer)
        top = float(gains.max(initial=-np.inf))
        if top > highest:
            best, highest = Best(party, np.flatnonzero(gains == top).tolist(), top), top
    return best
