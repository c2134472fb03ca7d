"""How base, opinion and labels are put together, against plain minimisation and against views made independent."""

import numpy as np
import pytest
from scipy.optimize import minimize

from ftl.protocols.boosting import LogLoss, Loss, SquaredError
from ftl.protocols.transfer_boost.blend import KAPPA, PRIOR, SPREAD, Opinion, fit_blend, fit_scale
from ftl.protocols.transfer_boost.stages import Grown, keep


def views(people: int, link: str, seed: int = 0) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    random = np.random.default_rng(seed)
    base, opinion, labels = random.normal(size=(3, people)) * np.array([[0.8], [2.0], [0.4]])
    margin = 0.3 + 0.7 * base + 0.1 * opinion + labels
    if link == "logit":
        return (random.random(people) < 1 / (1 + np.exp(-margin))).astype(float), (base, opinion, labels)
    return margin + random.normal(size=people), (base, opinion, labels)


@pytest.mark.parametrize("loss", [LogLoss(), SquaredError()])
@pytest.mark.parametrize("people", [60, 3000])
def test_the_blend_is_the_minimum_of_the_penalised_loss(loss: Loss, people: int) -> None:
    label, parts = views(people, loss.link)
    weight = np.random.default_rng(1).uniform(0.5, 1.5, people)
    found = fit_blend(loss, label, weight, parts, 0.1)
    centre = np.average(parts[0], weights=weight)
    noise = 1.0 if loss.link == "logit" else np.average((label - parts[0]) ** 2, weights=weight)
    prior = PRIOR + np.array([centre, 0, 0.1, people / (people + 200)])

    def total(weights: np.ndarray) -> float:
        margin = weights[0] + weights[1] * (parts[0] - centre) + weights[2] * parts[1] + weights[3] * parts[2]
        pulled = (weights - prior) / (SPREAD * np.array([np.sqrt(noise), 1, 1, 1]))
        return float((weight * loss.losses(label, margin[:, None])).sum() / noise + (pulled**2).sum() / 2)

    best = minimize(total, prior, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 20_000}).x
    expected = best[0] - best[1] * centre + best[1] * parts[0] + best[2] * parts[1] + best[3] * parts[2]
    np.testing.assert_allclose(found.margin(*parts), expected, atol=2e-5)


def test_many_labels_overrule_the_prior_and_few_do_not() -> None:
    few, many = (fit_blend(LogLoss(), *_labelled(people), 0.4) for people in (30, 30_000))
    assert abs(few.opinion - 0.4) < abs(few.opinion - 0.1)
    assert abs(many.opinion - 0.1) < 0.02
    assert abs(many.base - 0.7) < 0.05


def _labelled(people: int) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    label, parts = views(people, "logit")
    return label, np.ones(people), parts


def test_an_opinion_that_cannot_be_learned_is_left_out() -> None:
    random = np.random.default_rng(0)
    label, weight, parts = _labelled(500)
    opinion = Opinion(random.normal(size=500), weight)
    assert opinion.trust(random.normal(size=500) - opinion.target) == 0
    assert opinion.trust(np.zeros(500)) == 0
    assert opinion.trust(opinion.target) == pytest.approx(KAPPA * (1 - 500**-0.5) / 1.5)
    assert fit_blend(LogLoss(), label, weight, parts, 0.0).opinion == 0


def test_a_scale_halves_what_is_twice_too_much() -> None:
    label, parts = views(20_000, "identity")
    start, added = np.full(len(label), 0.3), 0.7 * parts[0] + 0.1 * parts[1] + parts[2]
    assert fit_scale(SquaredError(), label, np.ones(len(label)), start, 2 * added) == pytest.approx(0.5, abs=0.02)
    assert fit_scale(SquaredError(), label, np.ones(len(label)), start, -added) == 0


def test_trees_that_divide_people_alike_become_one_and_nothing_is_lost() -> None:
    random = np.random.default_rng(0)
    sides = random.random((3, 40)) < 0.5
    left = [sides[0], sides[1], sides[0], sides[2], sides[1]]
    bits = [np.packbits(side).tobytes() for side in left]
    leaves = random.normal(size=(5, 2)).tolist()
    leaves[3] = [0.25, 0.25]
    owners = [{"a"}, {"b"}, {"a"}, set(), {"b"}]
    model = keep(Grown(leaves, owners, bits), 5, 0.5)
    assert model.numbers == [0, 1]
    assert model.owners == {"a", "b"}
    kept = sum(np.where(left[n], *values) for n, values in zip(model.numbers, model.leaves, strict=True))
    full = sum(np.where(side, *values) for side, values in zip(left, leaves, strict=True))
    np.testing.assert_allclose(kept + model.constant, full / 2, rtol=1e-12)
    assert keep(Grown(leaves, owners, [b""] * 5), 2, 1.0).numbers == [0, 1]
