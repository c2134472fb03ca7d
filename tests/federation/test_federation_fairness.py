"""Groups of a protected column, compared on the holdout."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from ftl.features import Frame
from ftl.federation.fairness import groups, wilson

GENERATOR = np.random.default_rng(3)
PEOPLE = 600
SEX = GENERATOR.integers(0, 2, PEOPLE).astype(float)
AGE = GENERATOR.normal(40, 10, PEOPLE)
TINY = np.where(np.arange(PEOPLE) < 20, 1.0, 0.0)
LABEL = (GENERATOR.random(PEOPLE) < 0.2 + 0.3 * SEX).astype(float)
ANSWER = np.clip(0.2 + 0.3 * SEX + GENERATOR.normal(0, 0.1, PEOPLE) + 0.1 * LABEL, 0.01, 0.99)


def frame() -> Frame:
    ids = tuple(map(str, range(PEOPLE)))
    categories = {"sex": ("f", "m"), "tiny": ("many", "few")}
    values = np.column_stack([SEX, AGE, TINY])
    return Frame("bank", ("sex", "age", "tiny"), values, categories, ids, LABEL, np.ones(PEOPLE, dtype=bool))


def test_each_group_is_told_with_its_own_rates_and_area() -> None:
    test = np.arange(100, PEOPLE)
    for one, code in zip(groups(frame(), test, ANSWER[test], ["sex"], 0.4), (0.0, 1.0), strict=True):
        members = test[SEX[test] == code]
        assert (one.column, one.value, one.people) == ("sex", ("f", "m")[int(code)], len(members))
        assert one.approval[0] == pytest.approx((ANSWER[members] <= 0.4).mean())
        assert one.bad[0] == pytest.approx(LABEL[members].mean())
        assert one.auc[0] == pytest.approx(roc_auc_score(LABEL[members], ANSWER[members]))
        for value, low, high in (one.approval, one.bad, one.auc):
            assert low < value < high


def test_a_number_is_compared_by_thirds_that_do_not_tell_its_values() -> None:
    found = groups(frame(), np.arange(PEOPLE), ANSWER, ["age"], 0.4)
    assert [(one.value, one.people) for one in found] == [
        ("lowest third", 200),
        ("middle third", 200),
        ("highest third", 200),
    ]


def test_a_group_too_small_to_hide_its_people_is_left_out() -> None:
    found = groups(frame(), np.arange(PEOPLE), ANSWER, ["tiny"], 0.4)
    assert [one.value for one in found] == ["many"]
    assert groups(frame(), np.arange(40), ANSWER[:40], ["sex", "age"], 0.4) == []


@given(st.integers(1, 5000).flatmap(lambda people: st.tuples(st.integers(0, people), st.just(people))))
def test_the_interval_of_a_share_is_the_score_interval(counts: tuple[int, int]) -> None:
    hits, people = counts
    expected = binomtest(hits, people).proportion_ci(0.95, method="wilson")
    assert wilson(hits, people) == pytest.approx((hits / people, expected.low, expected.high), abs=1e-6)
