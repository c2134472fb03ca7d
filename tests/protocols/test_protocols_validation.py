import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ftl.protocols.boosting import LogLoss, SquaredError
from ftl.protocols.transfer_boost.validation import Curve, auc, draw_training, held_out


def people(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.normal(size=count)
    return truth, (random.random(count) < 1 / (1 + np.exp(-truth))).astype(float)


def curve(label: np.ndarray, margins: list[np.ndarray]) -> Curve:
    return Curve(LogLoss(), label, np.ones(len(label)), margins)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=2, max_size=60))
def test_auc_is_that_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    label, odds = np.array(pairs, dtype=float).T
    if len(set(label)) == 2:
        np.testing.assert_allclose(auc(label, odds), roc_auc_score(label, odds), rtol=1e-12)
    else:
        assert np.isnan(auc(label, odds))


def test_rounds_that_make_held_out_people_worse_are_not_kept() -> None:
    truth, label = people(2000)
    rounds = curve(label, [np.zeros(len(label)), truth / 2, truth, truth + 0.01, truth * 6])
    assert rounds.kept() == 3
    assert rounds.past_best
    assert not curve(label, rounds.margins[:4]).past_best
    assert curve(label, rounds.margins[:1]).kept() == 0


def test_trees_hurt_when_held_out_people_are_significantly_worse_off() -> None:
    truth, label = people(2000)
    start = np.zeros(len(label))
    judge = curve(label, [])
    assert not judge.hurts(start, truth)
    assert judge.helps(start, truth)
    assert judge.hurts(start, -truth)
    assert not judge.helps(start, start)


def test_people_weigh_what_they_should_and_numbers_have_no_auc() -> None:
    label, weight = np.array([0.0, 2.0]), np.array([0.5, 1.5])
    numbers = Curve(SquaredError(), label, weight)
    assert numbers.add(np.array([1.0, 0.0])) == {"validation_loss": (0.5 * 1 / 2 + 1.5 * 4 / 2) / 2}


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 7), st.integers(1, 4), st.integers(0, 99))
def test_everybody_is_left_out_once_in_every_draw_of_the_folds(folds: int, draws: int, seed: int) -> None:
    training = draw_training(40, folds, draws, seed)
    assert training.shape == (folds * draws, 40)
    assert ((~training).reshape(draws, folds, 40).sum(axis=1) == 1).all()
    margins = np.random.default_rng(seed).normal(size=(folds * draws, 40, 1))
    expected = [np.mean([margins[e, i, 0] for e in range(folds * draws) if not training[e, i]]) for i in range(40)]
    np.testing.assert_allclose(held_out(training, margins), expected, rtol=1e-12)
