import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftl import decision
from ftl.consortium.deciding import Scorecard


def test_base_odds_get_the_base_score_and_doubled_odds_get_pdo_more() -> None:
    default = np.array([1 / 51, 1 / 101, 1 / 26])
    assert decision.score(default, Scorecard()).tolist() == [600, 620, 580]


def test_certain_default_and_certain_repayment_meet_floor_and_ceiling() -> None:
    assert decision.score(np.array([1.0, 0.0]), Scorecard()).tolist() == [300, 850]


def test_the_consortiums_own_scale_is_used() -> None:
    scale = Scorecard(base_score=500, base_odds=1, pdo=40, floor=100, ceiling=900)
    assert decision.score(np.array([0.5, 0.2]), scale).tolist() == [500, 580]


@given(st.lists(st.floats(-700, 700), min_size=2, max_size=20))
def test_a_higher_probability_never_scores_higher(log_odds: list[float]) -> None:
    default = decision.probability(np.sort(np.array(log_odds)))
    assert (np.diff(default) >= 0).all()
    assert (np.diff(decision.score(default, Scorecard())) <= 0).all()


def test_probability_of_extreme_log_odds_does_not_overflow() -> None:
    with np.errstate(all="raise", under="ignore"):
        assert decision.probability(np.array([-1000.0, 0.0, 1000.0])).tolist() == [0.0, 0.5, 1.0]


def test_one_unit_of_log_odds_is_worth_pdo_over_ln_2() -> None:
    assert decision.points_per_log_odds(Scorecard(pdo=20)) == pytest.approx(28.8539, abs=1e-4)
