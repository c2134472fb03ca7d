"""What splits would gain, from sums of gradients and hessians."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftl.crypto import Packing, Sums


@dataclass(frozen=True)
class Offer:
    """Left sums of one party's candidates at one node, in fixed point and so exact.

    Attributes:
        sums: gradient, hessian and count of the training people on the left, int64, shape (candidates,) each.
        sent: bool, shape (candidates,): false where the party withheld the candidate.
    """

    sums: Sums
    sent: NDArray[np.bool_]

    def rest_of(self, parent: "Offer") -> "Offer":
        """The sibling's offer: the parent's sums minus these, for the same candidates."""
        whole, part = parent.sums, self.sums
        rest = Sums(whole.gradient - part.gradient, whole.hessian - part.hessian, whole.count - part.count)
        return Offer(rest, self.sent)


@dataclass(frozen=True)
class Total:
    """Gradient, hessian and count of all training people of a node, in fixed point."""

    gradient: int
    hessian: int
    count: int


@dataclass(frozen=True)
class Rules:
    """How splits are compared.

    Attributes:
        packing: the fixed-point layout.
        l2: lambda.
        min_bucket: fewest training people on either side.
        min_gain: a split must gain more.
    """

    packing: Packing
    l2: float
    min_bucket: int
    min_gain: float

    def gains(self, total: Total, offer: Offer) -> NDArray[np.float64]:
        """G_L²/(H_L+λ) + G_R²/(H_R+λ) − G²/(H+λ) (Chen and Guestrin 2016, eq. 7, doubled); −inf where not allowed."""
        gradient, hessian, count = offer.sums.gradient, offer.sums.hessian, offer.sums.count
        left = self._score(gradient, hessian)
        right = self._score(total.gradient - gradient, total.hessian - hessian)
        whole = self._score(np.array([total.gradient]), np.array([total.hessian]))
        allowed = offer.sent & (count >= self.min_bucket) & (total.count - count >= self.min_bucket)
        return np.where(allowed, left + right - whole, -np.inf)

    def _score(self, gradient: NDArray[np.int64], hessian: NDArray[np.int64]) -> NDArray[np.float64]:
        real = self.packing.real(gradient)
        return np.asarray(real * real / np.maximum(self.packing.real(hessian) + self.l2, 1e-12))


@dataclass(frozen=True)
class Best:
    """The best split of a node: whose it is, and all of the owner's candidates that reach the same gain."""

    party: str
    candidates: list[int]


def best_split(rules: Rules, total: Total, offers: dict[str, Offer]) -> Best | None:
    """The split with the highest gain; of equal ones the first party's. None when none gains enough.

    Args:
        rules: how to compare.
        total: sums over the node.
        offers: party to its candidates, in order of preference.
    """
    best, highest = None, rules.min_gain
    for party, offer in offers.items():
        gains = rules.gains(total, offer)
        top = float(gains.max(initial=-np.inf))
        if top > highest:
            best, highest = Best(party, np.flatnonzero(gains == top).tolist()), top
    return best
