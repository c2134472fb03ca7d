"""How many rounds to keep and how far to trust them, from shared people that each ensemble has not seen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftl.protocols.trees import probability


def losses(label: NDArray[np.float64], log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logistic loss of each person, float64, shape (n,)."""
    return np.asarray(np.logaddexp(0, log_odds) - label * log_odds)


def auc(label: NDArray[np.float64], log_odds: NDArray[np.float64]) -> float:
    """Area under the ROC curve, ties counted half (Mann–Whitney)."""
    _, place, count = np.unique(log_odds, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    bad = label == 1
    pairs = bad.sum() * (~bad).sum()
    return float((rank[bad].sum() - bad.sum() * (bad.sum() + 1) / 2) / pairs) if pairs else float("nan")


SCALE_PRIOR = 0.4
"""Standard deviation of the factor on the trees around 1; chosen on draws of training rows."""

SIGNIFICANT = 2.0
"""Standard errors by which a round must be worse than the best to be left out. One stops too early with few people."""


@dataclass
class Curve:
    """Held-out log-odds after each round; the first entry is before any tree.

    Attributes:
        label: float64, shape (n,).
        log_odds: one float64 array of shape (n,) for each round, from the ensembles that have not seen the person.
    """

    label: NDArray[np.float64]
    log_odds: list[NDArray[np.float64]]

    def add(self, log_odds: NDArray[np.float64]) -> dict[str, float]:
        """Note a round; returns its aggregated figures."""
        self.log_odds.append(log_odds)
        return {
            "validation_auc": auc(self.label, log_odds),
            "validation_loss": float(losses(self.label, log_odds).mean()),
        }

    def kept(self) -> int:
        """Rounds to keep: the last that is not significantly worse than the best round.

        *Significantly* is two standard errors of the paired difference. The last rather than the best, because the best
        round of few people is mostly luck, and the ranking still improves after the loss has stopped to; :meth:`scale`
        takes back what is too much.
        """
        by_round = np.array([losses(self.label, odds) for odds in self.log_odds[1:]])
        worse = by_round - by_round[by_round.mean(axis=1).argmin()]
        return int(np.flatnonzero(worse.mean(axis=1) <= SIGNIFICANT * _standard_error(worse))[-1]) + 1

    @property
    def past_best(self) -> bool:
        """Whether the last round is significantly worse than the best, so that more rounds are in vain."""
        return self.kept() < len(self.log_odds) - 1

    def scale(self, rounds: int) -> float:
        """Factor in [0, 1] on the sum of trees: logistic regression of held-out labels on it, by Newton's method.

        The factor has a normal prior around 1, without which a few hundred people would often throw a good model away.
        """
        start, trees = self.log_odds[0], self.log_odds[rounds] - self.log_odds[0]
        factor = 1.0
        for _ in range(25):
            odds = probability(start + factor * trees)
            slope = float(np.dot(trees, odds - self.label)) + (factor - 1) / SCALE_PRIOR**2
            bend = float(np.dot(trees * trees, odds * (1 - odds))) + 1 / SCALE_PRIOR**2
            factor = min(max(factor - slope / bend, 0.0), 1.0)
        return factor

    def hurts(self, rounds: int, factor: float) -> bool:
        """Whether the scaled trees leave held-out people worse off than no trees, by more than one standard error."""
        start = self.log_odds[0]
        after = start + factor * (self.log_odds[rounds] - start)
        worse = losses(self.label, after) - losses(self.label, start)
        return factor == 0 or bool(worse.mean() > _standard_error(worse))


def _standard_error(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the mean over the last axis."""
    return np.asarray(difference.std(axis=-1) / np.sqrt(difference.shape[-1]))
