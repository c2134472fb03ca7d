"""From a party's frame to the inputs of its network: numbers brought to one scale, categories one column each."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.features import Frame

MOST_DEVIATIONS = 10.0
"""A standardised number beyond is cut off there; gradients are computed in fixed point."""


class Inputs(msgspec.Struct, frozen=True):
    """How p columns become q inputs; part of a model part.

    Attributes:
        mean: per column what is taken off; 0 of a category.
        deviation: per column what is divided by; 0 of a column that is the same for everybody and gives no input.
        codes: per column the number of its categories; 0 of a numeric column.
        gaps: numbers of numeric columns that can be missing; each gives one more input, 1 where it is.
        limit: magnitude at which a number is cut off; None for nowhere.
    """

    mean: list[float]
    deviation: list[float]
    codes: list[int]
    gaps: list[int]
    limit: float | None

    def matrix(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64, shape (m, q), for values of shape (m, p); a missing number is the mean, a missing category none."""
        numeric = np.flatnonzero((np.array(self.codes) == 0) & (np.array(self.deviation) > 0))
        scaled = (values[:, numeric] - np.array(self.mean)[numeric]) / np.array(self.deviation)[numeric]
        scaled = np.nan_to_num(scaled, nan=0.0)
        if self.limit is not None:
            scaled = np.clip(scaled, -self.limit, self.limit)
        groups = [scaled, np.isnan(values[:, self.gaps]).astype(np.float64)]
        for column, count in enumerate(self.codes):
            groups.append((values[:, [column]] == np.arange(count)).astype(np.float64))
        return np.concatenate(groups, axis=1)


def fit_inputs(frame: Frame, *, standardize: bool) -> Inputs:
    """Learn scales and gaps from all of the party's people.

    Args:
        frame: the party's.
        standardize: off, numbers are taken as they are.
    """
    mean, deviation, codes, gaps = [], [], [], []
    for number, (name, column) in enumerate(zip(frame.columns, frame.values.T, strict=True)):
        known = column[~np.isnan(column)]
        categories = len(frame.categories.get(name, ()))
        spread = float(known.std()) if len(known) else 0.0
        codes.append(categories)
        mean.append(float(known.mean()) if spread and standardize and not categories else 0.0)
        deviation.append(0.0 if not spread or categories else spread if standardize else 1.0)
        if len(known) < len(column) and not categories:
            gaps.append(number)
    return Inputs(mean, deviation, codes, gaps, MOST_DEVIATIONS if standardize else None)


def with_constant(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """A last column of ones, for the bias."""
    return np.column_stack([matrix, np.ones(len(matrix))])
