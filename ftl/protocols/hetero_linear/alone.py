"""The active party's regression on its own columns: what it answers with alone, and where the joint one begins."""

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.features import Frame
from ftl.protocols.hetero_linear.design import Design, fit_design
from ftl.protocols.trees import probability

Floats = NDArray[np.float64]
Link = Literal["logit", "identity"]

_RIDGE = 1e-7
"""Least l2 penalty: keeps coefficients finite where a column separates the classes."""


class Regression(msgspec.Struct, frozen=True):
    """A fitted regression on a party's own columns.

    Attributes:
        design: its terms.
        coefficients: one per term, in units of the margin for each deviation of the column.
        intercept: margin of a person at the mean of all columns.
    """

    design: Design
    coefficients: tuple[float, ...]
    intercept: float

    def margin(self, values: Floats) -> Floats:
        """float64, shape (m,), for `values` of shape (m, columns)."""
        return np.asarray(self.intercept + self.design.matrix(values) @ np.array(self.coefficients))


@dataclass(frozen=True)
class Target:
    """A label as the regression sees it: mean 0 and deviation 1 where it is a number.

    Attributes:
        centre: taken off the label.
        scale: the label is divided by it then.
    """

    centre: float = 0.0
    scale: float = 1.0

    @classmethod
    def of(cls, label: Floats, weight: Floats, link: Link) -> "Target":
        """For the labels of n people, shape (n,)."""
        if link == "logit":
            return cls()
        centre = float(np.average(label, weights=weight))
        deviation = float(np.sqrt(np.average((label - centre) ** 2, weights=weight)))
        return cls(centre, deviation or 1.0)

    def standard(self, label: Floats) -> Floats:
        """The label in the regression's units."""
        return np.asarray((label - self.centre) / self.scale)


def coefficients(matrix: Floats, label: Floats, weight: Floats, link: Link, l2: float) -> Floats:
    """Intercept and coefficients of the regression on a matrix, float64, shape (1 + p,).

    Args:
        matrix: float64, shape (n, p).
        label: shape (n,).
        weight: shape (n,), of mean 1.
        link: ``logit`` or ``identity``.
        l2: penalty on the mean loss.
    """
    l2 = max(l2, _RIDGE)
    if link == "identity":
        wide = np.column_stack([np.ones(len(matrix)), matrix])
        gram = (wide * weight[:, None]).T @ wide / len(wide)
        gram[1:, 1:] += l2 * np.eye(matrix.shape[1])
        return np.asarray(np.linalg.solve(gram, (wide * weight[:, None]).T @ label / len(wide)))
    if matrix.shape[1] == 0:
        share = float(np.average(label, weights=weight))
        return np.array([np.log(share / (1 - share))])
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / (l2 * len(label)), tol=1e-5, max_iter=500)
    model.fit(matrix, label, sample_weight=weight)
    return np.concatenate([model.intercept_, model.coef_[0]])


def fit_alone(frame: Frame, rows: NDArray[np.int64], link: Link, l2: float, min_rows: int) -> Regression:
    """The regression on rows of the party's frame that have a label; its margins are in units of the label."""
    label = frame.label[rows] if frame.label is not None else np.zeros(len(rows))
    weight = mean_one(frame, rows)
    target = Target.of(label, weight, link)
    design = fit_design(frame, rows, min_rows)
    found = coefficients(design.matrix(frame.values[rows]), target.standard(label), weight, link, l2) * target.scale
    return Regression(design, tuple(found[1:].tolist()), float(found[0]) + target.centre)


def mean_one(frame: Frame, rows: NDArray[np.int64]) -> Floats:
    """Weights of rows, scaled to mean 1, shape (n,)."""
    if frame.weight is None:
        return np.ones(len(rows))
    weight = frame.weight[rows]
    return np.asarray(weight / weight.mean())


def answered(margin: Floats, link: Link) -> Floats:
    """From margin to answer: probability of default, or the number."""
    return probability(margin) if link == "logit" else margin
