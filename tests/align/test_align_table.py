"""The table of hidden values: right for its keys, random for everybody else, and telling nothing of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftl.align.table import fill, look_up, places_of, slots_for
from ftl.errors import AlignmentError


def keys_and_values(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    keys = generator.choice(2**62, size=count, replace=False).astype(np.uint64) if count < 10**5 else None
    if keys is None:
        keys = np.unique(generator.integers(0, 2**63, count + 10).astype(np.uint64))[:count]
    return keys, generator.integers(0, 256, (count, 12)).astype(np.uint8)


@given(st.integers(0, 300), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_every_key_has_its_value(count: int, seed: int) -> None:
    keys, values = keys_and_values(count, seed)
    filled = fill(keys, values)
    assert len(filled.rows) == slots_for(count)
    np.testing.assert_array_equal(look_up(filled.rows, keys, filled.attempt), values)


def test_a_large_table_is_filled_at_the_first_attempt_and_has_a_third_more_places_than_keys() -> None:
    keys, values = keys_and_values(30_000, 0)
    filled = fill(keys, values)
    np.testing.assert_array_equal(look_up(filled.rows, keys, filled.attempt), values)
    assert filled.attempt == 0
    assert len(filled.rows) < 1.31 * 30_000


def test_other_keys_get_what_no_key_has() -> None:
    keys, values = keys_and_values(1000, 3)
    filled = fill(keys[:500], np.zeros((500, 12), dtype=np.uint8))
    others = look_up(filled.rows, keys[500:], filled.attempt)
    assert len(np.unique(others, axis=0)) == 500
    assert not (others == 0).all(axis=1).any()
    assert abs(others.mean() - 127.5) < 5
    assert values.shape == (1000, 12)


def test_places_are_one_in_each_third_and_differ_from_attempt_to_attempt() -> None:
    keys, _ = keys_and_values(2000, 4)
    first, second = places_of(keys, 300, 0), places_of(keys, 300, 1)
    assert [(column.min() // 100, column.max() // 100) for column in first.T] == [(0, 0), (1, 1), (2, 2)]
    assert (first == second).mean() < 0.03


def test_two_tables_of_the_same_people_have_nothing_in_common_but_their_answers() -> None:
    keys, values = keys_and_values(200, 5)
    first, second = fill(keys, values), fill(keys, values)
    assert (first.rows == second.rows).mean() < 0.02


def test_equal_keys_make_no_table() -> None:
    with pytest.raises(AlignmentError, match="two of them are the same"):
        fill(np.array([7, 7], dtype=np.uint64), np.zeros((2, 12), dtype=np.uint8))
