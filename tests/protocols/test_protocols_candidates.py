import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ftl.features import BinEdges
from ftl.protocols.boosting import Candidates

LEAST = 5


def offered(seed: int, rows: int = 120) -> tuple[Candidates, np.ndarray]:
    random = np.random.default_rng(seed)
    values = np.column_stack(
        [random.normal(size=rows), np.round(random.exponential(size=rows)), random.integers(0, 5, rows)]
    ).astype(float)
    values[random.random(values.shape) < random.choice([0.0, 0.02, 0.2])] = np.nan
    edges = BinEdges.fit(values, np.array([False, False, True]), 10)
    return Candidates(values, edges, LEAST), values


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_sums_by_bin_make_the_sum_over_the_people_on_the_left(seed: int) -> None:
    candidates, values = offered(seed)
    weight = np.random.default_rng(seed).integers(0, 1000, len(values))
    by_bin = np.zeros(sum(candidates.bins), dtype=np.int64)
    places = np.array([column.first for column in candidates.columns]) + candidates.codes
    np.add.at(by_bin, places.ravel(), np.repeat(weight, places.shape[1]))
    order = np.random.default_rng(seed).permutation(candidates.count)
    sums = candidates.sums(by_bin, order, np.add, np.take)
    assert sums.tolist() == [int(weight[candidates.goes_left(number)].sum()) for number in order]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_no_two_sums_given_away_differ_by_fewer_than_the_smallest_bucket(seed: int) -> None:
    candidates, values = offered(seed)
    random = np.random.default_rng(seed)
    everybody = np.ones(len(values), dtype=bool)
    left = random.random(len(values)) < 0.4
    allowed = candidates.releasable([candidates.counts(everybody)], np.ones(candidates.count, dtype=bool))
    released = candidates.releasable([candidates.counts(left), candidates.counts(~left)], allowed)
    assert not (released & ~allowed).any()
    for node in (left, ~left):
        for column in candidates.columns:
            numbers = np.arange(column.candidate, column.candidate + column.candidates)
            told = [candidates.goes_left(number) & node for number in numbers[released[numbers]]]
            told += [node, np.zeros_like(node)]
            if column.categorical:  # what a category leaves over is told by subtraction, too
                told.append(np.logical_or.reduce(told[:-2]) if len(told) > 2 else told[1])
            for first in told:
                for second in told:
                    apart = np.count_nonzero(first & ~second) if not (second & ~first).any() else LEAST
                    assert apart == 0 or apart >= LEAST


def test_a_column_without_a_useful_cut_offers_nothing() -> None:
    values = np.column_stack([np.zeros(50), np.full(50, np.nan), np.r_[np.ones(2), np.zeros(48)]])
    candidates = Candidates(values, BinEdges.fit(values, np.zeros(3, dtype=bool), 8), LEAST)
    assert candidates.count == 0
    assert candidates.columns == []


def test_missing_alone_can_split_a_column() -> None:
    values = np.r_[np.full(20, np.nan), np.ones(30)][:, None]
    candidates = Candidates(values, BinEdges.fit(values, np.zeros(1, dtype=bool), 8), LEAST)
    assert candidates.count == 1
    assert np.array_equal(candidates.goes_left(0), ~np.isnan(values[:, 0]))
    assert candidates.describe(0)[1:] == (float(np.finfo(np.float64).max), (), False)
