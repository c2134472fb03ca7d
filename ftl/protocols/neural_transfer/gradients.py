"""What each party brings to an epoch, and what it may learn of it: the gradient of its own weights and nothing finer.

Notation. Of the N labelled people of the active party A and the n shared ones; y = ±1 the label, u = sigmoid(x W) the
d-vector of a person at A or B, phi = 1/N sum y u^A (Liu et al. 2018, equation 6), s = u^B · phi the margin. The loss is
equation 5 with the second-order Taylor form of the logistic loss (equation 8) and the inner product as alignment:
    L = alpha sum_n [log 2 - y s / 2 + s^2 / 8] - 1/d sum_n u^A · u^B.
With w = s / 4 - y / 2 (y^2 = 1, so that no term needs a matrix for each person) and a = 1 / (alpha d),
    dL/du^B / alpha = w phi - a u^A            dL/du^A / alpha = y / N · sum_n w u^B - a u^B (shared people only).
Per-person gradients carry the label in their sign, so only their products with the inputs are ever released:
    dL/dW^B / alpha = X^T (S^B * (w phi - a U^A)),
    dL/dW^A / alpha = V * (w^T U^B) - a X^T (S^A * U^B),  V = 1/N sum over all N people of x y s^A,
where S = U * (1 - U) and * is element by element.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ActiveTerms:
    """What the active party knows in an epoch; n shared people, p inputs with the constant, width d.

    Attributes:
        x: shape (n, p).
        hidden: U^A, shape (n, d).
        slope: S^A, shape (n, d).
        sign: y, shape (n,).
        centre: phi, shape (d,).
        spread: V, shape (p, d).
        alignment: a.
    """

    x: Floats
    hidden: Floats
    slope: Floats
    sign: Floats
    centre: Floats
    spread: Floats
    alignment: float


@dataclass(frozen=True)
class PassiveTerms:
    """What the passive party knows in an epoch.

    Attributes:
        x: shape (n, p).
        hidden: U^B, shape (n, d).
        slope: S^B, shape (n, d).
    """

    x: Floats
    hidden: Floats
    slope: Floats


class ActiveExchange(Protocol):
    """The active party's side of a protected computation."""

    def gradient(self, epoch: int, terms: ActiveTerms) -> Floats:
        """dL/dW^A / alpha, shape (p, d)."""
        ...


class PassiveExchange(Protocol):
    """The passive party's side."""

    def gradient(self, epoch: int, terms: PassiveTerms) -> Floats:
        """dL/dW^B / alpha, shape (p, d)."""
        ...
