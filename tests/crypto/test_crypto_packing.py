"""Packing gradient, hessian and count into one integer: exact sums, no overflow, refused nonsense."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftl.crypto import Packing
from ftl.errors import CipherError

PACKINGS = st.builds(
    Packing,
    rows=st.integers(1, 200_000),
    gradient=st.sampled_from([1.0, 0.3, 12.5]),
    hessian=st.sampled_from([0.25, 1.0, 7.0]),
    fraction=st.integers(1, 30),
)


@given(PACKINGS, st.data())
def test_a_sum_of_packed_rows_is_the_packed_sums_of_the_rows(packing: Packing, data: st.DataObject) -> None:
    n = data.draw(st.integers(0, min(40, packing.rows)))
    g = np.array(data.draw(st.lists(st.floats(-packing.gradient, packing.gradient), min_size=n, max_size=n)))
    h = np.array(data.draw(st.lists(st.floats(0, packing.hessian), min_size=n, max_size=n)))
    sums = packing.unpack(np.array([sum(packing.pack(g, h)), None], dtype=object)[:1])
    assert sums.count.tolist() == [n]
    assert sums.gradient.tolist() == [packing.fixed(g).sum()]
    assert sums.hessian.tolist() == [packing.fixed(h).sum()]
    assert abs(packing.real(sums.gradient)[0] - g.sum()) <= n * 2.0 ** -(packing.fraction + 1) + 1e-9


@given(PACKINGS, st.sampled_from([-1, 1]))
def test_no_sum_of_the_most_rows_at_their_limits_overflows_its_field(packing: Packing, sign: int) -> None:
    one = packing.pack(np.array([sign * packing.gradient]), np.array([packing.hessian]))[0]
    largest = one * packing.rows
    assert largest < 1 << packing.bits
    sums = packing.unpack(np.array([largest, None], dtype=object)[:1])
    assert sums.count[0] == packing.rows
    assert sums.gradient[0] == sign * packing.rows * int(packing.fixed(np.array([packing.gradient]))[0])
    assert sums.hessian[0] == packing.rows * int(packing.fixed(np.array([packing.hessian]))[0])


def test_an_empty_bucket_unpacks_to_zeros() -> None:
    sums = Packing(1000).unpack(np.array([0, 0], dtype=object))
    assert (sums.gradient.tolist(), sums.hessian.tolist(), sums.count.tolist()) == ([0, 0], [0, 0], [0, 0])


@pytest.mark.parametrize(
    ("g", "h"), [(1.01, 0.1), (-1.01, 0.1), (0.0, -0.01), (0.0, 0.26), (np.nan, 0.1), (0.0, np.nan), (np.inf, 0.1)]
)
def test_a_row_beyond_its_limits_is_refused_without_showing_it(g: float, h: float) -> None:
    with pytest.raises(CipherError, match="1 of 2 rows have a gradient beyond") as caught:
        Packing(10).pack(np.array([0.5, g]), np.array([0.2, h]))
    assert str(g) not in str(caught.value)


def test_more_rows_than_declared_are_refused() -> None:
    with pytest.raises(CipherError, match=r"gradients of shape \(3,\) .* for 2 rows"):
        Packing(2).pack(np.zeros(3), np.zeros(3))


@pytest.mark.parametrize("forged", [-1, 1 << Packing(10).bits])
def test_a_number_wider_than_the_packing_is_no_sum(forged: int) -> None:
    with pytest.raises(CipherError, match="does not fit into the"):
        Packing(10).unpack(np.array([forged, None], dtype=object)[:1])


def test_a_number_with_a_gradient_but_no_rows_is_no_sum() -> None:
    packing = Packing(10)
    forged = 5 << (packing.hessian_bits + packing.count_bits)
    with pytest.raises(CipherError, match="not a sum of at most 10 packed rows"):
        packing.unpack(np.array([forged, None], dtype=object)[:1])


@pytest.mark.parametrize(
    ("rows", "fraction", "why"), [(0, 24, "Impossible packing: 0 rows"), (1 << 40, 30, "do not fit into 62 bits")]
)
def test_a_packing_that_could_overflow_is_refused_when_it_is_made(rows: int, fraction: int, why: str) -> None:
    with pytest.raises(CipherError, match=why):
        Packing(rows, fraction=fraction)
