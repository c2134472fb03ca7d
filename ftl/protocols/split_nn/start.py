"""What the active party knows before the network is trained: its own model, and the task it is for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftl.errors import FeatureError, ProtocolError
from ftl.features import Frame
from ftl.protocols.base import LEAST_OF_A_CLASS, Base, export, fit_base, out_of_fold
from ftl.protocols.recipe import Task

Progress = Callable[[int, int], None]

NUMBER_FOLDS = 5
LEAST_PEOPLE = 50
"""Labelled training rows below which no model of a number is fitted."""


@dataclass(frozen=True)
class Start:
    """The active party's own model.

    Attributes:
        base: None for classes, which are learned by the network alone.
        honest: float64, shape (n,): margin of each labelled training row of the frame by a model that has not seen it;
            NaN for other rows; 0 for classes.
    """

    base: Base | None
    honest: NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """What the network learns, for the shared training people.

    Attributes:
        kind: ``binary``, ``number`` or ``classes``.
        label: float64, shape (shared,): 0 and 1, the number in units of `spread` around `centre`, or the class.
        before: float64, shape (shared, outputs): margin that the network adds to, in the same units.
        weight: float64, shape (shared,): mean 1.
        centre: of the number; else 0.
        spread: one unit of the margin; 1 but for numbers.
    """

    kind: str
    label: NDArray[np.float64]
    before: NDArray[np.float64]
    weight: NDArray[np.float64]
    centre: float = 0.0
    spread: float = 1.0


def labels(frame: Frame) -> NDArray[np.float64]:
    """The active party's labels, float64, shape (n,).

    Raises:
        ProtocolError: it has none.
    """
    if frame.label is None or frame.holdout is None:
        raise ProtocolError(f"{frame.party!r} is the active party but its frame has no label.")
    return frame.label


def fit_start(task: Task, progress: Progress) -> Start:
    """Fit the active party's own model on all its labelled training rows."""
    frame, label = task.frame, labels(task.frame)
    rows = np.flatnonzero(~np.isnan(label) & ~np.asarray(frame.holdout))
    honest = np.full(len(label), np.nan)
    if frame.kind == "classes":
        honest[rows] = 0.0
        return Start(None, honest)
    fit = _fit_binary if frame.kind == "binary" else _fit_number
    base, honest[rows] = fit(frame.values[rows], label[rows], frame.categorical, task.seed, progress)
    return Start(base, honest)


def target(task: Task, start: Start) -> Target:
    """The shared people's labels, and where the network begins.

    Raises:
        ProtocolError: a shared training person has no label, or is of the holdout.
    """
    frame, label = task.frame, labels(task.frame)[task.train]
    if np.isnan(label).any() or np.asarray(frame.holdout)[task.train].any():
        raise ProtocolError(
            f"{frame.party!r} was given shared training people without a label, or of the holdout.",
            cure="Train on labelled people outside the holdout only.",
        )
    weight = np.ones(len(label)) if frame.weight is None else frame.weight[task.train]
    weight = weight / weight.mean() if len(weight) else weight
    if frame.kind == "classes":
        counts = np.bincount(label.astype(np.int64), weights=weight, minlength=len(frame.classes))
        prior = np.log((counts + 1) / (counts.sum() + len(counts)))
        return Target("classes", label, np.repeat(prior[None], len(label), axis=0), weight)
    before = start.honest[task.train]
    if frame.kind == "binary":
        return Target("binary", label, before[:, None], weight)
    centre, spread = float(before.mean()), float((label - before).std()) or 1.0
    return Target("number", (label - centre) / spread, ((before - centre) / spread)[:, None], weight, centre, spread)


def _fit_binary(
    values: NDArray[np.float64], label: NDArray[np.float64], codes: NDArray[np.bool_], seed: int, progress: Progress
) -> tuple[Base, NDArray[np.float64]]:
    base = fit_base(values, label, codes, seed, progress)
    return base, out_of_fold(values, label, codes, base, seed, progress)


def _fit_number(
    values: NDArray[np.float64], label: NDArray[np.float64], codes: NDArray[np.bool_], seed: int, progress: Progress
) -> tuple[Base, NDArray[np.float64]]:
    """Boosting of the squared error, and each row's answer by a model that has not seen it."""
    if len(label) < LEAST_PEOPLE:
        raise FeatureError(
            f"There are {len(label)} labelled training rows; at least {LEAST_PEOPLE} are needed.",
            cure=f"Collect more outcomes (of two classes, at least {LEAST_OF_A_CLASS} of each).",
        )
    honest = np.empty(len(label))
    fold = np.random.default_rng(seed).permutation(len(label)) % NUMBER_FOLDS
    for number in range(NUMBER_FOLDS):
        rest = fold != number
        honest[~rest] = _boosted(values[rest], label[rest], codes, seed).predict(values[~rest])
        progress(number + 1, NUMBER_FOLDS + 1)
    base = Base(export(_boosted(values, label, codes, seed)), values.shape[1], {})
    progress(NUMBER_FOLDS + 1, NUMBER_FOLDS + 1)
    return base, honest


def _boosted(values: NDArray[np.float64], label: NDArray[np.float64], codes: NDArray[np.bool_], seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    model = HistGradientBoostingRegressor(
        learning_rate=0.05,
        max_iter=150,
        max_leaf_nodes=8,
        l2_regularization=10.0,
        min_samples_leaf=int(np.clip(len(label) // 100, 5, 200)),
        categorical_features=codes if codes.any() else None,
        early_stopping=False,
        random_state=seed,
    )
    with threadpool_limits(limits=1, user_api="openmp"):
        return model.fit(np.where(np.isnan(values).all(axis=0), 0.0, values), label)
