"""Fine bins, exact merging, weight of evidence and what else bins tell, against brute force and other libraries."""

import itertools
import json
from xml.etree import ElementTree as ET

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftl.collect.derive import Derivation
from ftl.features.binning import UNKNOWN, FineBins, Rules, by_first_appearance, merge_categories, merge_chain
from ftl.features.woe import (
    chance,
    information_value,
    shares_of_value,
    stability_index,
    stump_gain,
    weight_of_evidence,
)
from ftl.features.woe_plot import plot
from ftl.features.woe_table import WoeTable, derived, merged_bins

COUNTS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=2, max_size=9).filter(
    lambda pairs: sum(bad for bad, _ in pairs) and sum(good for _, good in pairs) and all(map(sum, pairs))
)
RULES = st.builds(Rules, st.integers(2, 5), st.integers(1, 60), st.integers(0, 5))


def arrays(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    bad, good = np.array(pairs).T
    return bad, bad + good


def value(bad: np.ndarray, total: np.ndarray, group: np.ndarray) -> float:
    merged = [np.bincount(group, weights=each).astype(int) for each in (bad, total)]
    return information_value(*merged)


def turned(group: np.ndarray) -> list[int]:
    """A grouping of the reversed chain, as one of the chain."""
    return by_first_appearance(group[::-1]).tolist()


def allowed(bad: np.ndarray, total: np.ndarray, group: np.ndarray, rules: Rules, trend: str) -> bool:
    bads, people = (np.bincount(group, weights=each) for each in (bad, total))
    enough = (people >= rules.least).all() and (np.minimum(bads, people - bads) >= rules.of_a_class).all()
    steps = np.diff(bads / people)
    one_way = {"rising": (steps > 0).all(), "falling": (steps < 0).all()}
    one_way["auto"] = one_way["rising"] or one_way["falling"]
    return bool(enough and len(people) <= rules.most and one_way[trend])


@settings(max_examples=60, deadline=None)
@given(COUNTS, RULES, st.sampled_from(["auto", "rising", "falling"]))
def test_merging_finds_what_trying_every_partition_finds(pairs, rules: Rules, trend) -> None:
    bad, total = arrays(pairs)
    group = merge_chain(bad, total, int(bad.sum()), int(total.sum()), trend, rules)
    best = 0.0
    for cuts in itertools.product([0, 1], repeat=len(bad) - 1):
        partition = np.concatenate([[0], np.cumsum(cuts)])
        if allowed(bad, total, partition, rules, trend):
            best = max(best, value(bad, total, partition))
    assert value(bad, total, group) == pytest.approx(best, abs=1e-12)
    assert group.max() == 0 or allowed(bad, total, group, rules, trend)
    assert (np.diff(group) >= 0).all()


@settings(max_examples=80, deadline=None)
@given(COUNTS, RULES)
def test_a_chain_read_backwards_has_the_same_merged_bins(pairs, rules: Rules) -> None:
    bad, total = arrays(pairs)
    counts = int(bad.sum()), int(total.sum())
    rising = merge_chain(bad, total, *counts, "rising", rules)
    falling = merge_chain(bad, total, *counts, "falling", rules)
    assert turned(merge_chain(bad[::-1], total[::-1], *counts, "falling", rules)) == rising.tolist()
    forth = merge_chain(bad, total, *counts, "auto", rules)
    back = turned(merge_chain(bad[::-1], total[::-1], *counts, "auto", rules))
    assert value(bad, total, forth) == value(bad, total, np.array(back))
    if value(bad, total, rising) != value(bad, total, falling):
        assert back == forth.tolist()


@settings(max_examples=60, deadline=None)
@given(COUNTS, RULES, st.randoms())
def test_categories_are_merged_alike_in_whatever_order_they_come(pairs, rules: Rules, random) -> None:
    bad, total = arrays(pairs)
    order = np.array(random.sample(range(len(pairs)), len(pairs)))
    counts = int(bad.sum()), int(total.sum())
    first = merge_categories(bad, total, *counts, rules)
    second = np.empty_like(first)
    second[order] = merge_categories(bad[order], total[order], *counts, rules)
    assert by_first_appearance(second).tolist() == first.tolist()


def test_no_merging_keeps_every_bin() -> None:
    bad, total = np.array([3, 1, 4]), np.array([9, 9, 9])
    assert merge_chain(bad, total, 8, 27, "none", Rules(2, 20, 5)).tolist() == [0, 1, 2]


def test_weight_of_evidence_and_information_value_of_a_worked_table() -> None:
    bad, total = np.array([40, 10]), np.array([100, 100])
    woe = weight_of_evidence(bad, total, 50, 200)
    assert woe == pytest.approx([np.log(0.4 / 0.8), np.log(0.6 / 0.2)])
    assert information_value(bad, total) == pytest.approx((0.4 - 0.8) * np.log(0.5) + 0.4 * np.log(3))
    assert information_value(np.array([50]), np.array([200])) == 0


def test_a_bin_without_bad_people_counts_half_a_one() -> None:
    woe = weight_of_evidence(np.array([0, 10]), np.array([20, 40]), 10, 60)
    assert woe[0] == pytest.approx(np.log((20 / 50) / (0.5 / 10)))
    assert np.isfinite(shares_of_value(np.array([0, 0]), np.array([0, 5]), 10, 60)).all()


def test_gain_is_that_of_the_best_of_all_two_way_splits() -> None:
    bad, total = np.array([5, 30, 8, 21, 2]), np.array([50, 60, 70, 45, 9])

    def deviance(part: np.ndarray) -> float:
        bads, people = bad[part].sum(), total[part].sum()
        return float(-bads * np.log(bads / people) - (people - bads) * np.log(1 - bads / people))

    splits = [np.array(sides, dtype=bool) for sides in itertools.product([0, 1], repeat=5) if 0 < sum(sides) < 5]
    least = min(deviance(split) + deviance(~split) for split in splits)
    assert stump_gain(bad, total) == pytest.approx(1 - least / deviance(np.ones(5, dtype=bool)))
    assert stump_gain(np.array([5]), np.array([9])) == 0


def test_chance_of_a_worked_table() -> None:
    assert chance(np.array([10, 20]), np.array([30, 30])) == pytest.approx(0.009823, abs=1e-6)  # χ² = 20/3, 1 degree
    assert chance(np.array([5]), np.array([9])) == 1


def test_the_stability_index_of_a_worked_table() -> None:
    then, now = np.array([50, 50]), np.array([80, 20])
    assert stability_index(then, now) == pytest.approx(0.3 * np.log(1.6) - 0.3 * np.log(0.4))
    assert stability_index(then, then * 3) == 0
    assert stability_index(then, np.zeros(2, dtype=int)) is None


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(2, 30), st.integers(10, 40), st.booleans(), st.floats(0, 1), st.integers(0, 99))
def test_every_fine_bin_holds_enough_people_or_is_the_only_one(
    people: int, most: int, least: int, categorical: bool, gaps: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    values = np.round(random.normal(size=people) * 2) + 9 if categorical else random.normal(size=people)
    values[random.random(people) < gaps] = np.nan
    fine = FineBins.fit(values, categorical=categorical, most=most, least=least)
    codes = fine.codes(values)
    assert np.bincount(codes, minlength=len(fine.counts)).tolist() == fine.counts.tolist()
    assert len(fine.counts) == 1 or fine.counts.min() >= least
    assert categorical or len(fine.counts) <= most + 1


def test_few_missing_values_are_counted_with_the_fullest_bin_and_many_by_themselves() -> None:
    known = np.repeat([1.0, 2.0, 3.0], [30, 60, 40])
    few = FineBins.fit(np.append(known, [np.nan] * 3), categorical=False, most=5, least=20)
    assert few.missing == 1
    assert few.counts.tolist() == [30, 63, 40]
    many = FineBins.fit(np.append(known, [np.nan] * 25), categorical=False, most=5, least=20)
    assert many.own_missing
    assert many.counts.tolist() == [30, 60, 40, 25]
    none = FineBins.fit(known, categorical=False, most=5, least=20)
    assert none.codes(np.array([np.nan, 2.5])).tolist() == [UNKNOWN, 1]


def test_rare_categories_share_a_bin_with_few_missing_values() -> None:
    codes = np.repeat([0.0, 1.0, 2.0, 3.0, np.nan], [50, 12, 40, 6, 4])
    fine = FineBins.fit(codes, categorical=True, most=5, least=20)
    assert fine.groups == ((0,), (2,), (1, 3))
    assert fine.counts.tolist() == [50, 40, 22]
    assert fine.codes(np.array([np.nan, 3.0, 7.0])).tolist() == [2, 2, UNKNOWN]
    alone = FineBins.fit(codes[:102], categorical=True, most=5, least=20)
    assert alone.groups == ((0,), (2, 1))


def table(values: np.ndarray, texts: tuple[str, ...] = (), woe: list[float | None] | None = None) -> WoeTable:
    fine = FineBins.fit(values, categorical=bool(texts), most=4, least=20)
    group = np.arange(len(fine.counts))
    weights = woe or [number * 0.1 + 0.05 for number in group.tolist()]
    return WoeTable("amount", 1, bool(texts), merged_bins(fine, group, texts, weights), 0.3, selected=True)


def by_sql(made: WoeTable, values: pa.Array) -> tuple[str, list[float]]:
    name, expression = derived(made)
    rows = pa.table({"amount": values})
    return name, Derivation("t", {name: expression}, rows.schema).apply(rows).column(name).to_pylist()


def test_the_sql_of_a_numeric_column_bins_as_training_did() -> None:
    random = np.random.default_rng(0)
    values = np.where(random.random(400) < 0.2, np.nan, random.normal(size=400) * 1e7 + 0.1)
    made = table(values)
    fine = FineBins.fit(values, categorical=False, most=4, least=20)
    values = np.concatenate([values, fine.edges, np.nextafter(fine.edges, np.inf), [-1e300, 1e300]])
    name, codes = by_sql(made, pa.array(values, from_pandas=True))
    assert name == "amount_woe"
    assert codes == pytest.approx([0.1 * code + 0.05 for code in fine.codes(values)])


def test_the_sql_of_a_categorical_column_takes_quotes_numbers_missing_and_unseen_values() -> None:
    codes = np.repeat([0.0, 1.0, 2.0], [40, 50, 60])
    text = table(codes, ("o'x", "7", "north"))
    assert by_sql(text, pa.array(["7", "o'x", "north", "unseen", None]))[1] == pytest.approx([0.15, 0.05, 0.25, 0, 0])
    numbers = table(codes, ("3", "7", "12"))
    assert by_sql(numbers, pa.array([3.0, 7.0, 12.0, 8.0, None]))[1] == pytest.approx([0.05, 0.15, 0.25, 0, 0])
    assert by_sql(numbers, pa.array([3, 7, 12, 8, None]))[1] == pytest.approx([0.05, 0.15, 0.25, 0, 0])


def test_bins_whose_weights_were_not_told_are_coded_by_number() -> None:
    made = table(np.repeat([1.0, 2.0, np.nan], 50), woe=[None, None, None])
    name, codes = by_sql(made, pa.array([0.0, 1.5, 9.0, None]))
    assert (name, codes) == ("amount_bin", [1, 1, 2, 3])


def test_the_picture_is_valid_and_says_what_was_not_told() -> None:
    told = ET.fromstring(plot(table(np.repeat([0.0, 1.0], 50), ("a<b", "c&d"))))  # noqa: S314 - it is ours
    texts = [element.text for element in told.iter() if element.text and element.text.strip()]
    assert "a<b" in texts
    assert "+0.15" in texts
    assert "50.0%" in texts
    hidden = plot(table(np.repeat([1.0, 2.0, np.nan], 50), woe=[None, None, None])).decode()
    assert "weight of evidence not told" in hidden
    assert "missing" in hidden
    assert "circle" not in hidden


def test_a_derived_expression_survives_yaml_as_a_quoted_text() -> None:
    _, expression = derived(table(np.repeat([0.0, 1.0], 50), ('quote"', "back\\slash")))
    assert json.loads(json.dumps(expression)) == expression
