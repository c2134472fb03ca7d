"""The pieces of shared trees: losses, samples of rows and columns, and which sums a party gives away."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftl.crypto import Packing, Sums
from ftl.features import BinEdges
from ftl.protocols.boosting import (
    Candidates,
    FixedPoint,
    LogLoss,
    Loss,
    Offer,
    Rules,
    Sampling,
    Softmax,
    SquaredError,
    Total,
    best_split,
    bundles,
    columns_of,
    packing_for,
)

LEAST = 5


def labels(loss: Loss, random: np.random.Generator, people: int) -> np.ndarray:
    if isinstance(loss, SquaredError):
        return random.normal(size=people)
    return random.integers(0, max(loss.outputs, 2), people).astype(float)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
@pytest.mark.parametrize("loss", [LogLoss(), SquaredError(), Softmax(3)])
def test_gradients_are_the_slopes_of_the_loss_and_hessians_bound_its_bend(loss: Loss, seed: int) -> None:
    random = np.random.default_rng(seed)
    margins, label = random.normal(size=(7, loss.outputs)) * 2, labels(loss, random, 7)
    gradient, hessian = loss.derivatives(label, margins)
    for output in range(loss.outputs):
        step = np.zeros(loss.outputs)
        step[output] = 1e-4
        up, here, down = (loss.losses(label, margins + sign * step) for sign in (1, 0, -1))
        np.testing.assert_allclose(gradient[:, output], (up - down) / 2e-4, atol=1e-6)
        bend = (up - 2 * here + down) / 1e-8
        assert (hessian[:, output] >= bend - 1e-4).all()
        if loss.outputs == 1:
            np.testing.assert_allclose(hessian[:, output], bend, atol=1e-4)


@pytest.mark.parametrize("loss", [LogLoss(), SquaredError(), Softmax(3)])
def test_no_constant_margin_is_better_than_the_start(loss: Loss) -> None:
    random = np.random.default_rng(2)
    label, weight = labels(loss, random, 200), random.uniform(0.1, 3, 200)
    start = loss.start(label, weight)

    def total(margin: np.ndarray) -> float:
        return float((loss.losses(label, np.tile(margin, (200, 1))) * weight).sum())

    for _ in range(50):
        assert total(start) <= total(start + random.normal(size=loss.outputs) * 0.1)


def test_rows_are_drawn_anew_each_round_and_alike_with_the_same_seed() -> None:
    training = np.ones((2, 1000), dtype=bool)
    training[1, :400] = False
    none = np.zeros((2, 1000))
    first, second = (Sampling(1, rows=0.3).factors(number, training, none) for number in (0, 1))
    assert (first > 0).sum(axis=1).tolist() == [300, 180]
    assert not np.array_equal(first, second)
    assert np.array_equal(first, Sampling(1, rows=0.3).factors(0, training, none))
    assert set(np.unique(first)) == {0.0, 1.0}
    assert not first[1, :400].any()


def test_the_largest_gradients_are_kept_and_the_others_count_more_so_that_sums_stay_unbiased() -> None:
    random = np.random.default_rng(0)
    gradient = np.abs(random.normal(size=(1, 2000)))
    training = np.ones((1, 2000), dtype=bool)
    sampling = Sampling(3, top=0.2, other=0.1)
    assert sampling.most(2000) == 600
    factors = np.array([sampling.factors(number, training, gradient)[0] for number in range(60)])
    assert ((factors > 0).sum(axis=1) == 600).all()
    top = np.argsort(-gradient[0])[:400]
    assert (factors[:, top] == 1).all()
    rest = np.setdiff1d(np.arange(2000), top)
    assert set(np.unique(factors[:, rest])) == {0.0, 8.0}
    sums = factors @ gradient[0]
    assert abs(sums.mean() / gradient.sum() - 1) < 0.01


def test_columns_are_drawn_by_party_round_and_tree() -> None:
    drawn = columns_of(7, "bank", 3, trees=40, count=10, share=0.35)
    assert (drawn.sum(axis=1) == 4).all()
    assert len({tuple(one) for one in drawn.tolist()}) > 30
    assert not np.array_equal(drawn, columns_of(7, "shop", 3, 40, 10, 0.35))
    assert not np.array_equal(drawn, columns_of(7, "bank", 4, 40, 10, 0.35))
    assert columns_of(7, "bank", 3, 2, 10, 1.0).all()


def offered(seed: int, rows: int = 120) -> tuple[Candidates, np.ndarray]:
    random = np.random.default_rng(seed)
    values = np.column_stack(
        [random.normal(size=rows), np.round(random.exponential(size=rows)), random.integers(0, 5, rows)]
    ).astype(float)
    values[random.random(values.shape) < random.choice([0.0, 0.02, 0.2])] = np.nan
    edges = BinEdges.fit(values, np.array([False, False, True]), 10)
    return Candidates(values, edges, LEAST, np.array([1, -1, 1], dtype=np.int8)), values


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sets(st.integers(0, 2), min_size=1))
def test_sums_of_some_columns_by_bin_make_the_sums_over_the_people_on_the_left(seed: int, chosen: set[int]) -> None:
    candidates, values = offered(seed)
    weight = np.random.default_rng(seed).integers(0, 1000, len(values))
    used = np.isin(np.arange(len(candidates.columns)), list(chosen))
    used[0] |= not used.any()
    codes, bins, at = candidates.bins_at(used)
    starts = np.cumsum([0, *bins])
    by_bin = np.concatenate(
        [np.bincount(column, weights=weight, minlength=b) for column, b in zip(codes.T, bins, strict=True)]
    ).astype(np.int64)
    assert len(by_bin) == starts[-1]
    given = np.random.default_rng(seed).permutation(np.flatnonzero(used[candidates.place]))
    sums = candidates.sums(by_bin[at], given, np.add, np.take)
    assert sums.tolist() == [int(weight[candidates.goes_left(n)].sum()) for n in given]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_no_two_sums_given_away_differ_by_fewer_than_the_smallest_bucket(seed: int) -> None:
    candidates, values = offered(seed)
    random = np.random.default_rng(seed)
    everybody = np.ones(len(values), dtype=bool)
    root = candidates.releasable([candidates.counts(everybody)], np.ones(candidates.count, dtype=bool))
    left = random.random(len(values)) < random.uniform(0.2, 0.8)
    nodes = [left, ~left]
    below = candidates.releasable([candidates.counts(node) for node in nodes], root)
    assert not (below & ~root).any()
    for released, groups in ((root, [everybody]), (below, nodes)):
        for place in range(len(candidates.columns)):
            own = [n for n in np.flatnonzero(released) if candidates.place[n] == place]
            for node in groups:
                sets = [candidates.goes_left(n) & node for n in own] + [node, np.zeros_like(node)]
                for one in sets:
                    for other in sets:
                        assert not 0 < (one ^ other).sum() < LEAST


def test_a_monotone_column_offers_thresholds_one_way_and_categories_and_gaps_either_way() -> None:
    candidates, _ = offered(2)
    kinds = {}
    for number in range(candidates.count):
        column, threshold, codes, _ = candidates.describe(number)
        gap = threshold == np.finfo(np.float64).max
        kinds.setdefault("gap" if gap else "code" if codes else f"cut {column.number}", set()).add(
            int(candidates.offered[number])
        )
    assert kinds["cut 0"] == {2}
    assert kinds["cut 1"] == {3}
    assert kinds["code"] == {1}
    assert kinds.get("gap", {1}) == {1}


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-6, 1e9))
def test_fixed_point_gains_are_those_of_floats_whatever_the_scale(seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    gradient, hessian = random.normal(size=300) * scale, random.uniform(0.1, 1, 300)
    packing = packing_for(300)
    fixed = FixedPoint.of(packing, gradient, hessian)
    scaled = fixed.scaled(gradient, hessian)
    assert max(np.abs(part).max() for part in scaled) <= 1
    whole = packing.unpack(np.array([sum(packing.pack(*scaled)), 0], dtype=object)[:1])
    left = random.random(300) < 0.4
    part = packing.unpack(np.array([sum(packing.pack(*(one[left] for one in scaled))), 0], dtype=object)[:1])
    rules = Rules(packing, l2=1.0, min_bucket=2)
    total = Total(int(whole.gradient[0]), int(whole.hessian[0]), 300)
    [gain] = rules.gains(fixed, total, Offer(part, np.array([1], dtype=np.uint8)))

    def score(rows: np.ndarray) -> float:
        return float(gradient[rows].sum() ** 2 / (hessian[rows].sum() + 1.0))

    exact = score(left) + score(~left) - score(np.ones(300, dtype=bool))
    assert abs(gain - exact) <= 1e-4 * scale**2


def test_nobody_wins_with_fewer_people_or_less_hessian_than_the_rules_ask_for() -> None:
    packing = Packing(100, 1.0, 1.0)
    fixed = FixedPoint(packing)
    sums = Sums(packing.fixed(np.array([9.0, 9.0])), packing.fixed(np.array([2.0, 8.0])), np.array([30, 4]))
    offer = Offer(sums, np.array([1, 1], dtype=np.uint8))
    total = Total(0, int(packing.fixed(np.array([20.0]))[0]), 60)
    chosen = {
        (bucket, hessian): best_split(Rules(packing, 1.0, bucket, min_hessian=hessian), fixed, total, {"p": offer})
        for bucket, hessian in ((2, 0.0), (5, 0.0), (2, 3.0), (5, 3.0), (40, 0.0))
    }
    found = {rules: best.candidates if best else [] for rules, best in chosen.items()}
    assert found == {(2, 0.0): [0], (5, 0.0): [0], (2, 3.0): [1], (5, 3.0): [], (40, 0.0): []}


@given(st.integers(1, 60), st.integers(1, 12))
def test_bundles_hold_every_tree_once_and_are_as_few_and_as_even_as_can_be(trees: int, together: int) -> None:
    runs = bundles(trees, together)
    assert [tree for run in runs for tree in run] == list(range(trees))
    assert len(runs) == -(-trees // together)
    assert max(map(len, runs)) - min(map(len, runs)) <= 1
    assert max(map(len, runs)) <= together
