"""The active party's own model: gradient boosting on all its labelled rows, exported to plain trees.

It is what the federated model starts from and what it is measured against, so it is chosen with care: its settings by
cross-validation on the training rows. Fitting is scikit-learn's; what is kept and scored are the trees as JSON.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftl.errors import FeatureError
from ftl.features import MOST_CATEGORIES, Kind
from ftl.protocols.trees import Ensemble, Split, probability

CANDIDATES: tuple[dict[str, float], ...] = (
    {"learning_rate": 0.04, "max_iter": 300, "max_leaf_nodes": 16, "l2_regularization": 50.0, "max_features": 0.1},
    {"learning_rate": 0.04, "max_iter": 300, "max_leaf_nodes": 12, "l2_regularization": 50.0, "max_features": 0.2},
    {"learning_rate": 0.05, "max_iter": 80, "max_leaf_nodes": 5, "l2_regularization": 10.0, "max_features": 0.5},
)
"""Settings to choose from: for many columns of little use each, for fewer, and for few rows."""

CHOICE_ROWS = 15_000
"""Candidates are compared on at most so many rows; more change the choice rarely and cost much."""

LEAST_OF_A_CLASS = 10
"""Rows; so that every fold has both classes. Of numbers, twice as many rows in all."""

CHOICE_FOLDS = 3
FOLDS = 5


@dataclass(frozen=True)
class Base:
    """A fitted base model.

    Attributes:
        ensemble: its trees.
        columns: how many columns it takes.
        settings: what cross-validation chose.
    """

    ensemble: Ensemble
    columns: int
    settings: dict[str, float] = field(default_factory=dict)

    @cached_property
    def _compiled(self) -> Any:
        return self.ensemble.compile(self.columns)

    def log_odds(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log-odds of bad, or the number; float64, shape (m,), for `values` of shape (m, columns)."""
        return np.asarray(self._compiled.log_odds(values))

    def probability(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability of default, float64, shape (m,)."""
        return probability(self.log_odds(values))


@dataclass(frozen=True)
class Labelled:
    """Rows to fit on.

    Attributes:
        values: float64, shape (n, p); NaN is missing.
        label: float64, shape (n,); 1 is bad of kind ``binary``.
        categorical: bool, shape (p,): columns of codes.
        kind: ``binary`` or ``number``.
        weight: float64, shape (n,): how much each row counts; None for 1 each.
        monotone: int8, shape (p,): 1 where the answer may only rise with the column, -1 fall, 0 either; None for all 0.
    """

    values: NDArray[np.float64]
    label: NDArray[np.float64]
    categorical: NDArray[np.bool_]
    kind: Kind = "binary"
    weight: NDArray[np.float64] | None = None
    monotone: NDArray[np.int8] | None = None

    def of(self, rows: NDArray[np.int64]) -> "Labelled":
        """Some of the rows."""
        weight = None if self.weight is None else self.weight[rows]
        return replace(self, values=self.values[rows], label=self.label[rows], weight=weight)

    def losses(self, margin: NDArray[np.float64]) -> float:
        """Weighted mean of the logistic or half the squared loss for margins of shape (n,)."""
        if self.kind == "binary":
            each = np.logaddexp(0, margin) - self.label * margin
        else:
            each = (margin - self.label) ** 2 / 2
        return float(np.average(each, weights=self.weight))


def fit_base(
    values: NDArray[np.float64],
    label: NDArray[np.float64],
    categorical: NDArray[np.bool_],
    seed: int,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Base:
    """Choose settings by cross-validation and fit a model of good and bad on all rows.

    Args:
        values: float64, shape (n, p); NaN is missing.
        label: float64, shape (n,), 1 is bad.
        categorical: bool, shape (p,): columns of codes.
        seed: of the folds, of the row sample and of the learner.
        progress: called after every fit with the number done and the number in all.

    Raises:
        FeatureError: too few rows of one class to fit and to check.
    """
    return fit(Labelled(values, label, categorical), seed, progress)


def fit(rows: Labelled, seed: int, progress: Callable[[int, int], None] = lambda _done, _of: None) -> Base:
    """Like :func:`fit_base`, of numbers as well, with weights and with monotone columns.

    Raises:
        FeatureError: too few rows (of one class) to fit and to check.
    """
    _check_enough(rows)
    settings = _choose(rows, seed, progress)
    model = _fit(rows, settings, seed)
    return Base(export(model), rows.values.shape[1], settings)


def out_of_fold(
    values: NDArray[np.float64],
    label: NDArray[np.float64],
    categorical: NDArray[np.bool_],
    base: Base,
    seed: int,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> NDArray[np.float64]:
    """Log-odds of each row by a model of `base`'s settings that has not seen it; float64, shape (n,)."""
    return honest_margin(Labelled(values, label, categorical), base, seed, progress)


def honest_margin(
    rows: Labelled, base: Base, seed: int, progress: Callable[[int, int], None] = lambda _done, _of: None
) -> NDArray[np.float64]:
    """Like :func:`out_of_fold`, of numbers as well, with weights and with monotone columns."""
    honest = np.empty(len(rows.label))
    folds = _folds(rows.label, FOLDS, seed)
    for done, (rest, fold) in enumerate(folds, start=1):
        honest[fold] = _margin(_fit(rows.of(rest), base.settings, seed), rows.values[fold])
        progress(done, len(folds))
    return honest


def fit_with(rows: Labelled, settings: dict[str, float], seed: int) -> Ensemble:
    """Trees of given settings, nothing chosen or checked."""
    return export(_fit(rows, settings, seed))


def _check_enough(rows: Labelled) -> None:
    fewest = int(min(rows.label.sum(), (1 - rows.label).sum())) if rows.kind == "binary" else len(rows.label) // 2
    if fewest < LEAST_OF_A_CLASS:
        of = "of one class" if rows.kind == "binary" else "for either half of the folds"
        raise FeatureError(
            f"There are {fewest} labelled training rows {of}; at least {LEAST_OF_A_CLASS} are needed.",
            cure="Collect more outcomes, or keep fewer for the holdout.",
        )


def _choose(rows: Labelled, seed: int, progress: Callable[[int, int], None]) -> dict[str, float]:
    rows = rows.of(np.random.default_rng(seed).permutation(len(rows.label))[:CHOICE_ROWS])
    folds = _folds(rows.label, CHOICE_FOLDS, seed)
    losses = np.zeros(len(CANDIDATES))
    for number, candidate in enumerate(CANDIDATES):
        for rest, fold in folds:
            model = _fit(rows.of(rest), candidate, seed)
            losses[number] += rows.of(fold).losses(_margin(model, rows.values[fold])) * len(fold)
        progress(number + 1, len(CANDIDATES))
    return CANDIDATES[int(np.argmin(losses))]


def _folds(label: NDArray[np.float64], count: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(the rest, the fold) for each fold, both classes in every one as far as there are enough of each."""
    rows = np.random.default_rng(seed).permutation(len(label))
    rows = rows[np.argsort(label[rows], kind="stable")]
    of = np.empty(len(label), dtype=np.int64)
    of[rows] = np.arange(len(label)) % count
    return [(np.flatnonzero(of != fold), np.flatnonzero(of == fold)) for fold in range(count)]


def _unequal(weight: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """Weights where they differ: with any scikit-learn takes seconds for the quantiles of a few columns."""
    return None if weight is None or not np.ptp(weight) else weight


def _fit(rows: Labelled, settings: dict[str, float], seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    least = int(np.clip(len(rows.label) // 100, 5, 200))
    learner = HistGradientBoostingClassifier if rows.kind == "binary" else HistGradientBoostingRegressor
    model = learner(
        **settings,
        min_samples_leaf=least,
        categorical_features=rows.categorical if rows.categorical.any() else None,
        monotonic_cst=None if rows.monotone is None else np.where(rows.categorical, 0, rows.monotone),
        early_stopping=False,
        random_state=seed,
    )
    values = rows.values
    with threadpool_limits(limits=1, user_api="openmp"):  # OpenMP threads that spin on few cores stall
        # scikit-learn cannot bin a column without any value; a constant one is never split.
        return model.fit(np.where(np.isnan(values).all(axis=0), 0.0, values), rows.label, _unequal(rows.weight))


def _margin(model: Any, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds, or the number itself; float64, shape (m,)."""
    return np.asarray(getattr(model, "decision_function", model.predict)(values), dtype=np.float64)


def export(model: Any) -> Ensemble:
    """The trees of a fitted ``HistGradientBoosting…`` of one output, giving the same float64 margins bit for bit.

    scikit-learn moves categorical columns to the front and recodes them; here they keep their place and codes.
    """
    order, known = _column_order(model)
    leaves: list[tuple[float, ...]] = []
    splits: list[Split] = []
    for number, (predictor,) in enumerate(model._predictors):  # noqa: SLF001  (no public way to the trees)
        nodes = predictor.nodes
        values: list[float] = []
        walk = _Walk(number, nodes, predictor.raw_left_cat_bitsets, order, known, splits, values)
        walk.leaves_under(0)
        leaves.append(tuple(values))
    return Ensemble(float(np.ravel(model._baseline_prediction)[0]), tuple(leaves), tuple(splits))  # noqa: SLF001


def _column_order(model: Any) -> tuple[list[int], dict[int, NDArray[np.float64]]]:
    """Our column of each of the model's, and our codes of each of its categorical columns."""
    is_code = model.is_categorical_
    count = model.n_features_in_
    if is_code is None or not is_code.any():
        return list(range(count)), {}
    # `is_categorical_` is in the order of the input; the model's own columns are categorical ones first.
    order = [*np.flatnonzero(is_code).tolist(), *np.flatnonzero(~is_code).tolist()]
    encoder = model._preprocessor.named_transformers_["encoder"]  # noqa: SLF001
    return order, dict(enumerate(encoder.categories_))


@dataclass(frozen=True)
class _Walk:
    """One tree, left child first, so that leaf numbers grow from left to right."""

    tree: int
    nodes: Any
    bitsets: Any
    order: list[int]
    known: dict[int, NDArray[np.float64]]
    splits: list[Split]
    values: list[float]

    def leaves_under(self, node: int) -> int:
        """Bits of the leaves under `node`; notes splits and leaf values on the way."""
        record = self.nodes[node]
        if record["is_leaf"]:
            self.values.append(float(record["value"]))
            return 1 << (len(self.values) - 1)
        left, right = self.leaves_under(int(record["left"])), self.leaves_under(int(record["right"]))
        self.splits.append(self._split(record, left, right))
        return left | right

    def _split(self, record: Any, left: int, right: int) -> Split:
        column = int(record["feature_idx"])
        missing_left = bool(record["missing_go_to_left"])
        if not record["is_categorical"]:
            # Missing against the rest has the threshold +inf, which JSON has not; no number is above the largest.
            threshold = min(float(record["num_threshold"]), float(np.finfo(np.float64).max))
            return Split(self.tree, self.order[column], threshold, (), missing_left, left, right)
        words = self.bitsets[record["bitset_idx"]]
        # A code that the rows of this fit did not have is missing to scikit-learn.
        codes = set(range(MOST_CATEGORIES)) if missing_left else set()
        for position, code in enumerate(self.known[column]):
            if not np.isnan(code):
                goes_left = words[position // 32] >> np.uint32(position % 32) & np.uint32(1)
                (codes.add if goes_left else codes.discard)(int(code))
        return Split(self.tree, self.order[column], None, tuple(sorted(codes)), missing_left, left, right)
