"""The pieces that the regressions of several parties rest on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from ftl.errors import ProtocolError
from ftl.features import Frame
from ftl.protocols.hetero_linear import series
from ftl.protocols.hetero_linear.design import fit_design
from ftl.protocols.hetero_linear.fixed import Layout, bits_left, inner_products, orthonormal, real, rounded
from ftl.protocols.hetero_linear.messages import MODULUS
from ftl.protocols.hetero_linear.newton import Block, Recursion, Step, total
from ftl.protocols.hetero_linear.pads import Pads


@pytest.mark.parametrize("reach", [1.0, 5.0, 12.5, 24.0])
def test_the_series_is_the_logistic_function_of_the_sum_of_two_parts(reach: float) -> None:
    random = np.random.default_rng(0)
    chosen = series.choose(reach, 1e-4)
    first, second = random.uniform(-reach / 2, reach / 2, (2, 500))
    encrypted = series.encrypted_part(chosen, first / chosen.period)
    value = 0.5 + (encrypted * series.value_part(chosen, second / chosen.period)).sum(axis=1)
    weight = np.exp(-np.abs(first + second) / 6) + 0.02
    assert np.abs((value - special.expit(first + second)) * weight).max() < 2e-4
    fine = series.choose(reach, 1e-5)
    encrypted = series.encrypted_part(fine, first / fine.period)
    slope = (encrypted * series.slope_part(fine, second / fine.period)).sum(axis=1)
    chance = special.expit(first + second)
    near = np.abs(first + second) < 6
    assert np.abs(slope - chance * (1 - chance))[near].max() < 1e-3


@settings(max_examples=30, deadline=None)
@given(shift=st.floats(-1000, 1000), part=st.floats(-4, 4))
def test_parts_may_be_shifted_against_each_other(shift: float, part: float) -> None:
    chosen = series.choose(8.0, 1e-3)
    phases = np.array([part, 1.5]) / chosen.period
    moved = (phases + np.array([shift, -shift])) % 1.0
    values = [
        (series.encrypted_part(chosen, one[:1]) * series.value_part(chosen, one[1:])).sum() for one in (phases, moved)
    ]
    assert values[0] == pytest.approx(values[1], abs=1e-8)


@settings(max_examples=30, deadline=None)
@given(people=st.integers(1, 3000), count=st.integers(1, 7), vectors=st.integers(1, 4), seed=st.integers(0, 99))
def test_products_of_plaintexts_add_up_to_inner_products(people: int, count: int, vectors: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    columns = random.integers(-500, 500, (people, count)) % MODULUS
    held = random.integers(0, MODULUS, (people, vectors))
    layout = Layout(people, vectors)
    plain = layout.of_vectors(held).astype(object)
    assert len(plain) == layout.plaintexts
    sums = []
    for group in range(layout.groups(count)):
        slots = (plain * layout.of_columns(columns, group)).sum(axis=0) % MODULUS
        sums.append(layout.summed(slots.astype(np.int64)[None])[0])
    expected = inner_products(columns, held)
    assert np.array_equal(layout.unfolded(np.array(sums), count), expected)
    exact = columns.T.astype(object) @ held.astype(object) % MODULUS
    assert np.array_equal(expected, exact.astype(np.int64))


def test_rounding_is_right_in_the_mean() -> None:
    values = np.full(100_000, 0.3)
    back = real(rounded(-values, 4, np.random.default_rng(0)), 4)
    assert abs(back.mean() + 0.3) < 3 * 0.03 / np.sqrt(len(values))
    assert set(np.unique(back)) == {-5 / 16, -4 / 16}


@settings(max_examples=50, deadline=None)
@given(people=st.integers(100, 10_000_000), size=st.floats(0.05, 50))
def test_a_sum_over_all_people_fits(people: int, size: float) -> None:
    assert people * size * 2.0 ** bits_left(people, size) <= MODULUS / 2 * (1 + 1e-9)


def test_orthonormal_columns_do_not_feel_that_columns_are_nearly_the_same() -> None:
    random = np.random.default_rng(0)
    columns = random.normal(size=(500, 3))
    columns[:, 2] = columns[:, 1] + 1e-3 * columns[:, 2]
    turned = columns @ orthonormal(columns)
    assert turned.T @ turned / 500 == pytest.approx(np.eye(3), abs=1e-6)


def blocks(matrix: np.ndarray, cut: int, l1: float, sign: int) -> list[Block]:
    metric = matrix.T @ matrix / len(matrix) / 4
    parts = [slice(0, cut), slice(cut, matrix.shape[1])]
    return [
        Block(np.zeros(p.stop - p.start), metric[p, p], *(np.full(p.stop - p.start, v) for v in (l1, 0.0, sign)), 10)
        for p in parts
    ]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), l1=st.sampled_from([0.0, 0.01, 0.05]), sign=st.sampled_from([0, 1, -1]))
def test_blocks_that_exchange_inner_products_reach_the_optimum(seed: int, l1: float, sign: int) -> None:
    """Checked by the conditions that hold at a constrained optimum and nowhere else."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(300, 6)) @ (np.eye(6) + 0.5 * random.normal(size=(6, 6)))
    label = (random.random(300) < special.expit(matrix @ random.normal(size=6))).astype(float)
    own, recursion = blocks(matrix, 4, l1, sign), Recursion()
    for _ in range(200):
        coefficients = np.concatenate([block.coefficients for block in own])
        gradient = matrix.T @ (special.expit(matrix @ coefficients) - label) / len(label)
        products = total([block.take(part) for block, part in zip(own, np.split(gradient, [4]), strict=True)])
        if products.largest < 1e-6:
            break
        step = recursion.next_step(products, last=False)
        for block in own:
            block.move(step)
    else:
        pytest.fail("no optimum in 200 rounds")
    moving = coefficients != 0
    assert (coefficients * sign >= 0).all()
    assert np.abs(gradient + l1 * np.sign(coefficients))[moving].max(initial=0) < 1e-4
    held = gradient[~moving]
    assert (held >= -l1 - 1e-4).all() or sign < 0
    assert (held <= l1 + 1e-4).all() or sign > 0


