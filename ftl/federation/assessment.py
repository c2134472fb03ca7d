"""All models of a run on the same holdout, for every kind of label.

Bad or good is evaluated in :mod:`ftl.federation.evaluation`; numbers and classes here, with the same bootstrap. All
models are resampled together, so that their difference is paired.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ftl.errors import FederationError
from ftl.features import Frame
from ftl.federation.evaluation import (
    CHUNK,
    CLIP,
    RESAMPLES,
    Floats,
    Gain,
    Ranking,
    check_people,
    compare,
    evaluate,
    gain_of,
    interval,
    resample,
)
from ftl.federation.run import METRICS, ClassEvaluation, Evaluated, NumberEvaluation

BEFORE, AFTER = "active_only", "federated"
LEAST_IN_A_GROUP = 20
"""People in a group of the calibration of numbers, so that its mean tells nobody's number."""
GROUPS = 10

Bools = NDArray[np.bool_]
Metrics = Callable[[Floats], Floats]
"""From weights of people, float64, shape (resamples, n), to metrics, float64, shape (resamples, metrics)."""


def assess(
    frame: Frame, test: NDArray[np.int64], answers: Mapping[str, Floats], seed: int, *, resamples: int = RESAMPLES
) -> tuple[dict[str, Evaluated], Gain]:
    """Figures of every model on the same people, and what ``federated`` gains over ``active_only`` if both are there.

    Args:
        frame: the active party's.
        test: int64, shape (m,), rows of the holdout people.
        answers: model to its answers, float64, shape (m,), or (m, classes).
        seed: of the bootstrap.
        resamples: bootstrap resamples.

    Returns:
        model to figures, and metric to difference with its interval.

    Raises:
        FederationError: nobody to evaluate on, all labels equal, or answers of the wrong shape or out of bounds.
    """
    label = frame.label[test] if frame.label is not None else np.empty(0)
    check_people(label)
    if frame.kind == "binary":
        return _binary(label, answers, seed, resamples)
    for name, answer in answers.items():
        _check(name, answer, (len(label), len(frame.classes)) if frame.kind == "classes" else (len(label),))
    if frame.kind == "number":
        metrics = {name: _of_number(label, answer) for name, answer in answers.items()}
    else:
        metrics = {name: _of_classes(label, answer) for name, answer in answers.items()}
    draws = _draws(len(label), metrics, seed, resamples)
    found = {name: _described(frame, label, answers[name], metrics[name], draws[name]) for name in answers}
    paired = BEFORE in found and AFTER in found
    return found, gain_of(found[BEFORE], found[AFTER], draws[BEFORE], draws[AFTER]) if paired else {}


def _binary(
    label: Floats, answers: Mapping[str, Floats], seed: int, resamples: int
) -> tuple[dict[str, Evaluated], Gain]:
    found: dict[str, Evaluated] = {}
    gain: Gain = {}
    if BEFORE in answers and AFTER in answers:
        found[BEFORE], found[AFTER], gain = compare(label, answers[BEFORE], answers[AFTER], seed, resamples=resamples)
    rest = (name for name in answers if name not in found)
    return found | {name: evaluate(label, answers[name], seed, resamples=resamples) for name in rest}, gain


def _check(name: str, answer: Floats, shape: tuple[int, ...]) -> None:
    if answer.shape != shape or not np.isfinite(answer).all():
        raise FederationError(
            f"The answers of {name} have shape {answer.shape}, expected {shape} of finite numbers.",
            cure="The recipe must give one answer per holdout person, and per class where there are classes.",
        )
    if len(shape) == 2 and ((answer < 0).any() or np.abs(answer.sum(axis=1) - 1).max() > 1e-6):
        raise FederationError(
            f"The answers of {name} are no probabilities that sum to 1.", cure="The recipe must answer probabilities."
        )


def _draws(people: int, metrics: Mapping[str, Metrics], seed: int, resamples: int) -> dict[str, Floats]:
    """Model to float64, shape (resamples, metrics); all models on the same resamples."""
    generator = np.random.default_rng(seed)
    rows: dict[str, list[Floats]] = {name: [] for name in metrics}
    for start in range(0, resamples, CHUNK):
        weights = resample(generator, min(CHUNK, resamples - start), people)
        for name, measure in metrics.items():
            rows[name].append(measure(weights))
    return {name: np.vstack(some) for name, some in rows.items()}


def _of_number(label: Floats, answer: Floats) -> Metrics:
    """RMSE, MAE and R²."""
    error, centred = answer - label, label - label.mean()

    def measure(weights: Floats) -> Floats:
        people = weights.sum(axis=1)
        squares = weights @ error**2
        spread = weights @ centred**2 - (weights @ centred) ** 2 / people
        explained = 1 - squares / np.maximum(spread, np.finfo(float).tiny)
        return np.column_stack([np.sqrt(squares / people), weights @ np.abs(error) / people, explained])

    return measure


def _of_classes(label: Floats, answer: Floats) -> Metrics:
    """Accuracy, log-loss and AUC of each class against all others, averaged over the classes that a resample has."""
    right = answer.argmax(axis=1) == label
    loss = -np.log(np.maximum(answer[np.arange(len(label)), label.astype(np.int64)], CLIP))
    sides = [(label == number, Ranking.of(answer[:, number])) for number in np.unique(label).astype(np.int64)]

    def measure(weights: Floats) -> Floats:
        people = weights.sum(axis=1)
        areas = np.column_stack([_area(weights, of_class, ranking) for of_class, ranking in sides])
        present = ~np.isnan(areas)
        area = np.where(present, areas, 0.0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
        return np.column_stack([weights @ right / people, weights @ loss / people, area])

    return measure


def _area(weights: Floats, of_class: Bools, ranking: Ranking) -> Floats:
    """Area under the ROC curve on each resample, float64, shape (resamples,); NaN where one side is empty."""
    true, false = ranking.roc(weights * of_class, weights * ~of_class)
    both = (np.diff(false, axis=1) * (true[:, 1:] + true[:, :-1])).sum(axis=1) / 2
    pairs = true[:, -1] * false[:, -1]
    return np.where(pairs > 0, both / np.maximum(pairs, 1), np.nan)


def _described(frame: Frame, label: Floats, answer: Floats, measure: Metrics, draws: Floats) -> Evaluated:
    names = METRICS[frame.kind]
    values = dict(zip(names, (float(value) for value in measure(np.ones((1, len(label))))[0]), strict=True))
    intervals = {name: interval(draws[:, index]) for index, name in enumerate(names)}
    if frame.kind == "number":
        return NumberEvaluation(
            **values, intervals=intervals, people=len(label), calibration=_calibration(label, answer)
        )
    counts = {name: int((label == number).sum()) for number, name in enumerate(frame.classes)}
    return ClassEvaluation(**values, intervals=intervals, people=len(label), classes=counts)


def _calibration(label: Floats, answer: Floats) -> list[tuple[float, float, int]]:
    groups = max(1, min(GROUPS, len(label) // LEAST_IN_A_GROUP))
    parts = np.array_split(np.argsort(answer, kind="stable"), groups)
    return [(float(answer[rows].mean()), float(label[rows].mean()), len(rows)) for rows in parts]
