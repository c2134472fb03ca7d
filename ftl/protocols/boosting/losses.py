"""What is minimised: gradients, hessians, and the margin to start from when nothing is known.

A margin is what the model's link turns into its answer: log-odds, a number, or one number per class.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ftl.features import Kind
from ftl.protocols.recipe import Link
from ftl.protocols.trees import probability

LEAST_HESSIAN = 1e-16
"""As XGBoost's: so that a leaf of certain people still has a step."""


class Loss(Protocol):
    """A twice differentiable loss of n people.

    Attributes:
        outputs: margins per person.
        link: from margin to answer.
    """

    outputs: int
    link: Link

    def start(self, label: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64, shape (outputs,): the best margin that is the same for all."""
        ...

    def derivatives(
        self, label: NDArray[np.float64], margins: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Gradient and hessian (its diagonal) by margin.

        Args:
            label: float64, shape (n,).
            margins: float64, shape (…, n, outputs).

        Returns:
            two float64 arrays of the shape of `margins`.
        """
        ...

    def losses(self, label: NDArray[np.float64], margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """Loss of each person, float64, shape (n,), for `margins` of shape (n, outputs)."""
        ...


class LogLoss:
    """Of a label of 0 and 1."""

    outputs = 1
    link: Link = "logit"

    def start(self, label: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log-odds of the weighted share of ones."""
        share = float(np.clip(np.average(label, weights=weight), 1e-6, 1 - 1e-6))
        return np.array([np.log(share / (1 - share))])

    def derivatives(
        self, label: NDArray[np.float64], margins: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """P − y and p (1 − p)."""
        chance = probability(margins)
        return chance - label[:, None], np.maximum(chance * (1 - chance), LEAST_HESSIAN)

    def losses(self, label: NDArray[np.float64], margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """−log of the probability given to what happened."""
        return np.asarray(np.logaddexp(0, margins[:, 0]) - label * margins[:, 0])


class SquaredError:
    """Half of (margin − y)²."""

    outputs = 1
    link: Link = "identity"

    def start(self, label: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """The weighted mean."""
        return np.array([np.average(label, weights=weight)])

    def derivatives(
        self, label: NDArray[np.float64], margins: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Margin − y and 1."""
        return margins - label[:, None], np.ones_like(margins)

    def losses(self, label: NDArray[np.float64], margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """(margin − y)² / 2."""
        return np.asarray((margins[:, 0] - label) ** 2 / 2)


class Softmax:
    """Cross-entropy of a label of 0 … outputs − 1."""

    link: Link = "softmax"

    def __init__(self, outputs: int) -> None:
        self.outputs = outputs

    def start(self, label: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logarithms of the weighted shares of the classes."""
        counts = np.bincount(label.astype(np.int64), weights=weight, minlength=self.outputs)
        return np.asarray(np.log(np.maximum(counts / counts.sum(), 1e-6)))

    def derivatives(
        self, label: NDArray[np.float64], margins: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """P − y and 2 p (1 − p), the bound that XGBoost takes for the diagonal."""
        chance = _shares(margins)
        actual = label[:, None] == np.arange(self.outputs)
        return chance - actual, np.maximum(2 * chance * (1 - chance), LEAST_HESSIAN)

    def losses(self, label: NDArray[np.float64], margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """−log of the probability given to the class."""
        chance = _shares(margins)[np.arange(len(label)), label.astype(np.int64)]
        return np.asarray(-np.log(np.maximum(chance, 1e-300)))


def loss_of(kind: Kind, classes: int) -> Loss:
    """The loss for a label of that kind.

    Args:
        kind: of the label.
        classes: how many, of kind ``classes``.
    """
    if kind == "classes":
        return Softmax(classes)
    return LogLoss() if kind == "binary" else SquaredError()


def _shares(margins: NDArray[np.float64]) -> NDArray[np.float64]:
    grown = np.exp(margins - margins.max(axis=-1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=-1, keepdims=True))
