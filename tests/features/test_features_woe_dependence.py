"""Correlation and variance inflation against least squares and other libraries."""

import numpy as np
import pandas as pd
import pytest

from ftl.features.binning import FineBins
from ftl.features.dependence import MOST_INFLATION, MOST_WEIGHT, inflation, standardised, strongest, vectors


def explained(target: np.ndarray, by: np.ndarray) -> float:
    """R² of a least squares fit."""
    design = np.column_stack([np.ones(len(by)), by])
    fitted = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    return float(1 - ((target - fitted) ** 2).sum() / ((target - target.mean()) ** 2).sum())


@pytest.fixture
def columns() -> np.ndarray:
    random = np.random.default_rng(5)
    values = random.normal(size=(500, 4))
    values[:, 2] += 2 * values[:, 0] - values[:, 1]
    return values


def joint(*parts: np.ndarray) -> np.ndarray:
    together = np.column_stack(parts)
    return together.T @ together / len(together)


def fine(values: np.ndarray, *, categorical: bool = False) -> FineBins:
    return FineBins.fit(values, categorical=categorical, most=10, least=20)


def test_inflation_of_numeric_columns_is_that_of_least_squares(columns: np.ndarray) -> None:
    matrix = joint(*(standardised(column) for column in columns.T))
    expected = [1 / (1 - explained(columns[:, j], np.delete(columns, j, axis=1))) for j in range(4)]
    assert inflation(matrix, [1] * 4) == pytest.approx(expected)


def test_inflation_of_a_categorical_column_is_the_generalised_factor(columns: np.ndarray) -> None:
    code = np.digitize(columns[:, 0], [-0.5, 0.6]).astype(float)
    dummies, _ = vectors(code, fine(code, categorical=True), "pearson", 20)
    other = standardised(columns[:, 2])
    matrix = joint(dummies, other)
    factor = np.linalg.det(joint(dummies)) / np.linalg.det(matrix)
    assert inflation(matrix, [2, 1]) == pytest.approx([factor**0.5, 1 / (1 - explained(other, dummies))])


def test_a_copy_is_inflated_without_bound_and_leaves_the_others_alone(columns: np.ndarray) -> None:
    parts = [standardised(column) for column in (columns[:, 0], columns[:, 0], columns[:, 3])]
    factors = inflation(joint(*parts), [1, 1, 1])
    assert factors[:2].tolist() == [MOST_INFLATION] * 2
    assert factors[2] == pytest.approx(1 / (1 - explained(columns[:, 3], columns[:, :1])), rel=1e-3)


def test_the_strongest_correlation_is_pearsons_or_the_multiple_one(columns: np.ndarray) -> None:
    code = np.digitize(columns[:, 0], [-0.5, 0.6]).astype(float)
    dummies, _ = vectors(code, fine(code, categorical=True), "pearson", 20)
    parts = [dummies, standardised(columns[:, 2]), standardised(columns[:, 1])]
    related = strongest(joint(*parts), [2, 1, 1])
    assert related[1, 2] == pytest.approx(abs(np.corrcoef(columns[:, 2], columns[:, 1])[0, 1]))
    assert related[0, 1] == pytest.approx(np.sqrt(explained(columns[:, 2], dummies)))
    assert np.diag(related).tolist() == [0, 0, 0]
    assert np.isnan(strongest(joint(parts[1]), [1, 0])[1]).all()


def test_missing_values_count_as_the_mean_and_ranks_are_averaged() -> None:
    values = np.array([1.0, 1.0, 3.0, np.nan, 8.0] * 20)
    by_value, _ = vectors(values, fine(values), "pearson", 20)
    filled = np.where(np.isnan(values), np.nanmean(values), values)
    assert by_value[:, 0] == pytest.approx((filled - filled.mean()) / filled.std())
    by_rank, _ = vectors(values, fine(values), "spearman", 20)
    ranks = pd.Series(values).rank().to_numpy()
    ranks = np.where(np.isnan(values), np.nanmean(ranks), ranks)
    assert by_rank[:, 0] == pytest.approx((ranks - ranks.mean()) / ranks.std())


def test_nobody_carries_much_of_a_vector_however_extreme_the_value() -> None:
    values = np.random.default_rng(2).normal(size=300)
    values[7], values[9] = 1e9, 2e9
    found, drawn_in = vectors(values, fine(values), "pearson", 20)
    assert drawn_in == 2
    assert (found**2).max() <= MOST_WEIGHT * 300
    few = np.zeros(300)
    few[:5] = 1
    assert vectors(few, fine(few), "pearson", 20)[0].shape == (300, 0)
    assert vectors(np.full(300, 4.2), fine(few), "pearson", 20)[0].shape == (300, 0)
