import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier

from ftl.protocols.base import export, fit_base
from ftl.protocols.trees import Ensemble, Reach, Split, lowest_leaf, probability


def people(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    numbers, more = random.normal(size=rows), random.normal(size=rows)
    few, many = random.integers(0, 6, rows), random.integers(0, 40, rows)
    values = np.column_stack([numbers, few, more, many]).astype(float)
    label = (numbers + few % 2 + (many % 3 == 0) + random.normal(size=rows) > 1).astype(float)
    values[random.random(values.shape) < 0.1] = np.nan
    return values, np.where(np.isnan(values[:, 2]), 1 - label, label)


@pytest.mark.parametrize("categorical", [[False] * 4, [False, True, False, True]])
def test_exported_trees_give_the_same_bits_as_scikit_learn(categorical: list[bool]) -> None:
    values, label = people(1500)
    model = HistGradientBoostingClassifier(
        categorical_features=categorical if any(categorical) else None, max_iter=40, early_stopping=False
    ).fit(values, label)
    values[:20, 1] = 9  # a category that training has not seen
    values[20:40] = np.nan
    compiled = export(model).compile(4)
    assert np.array_equal(compiled.log_odds(values), model.decision_function(values))


def test_stored_trees_are_the_trees() -> None:
    values, label = people(500)
    ensemble = export(HistGradientBoostingClassifier(max_iter=10, early_stopping=False).fit(values, label))
    assert msgspec.json.decode(msgspec.json.encode(ensemble), type=Ensemble) == ensemble


def test_a_batch_scores_as_its_single_rows() -> None:
    values, label = people(5000)
    compiled = export(HistGradientBoostingClassifier(max_iter=10, early_stopping=False).fit(values, label)).compile(4)
    batch = compiled.log_odds(values)
    assert all(compiled.log_odds(values[[row]])[0] == batch[row] for row in (0, 17, 4095, 4096, 4999))
    assert compiled.log_odds(values[:0]).shape == (0,)


def test_two_parties_masks_meet_in_the_leaf_that_one_party_with_all_columns_finds() -> None:
    splits = [Split(0, 0, 0.5, (), True, 0b0011, 0b1100), Split(0, 1, None, (1, 2), False, 0b0001, 0b0010)]
    splits.append(Split(0, 1, None, (0,), True, 0b0100, 0b1000))
    values = np.array([[0.5, 1], [0.4, 0], [0.6, 0], [np.nan, np.nan], [9, np.nan]])
    whole = Reach(splits, 2, 1).leaves(values)
    first = Reach(splits[:1], 2, 1).leaves(values)
    second = Reach(splits[1:], 2, 1).leaves(values)
    four = np.uint64(0b1111)
    assert np.array_equal(first & second, whole)
    assert lowest_leaf(whole & four)[:, 0].tolist() == [0, 1, 2, 1, 2]
    assert np.bitwise_count(whole & four)[:, 0].tolist() == [1, 1, 1, 1, 1]


def test_a_free_column_rules_out_no_leaf() -> None:
    splits = [Split(0, 0, 0.5, (), True, 0b01, 0b10), Split(1, 1, 0.5, (), True, 0b01, 0b10)]
    reach = Reach(splits, 2, 2)
    free = reach.leaves(np.array([[0.0, 0.0]]), without=frozenset({0}))
    assert (free & np.uint64(3)).tolist() == [[3, 1]]
    assert reach.trees_using(frozenset({0})).tolist() == [0]
    assert reach.trees_using(frozenset()).tolist() == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-800, 800), min_size=1, max_size=20))
def test_probability_grows_with_log_odds_and_never_overflows(log_odds: list[float]) -> None:
    ordered = np.sort(np.array(log_odds))
    with np.errstate(over="raise", invalid="raise"):
        chance = probability(ordered)
    assert (np.diff(chance) >= 0).all()
    assert (chance >= 0).all()
    assert (chance <= 1).all()
    assert np.allclose(chance + probability(-ordered), 1)


def test_values_that_vary_in_some_columns_give_what_whole_rows_with_them_give() -> None:
    generator = np.random.default_rng(5)
    values = generator.normal(size=(300, 4))
    values[:, 3] = generator.integers(0, 3, 300)
    values[generator.random(values.shape) < 0.1] = np.nan
    label = (np.nan_to_num(values[:, 0]) + np.nan_to_num(values[:, 3]) > 1).astype(float)
    base = fit_base(values, label, np.array([False, False, False, True]), 0)
    compiled = base.ensemble.compile(4)
    levels = np.array([[0.3, -1.0, np.nan, 1.0], [-2.0, 0.0, 0.5, 2.0]])
    for columns in (frozenset({0}), frozenset({1, 3}), frozenset({0, 1, 2, 3}), frozenset()):
        found = compiled.vary(columns, levels).log_odds(values, compiled.log_odds(values))
        for level, row in zip(levels, found, strict=True):
            whole = values.copy()
            whole[:, sorted(columns)] = level[sorted(columns)]
            assert np.allclose(row, compiled.log_odds(whole), atol=1e-12)
