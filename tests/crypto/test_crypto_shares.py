"""Fixed point over two primes, and products of what two parties hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ftl.crypto import shares
from ftl.errors import CipherError

numbers = arrays(np.float64, (3, 4), elements=st.floats(-1e6, 1e6, width=32))


@given(numbers, st.integers(0, 40))
def test_fixed_point_is_off_by_half_a_unit_at_most(values, fraction):
    back = shares.decode(shares.encode(values, fraction), fraction)
    assert np.abs(back - values).max() <= 2.0 ** -(fraction + 1)


@given(numbers, numbers)
def test_sums_and_differences_are_those_of_the_numbers(left, right):
    one, two = shares.encode(left, 30), shares.encode(right, 30)
    assert shares.decode(shares.add(one, two), 30) == pytest.approx(left + right, abs=2e-9)
    assert shares.decode(shares.subtract(one, two), 30) == pytest.approx(left - right, abs=2e-9)


@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_products_are_exact_modulo_the_primes(seed):
    random = np.random.default_rng(seed)
    left, right = shares.random_residues((5, 7)), shares.random_residues((5, 7))
    wide = shares.random_residues((7, int(random.integers(1, 9))))
    for i, prime in enumerate(shares.PRIMES):
        whole = left[i].astype(object)
        assert (shares.multiply(left, right)[i] == whole * right[i].astype(object) % prime).all()
        assert (shares.matmul(left, wide)[i] == whole @ wide[i].astype(object) % prime).all()
        assert (shares.shift(left, 77)[i] == whole * 2**77 % prime).all()


@pytest.mark.parametrize("product", [shares.multiply, lambda x, y: shares.matmul(x.transpose(0, 2, 1), y)])
def test_two_parties_multiply_by_opening_masked_operands_only(product):
    random = np.random.default_rng(5)
    left, right = random.normal(size=(6, 4)), random.normal(size=(6, 4))
    x, y = shares.encode(left, 20), shares.encode(right, 20)
    r, s = shares.random_residues((6, 4)), shares.random_residues((6, 4))
    of_masks = product(r, s)
    first = shares.random_residues(of_masks.shape[1:])
    second = shares.subtract(of_masks, first)
    one = shares.left_share(product, x, shares.subtract(y, s), first)
    two = shares.right_share(product, shares.subtract(x, r), s, second)
    expected = left * right if product is shares.multiply else left.T @ right
    assert shares.decode(shares.add(one, two), 40) == pytest.approx(expected, abs=1e-5)


def test_masks_fill_the_whole_range_evenly():
    drawn = shares.random_residues((200_000,))
    for values, prime in zip(drawn, shares.PRIMES, strict=True):
        counts, _ = np.histogram(values, bins=16, range=(0, prime))
        assert np.abs(counts - 12_500).max() < 600  # 5 standard deviations
        assert np.abs(np.bincount(values % 16) - 12_500).max() < 600
        assert values.min() >= 0
        assert values.max() < prime


def test_a_number_out_of_range_is_refused_and_not_wrapped():
    with pytest.raises(CipherError, match="62 bits"):
        shares.encode(np.array([2.0**40]), 30)
    with pytest.raises(CipherError, match="62 bits"):
        shares.encode(np.array([np.nan]), 30)
    large = shares.shift(shares.encode(np.array([1.0]), 0), 89)
    with pytest.raises(CipherError, match="range"):
        shares.decode(large, 0)
