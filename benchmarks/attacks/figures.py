"""How well an attack does: areas under the ROC curve, beside what the attacker could say without the run."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

KNOWN = 40
"""Labels that a passive party is taken to know already (its own bad debts), where an attack needs some."""
DRAWS = 20
"""Draws of those, or of shuffled labels, that a figure is the mean of."""


@dataclass(frozen=True)
class Figure:
    """One attack on one recipe.

    Attributes:
        recipe: attacked.
        attack: what is inferred, from what.
        attacker: who.
        guess: AUC of the same attacker with the same knowledge besides, but nothing of what it received.
        on: AUC with the recipe's defaults.
        off: AUC without the defence; None where there is nothing to switch off.
        switched: what *off* means.
    """

    recipe: str
    attack: str
    attacker: str
    guess: float
    on: float
    off: float | None = None
    switched: str = ""

    @property
    def leak(self) -> float:
        """By how much the attack beats guessing."""
        return self.on - self.guess


def auc(label: NDArray[np.bool_], score: Floats) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(label, np.nan_to_num(score)))


def either_way(label: NDArray[np.bool_], score: Floats) -> float:
    """AUC when the attacker does not know which end of the score is which, and is told."""
    found = auc(label, score)
    return max(found, 1 - found)


def chance(label: NDArray[np.bool_], score: Floats, seed: int) -> float:
    """Mean of :func:`either_way` over shuffled labels: what being told the direction is worth by itself."""
    random = np.random.default_rng(seed)
    return float(np.mean([either_way(random.permutation(label), score) for _ in range(DRAWS)]))


def principal(values: Floats) -> Floats:
    """The direction in which rows differ most, float64, shape (n,)."""
    centred = values - values.mean(axis=0)
    return np.asarray(centred @ np.linalg.svd(centred, full_matrices=False)[2][0])


def completed(values: Floats, label: NDArray[np.bool_], seed: int) -> float:
    """AUC on everybody else of a classifier fitted on `KNOWN` labels, mean of several draws (Fu et al. 2022)."""
    scores = [learned(values, label, known) for known in _draws(label, seed)]
    return float(np.mean(scores))


def learned(values: Floats, label: NDArray[np.bool_], known: NDArray[np.bool_]) -> float:
    """AUC on the others of a logistic model fitted on those in `known`."""
    from sklearn.linear_model import LogisticRegression

    spread = values[known].std(axis=0)
    scaled = (values - values[known].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    model = LogisticRegression(C=0.1, max_iter=300).fit(scaled[known], label[known])
    return auc(label[~known], model.decision_function(scaled[~known]))


def plain(values: Floats) -> Floats:
    """A party's columns as a classifier takes them: missing filled by the mean, and said beside it."""
    missing = np.isnan(values)
    filled = np.where(missing, np.nanmean(values, axis=0), values)
    return np.column_stack([filled, missing[:, missing.any(axis=0)]])


def _draws(label: NDArray[np.bool_], seed: int) -> Iterator[NDArray[np.bool_]]:
    """bool, shape (n,) each: who is known, a share of both classes as in the population but at least five."""
    random = np.random.default_rng(seed)
    bad = int(np.clip(round(KNOWN * label.mean()), 5, KNOWN - 5))
    for _ in range(DRAWS):
        known = np.zeros(len(label), dtype=bool)
        known[random.permutation(np.flatnonzero(label))[:bad]] = True
        known[random.permutation(np.flatnonzero(~label))[: KNOWN - bad]] = True
        yield known
