"""Figures on the holdout, against scikit-learn and known values."""

import time

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

from ftl.errors import FederationError
from ftl.federation import compare, evaluate
from ftl.federation.evaluation import calibration_line


def sample(count=2000, seed=1, ties=False):
    generator = np.random.default_rng(seed)
    score = generator.normal(size=count)
    label = (generator.random(count) < 1 / (1 + np.exp(1.2 - score))).astype(float)
    good = 1 / (1 + np.exp(1.2 - score))
    weak = 1 / (1 + np.exp(1.2 - 0.4 * score - 0.5 * generator.normal(size=count)))
    return (label, np.round(weak, 1), np.round(good, 1)) if ties else (label, weak, good)


@pytest.mark.parametrize("ties", [False, True])
def test_figures_are_those_of_scikit_learn(ties):
    label, _, probability = sample(ties=ties)
    evaluation = evaluate(label, probability)
    false, true, _ = roc_curve(label, probability)
    assert evaluation.auc == roc_auc_score(label, probability)
    assert evaluation.ks == pytest.approx(np.max(true - false))
    assert evaluation.brier == brier_score_loss(label, probability)
    assert (evaluation.people, evaluation.bad) == (2000, int(label.sum()))


@pytest.mark.parametrize("ties", [False, True])
def test_every_bootstrap_resample_has_the_figures_of_the_resampled_people(ties):
    from ftl.federation.evaluation import _Draws

    label, weak, good = sample(300, ties=ties)
    draws = _Draws(label, [weak, good]).metrics(seed=5, resamples=8)
    rows = np.random.default_rng(5).integers(0, 300, size=(8, 300))
    for model, probability in enumerate((weak, good)):
        for resample in range(8):
            chosen = rows[resample]
            false, true, _ = roc_curve(label[chosen], probability[chosen])
            expected = [
                roc_auc_score(label[chosen], probability[chosen]),
                np.max(np.abs(true - false)),
                brier_score_loss(label[chosen], probability[chosen]),
            ]
            assert draws[model][resample] == pytest.approx(expected)


def test_the_gain_is_paired_and_its_interval_is_tighter_than_the_difference_of_two_intervals():
    label, weak, good = sample()
    before, after, gain = compare(label, weak, good, seed=3)
    difference, low, high = gain["auc"]
    assert difference == after.auc - before.auc
    assert low < difference < high
    assert high - low < (after.intervals["auc"][1] - before.intervals["auc"][0]) - (
        after.intervals["auc"][0] - before.intervals["auc"][1]
    )
    assert compare(label, weak, good, seed=3)[2] == gain
    assert compare(label, good, good)[2]["auc"] == (0.0, 0.0, 0.0)


def test_calibration_is_the_logistic_regression_on_the_log_odds():
    label, weak, _ = sample(5000)
    log_odds = np.log(weak / (1 - weak))[:, None]
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(log_odds, label)
    slope, intercept = calibration_line(label, weak)
    assert slope == pytest.approx(reference.coef_[0, 0], abs=1e-5)
    assert intercept == pytest.approx(reference.intercept_[0], abs=1e-5)


def test_probabilities_of_zero_and_one_and_constant_ones_keep_the_calibration_finite():
    label = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    for probability in (np.array([0.0, 1.0, 1.0, 0.0, 1.0]), np.full(5, 0.5)):
        assert np.isfinite(calibration_line(label, probability)).all()


def test_curves_lie_on_fixed_grids():
    label, _, good = sample()
    curves = evaluate(label, good).curves
    assert curves.false_positive_rate == pytest.approx(np.linspace(0, 1, 101))
    assert curves.true_positive_rate[0] >= 0
    assert curves.true_positive_rate[-1] == 1
    assert np.all(np.diff(curves.true_positive_rate) >= 0)
    assert [people for _, _, people in curves.calibration] == [200] * 10
    assert sum(share * people for _, share, people in curves.calibration) == pytest.approx(label.sum())


def test_six_thousand_people_take_less_than_three_seconds():
    label, weak, good = sample(6000)
    evaluate(label[:100], good[:100])  # imports scikit-learn
    start = time.process_time()
    compare(label, weak, good)
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    ("label", "probability", "message"),
    [
        ([], [], "nobody"),
        ([1.0, 1.0], [0.1, 0.2], "2 people of one class"),
        ([0.0, 1.0], [0.1], "2 labels but 1 prob"),
        ([0.0, 1.0], [0.1, 1.2], r"outside \[0, 1\]"),
        ([0.0, 1.0], [0.1, np.nan], r"outside \[0, 1\]"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(label, probability, message):
    with pytest.raises(FederationError, match=message):
        evaluate(np.array(label), np.array(probability))
