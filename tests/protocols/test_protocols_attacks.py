"""The attacks find what is there to be found when the defence is off, and what the pages say when it is on."""

import numpy as np
import pytest

from benchmarks.attacks import __main__ as attacks
from benchmarks.attacks.figures import (
    Figure,
    chance,
    completed,
    either_way,
    learned,
    plain,
    principal,
)
from benchmarks.attacks.gradients import on_hetero_logistic
from benchmarks.attacks.population import OUTSIDERS, SHARED, population, targets

ROUNDS = 2
"""Of the attacked `split_nn` run: fewer than by default, and enough for every attack to find what there is."""


@pytest.fixture(scope="module")
def split_nn() -> dict[str, Figure]:
    return {figure.attack: figure for figure in attacks.split_nn(0, rounds=ROUNDS)}


def test_gradients_in_the_clear_tell_every_label_and_encrypted_ones_none(split_nn: dict[str, Figure]) -> None:
    for attack in ("label from gradients: length", "label from gradients: direction"):
        figure = split_nn[attack]
        assert figure.off > 0.9
        assert abs(figure.on - 0.5) < 0.05
        assert figure.leak < 0.03


def test_sums_of_gradients_tell_what_the_page_says_and_more_of_those_who_trained(split_nn: dict[str, Figure]) -> None:
    trained = split_nn["label who trained, from sums of gradients"]
    strangers = split_nn["label of strangers, from sums of gradients"]
    assert trained.on < 0.72
    assert trained.on < trained.off - 0.1
    assert strangers.off < trained.off
    assert strangers.on < 0.65


def test_noise_hides_columns_that_vectors_would_show(split_nn: dict[str, Figure]) -> None:
    figure = split_nn["telecom's columns from vectors of all rounds"]
    assert figure.off > figure.guess + 0.05
    assert figure.leak < (figure.off - figure.guess) * 0.8


def test_sums_of_a_regression_tell_the_model_and_no_more_of_those_who_trained() -> None:
    found = {figure.attack: figure for figure in on_hetero_logistic(0, finished=False)}
    trained, strangers = (found[f"label {who}, from gradients"] for who in ("who trained", "of strangers"))
    assert trained.off == pytest.approx(1.0)
    assert trained.on < 0.78
    assert trained.on < strangers.on + 0.03
    assert abs(found["telecom's columns from the bank's gradients"].leak) < 0.02


def test_every_figure_stands_beside_what_the_attacker_could_guess(split_nn: dict[str, Figure]) -> None:
    assert all(0.45 < figure.guess <= 1 and 0.4 < figure.on <= 1 for figure in split_nn.values())
    assert all(figure.leak == figure.on - figure.guess for figure in split_nn.values())


def test_an_attack_on_noise_scores_as_chance_says() -> None:
    random = np.random.default_rng(0)
    label, score = random.random(1000) < 0.2, random.normal(size=1000)
    assert chance(label, score, 0) == pytest.approx(0.515, abs=0.01)
    assert either_way(label, -label.astype(float)) == 1.0
    assert either_way(label, score) < 0.56


def test_completion_needs_a_part_that_says_something() -> None:
    random = np.random.default_rng(0)
    label = random.random(1000) < 0.3
    useful = label[:, None] * 2.0 + random.normal(size=(1000, 2))
    assert completed(useful, label, 0) > 0.85
    assert abs(completed(random.normal(size=(1000, 2)), label, 0) - 0.5) < 0.03
    assert learned(useful, label, np.arange(1000) < 500) > 0.85


def test_the_principal_direction_is_that_of_the_largest_spread() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(500, 3)) * [0.1, 5.0, 0.1]
    assert abs(np.corrcoef(principal(values), values[:, 1])[0, 1]) > 0.999


def test_people_hang_together_across_parties_and_are_the_same_each_time() -> None:
    bank, telecom = population(0)
    assert np.array_equal(bank.label, population(0)[0].label)
    assert bank.holdout.sum() == OUTSIDERS
    wanted = targets(telecom)[:SHARED]
    assert (wanted.mean(axis=0) > 0.2).all()
    half = np.arange(SHARED) % 2 == 0
    assert np.mean([learned(plain(bank.values[:SHARED]), column, half) for column in wanted.T]) > 0.6
    assert not np.isnan(plain(telecom.values)).any()