def test_a_step_that_went_too_far_is_taken_back() -> None:
    """On a loss that rises steeply beyond a kink of its slope, the Newton step from afar overshoots."""
    block = Block(np.zeros(1), np.array([[0.01]]), np.zeros(1), np.zeros(1), np.zeros(1, dtype=np.int64), 5)
    recursion = Recursion()
    steps: list[Step] = []
    for _ in range(30):
        x = block.coefficients[0]
        gradient = np.array([np.tanh(5 * (x - 1.0))])
        steps.append(recursion.next_step(block.take(gradient), last=False))
        block.move(steps[-1])
    assert any(step.gradient == 0 and step.steps[-1] < 0 for step in steps)
    assert block.coefficients[0] == pytest.approx(1.0, abs=1e-4)


def frame(values: list[list[float]], categories: dict[str, tuple[str, ...]] | None = None) -> Frame:
    array = np.array(values, dtype=float).T
    columns = tuple("abcdef"[: array.shape[1]])
    return Frame("partner", columns, array, categories or {}, tuple(str(i) for i in range(len(array))))


def test_rare_values_have_no_coefficient_of_their_own() -> None:
    number = [*[0.0] * 95, *[9.0] * 5]
    gaps = [*[np.nan] * 4, *np.arange(96.0)]
    codes = [*[0.0] * 60, *[1.0] * 30, *[2.0] * 6, *[np.nan] * 4]
    found = fit_design(frame([number, gaps, codes], {"c": ("x", "y", "z")}), np.arange(100), 10)
    assert [(term.column, term.kind, term.code) for term in found.terms] == [(1, "number", 0), (2, "category", 1)]
    assert found.names(frame([number, gaps, codes], {"c": ("x", "y", "z")})) == ["b", "c = y"]


def test_columns_that_others_determine_are_left_out() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 100))
    found = fit_design(frame([list(a), list(b), list(2 * a - b + 3)]), np.arange(100), 10)
    assert [term.column for term in found.terms] == [0, 1]


def test_a_missing_number_counts_as_the_mean() -> None:
    column = [*np.arange(50.0), *[np.nan] * 50]
    found = fit_design(frame([column]), np.arange(100), 10)
    matrix = found.matrix(np.array([[np.nan], [24.5], [49.0]]))
    assert matrix[0, 0] == matrix[1, 0] == 0.0
    assert matrix[0, 1] > 0 > matrix[1, 1]


def test_two_parties_draw_the_same_numbers_and_a_third_does_not() -> None:
    pads = {name: Pads() for name in ("a", "b", "c")}
    for name, one in pads.items():
        for other, theirs in pads.items():
            if other != name:
                one.agree(other, theirs.point)
    drawn = pads["a"].numbers("b", "round/1", 5000, MODULUS)
    assert np.array_equal(drawn, pads["b"].numbers("a", "round/1", 5000, MODULUS))
    assert not np.array_equal(drawn, pads["a"].numbers("c", "round/1", 5000, MODULUS))
    assert not np.array_equal(drawn, pads["a"].numbers("b", "round/2", 5000, MODULUS))
    assert abs(drawn.mean() / MODULUS - 0.5) < 4 / np.sqrt(12 * 5000)
    assert pads["a"].numbers("b", "t", 1000, 1 << 32).max() < 1 << 32
    with pytest.raises(ProtocolError, match="'b' sent what is no key"):
        pads["a"].agree("b", bytes(32))
    with pytest.raises(ProtocolError, match="'b' sent a key of 3 bytes"):
        pads["a"].agree("b", b"abc")
