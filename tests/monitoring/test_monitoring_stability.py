import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ftl.monitoring import stability_index

FLOATS = arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e6, 1e6) | st.just(np.nan))


@given(FLOATS)
def test_the_same_rows_have_not_moved(values: np.ndarray) -> None:
    assert stability_index(values, values[::-1]) == pytest.approx(0.0, abs=1e-12)


@given(FLOATS, FLOATS)
def test_the_index_is_never_negative_and_always_finite(then: np.ndarray, now: np.ndarray) -> None:
    assert 0.0 <= stability_index(then, now) < np.inf


def test_the_index_is_that_of_the_textbook_for_two_shares() -> None:
    then = np.array([0.0] * 50 + [1.0] * 50)
    now = np.array([0.0] * 25 + [1.0] * 75)
    expected = (0.25 - 0.5) * np.log(0.25 / 0.5) + (0.75 - 0.5) * np.log(0.75 / 0.5)
    assert stability_index(then, now) == pytest.approx(expected, rel=1e-2)


def test_values_that_go_missing_count_as_movement() -> None:
    then = np.linspace(0, 1, 1000)
    now = np.where(np.arange(1000) < 300, np.nan, then)
    assert stability_index(then, now) > 0.25
