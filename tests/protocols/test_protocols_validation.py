import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ftl.protocols.transfer_boost.validation import Curve, auc


def people(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.normal(size=count)
    return truth, (random.random(count) < 1 / (1 + np.exp(-truth))).astype(float)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=2, max_size=60))
def test_auc_is_that_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    label, odds = np.array(pairs, dtype=float).T
    if len(set(label)) == 2:
        np.testing.assert_allclose(auc(label, odds), roc_auc_score(label, odds), rtol=1e-12)
    else:
        assert np.isnan(auc(label, odds))


def test_trees_that_overshoot_are_scaled_back_and_good_ones_are_not() -> None:
    truth, label = people(20_000)
    start = np.zeros(len(label))
    assert abs(Curve(label, [start, 2 * truth]).scale(1) - 0.5) < 0.03
    assert Curve(label, [start, truth]).scale(1) > 0.96
    assert Curve(label, [start, -truth]).scale(1) == 0


def test_rounds_that_make_held_out_people_worse_are_not_kept() -> None:
    truth, label = people(2000)
    curve = Curve(label, [np.zeros(len(label)), truth / 2, truth, truth + 0.01, truth * 6])
    assert curve.kept() == 3
    assert curve.past_best
    assert not Curve(label, curve.log_odds[:4]).past_best


def test_trees_hurt_when_held_out_people_are_significantly_worse_off() -> None:
    truth, label = people(2000)
    curve = Curve(label, [np.zeros(len(label)), truth, -truth])
    assert not curve.hurts(1, 1.0)
    assert curve.hurts(2, 1.0)
    assert curve.hurts(1, 0.0)
