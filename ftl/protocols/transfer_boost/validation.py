"""How many rounds to keep, from shared people that each ensemble has not seen; and the folds that they are drawn by."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ftl.protocols.boosting import Loss


def draw_training(shared: int, folds: int, draws: int, seed: int) -> NDArray[np.bool_]:
    """bool, shape (draws · folds, shared): who trains each ensemble; everybody but the ensemble's own fold.

    Drawn from the run's seed without regard to labels: folds stratified by label would tell them.
    """
    random = np.random.default_rng([seed, 1])
    of = [random.permutation(shared) % folds for _ in range(draws)]
    return np.concatenate([fold != np.arange(folds)[:, None] for fold in of])


def held_out(training: NDArray[np.bool_], margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean margin of everybody by the ensembles that have not seen them, float64, shape (shared,).

    Args:
        training: bool, shape (ensembles, shared).
        margins: float64, shape (ensembles, shared, 1).
    """
    unseen = ~training
    return np.asarray((margins[:, :, 0] * unseen).sum(axis=0) / unseen.sum(axis=0))


def auc(label: NDArray[np.float64], margin: NDArray[np.float64]) -> float:
    """Area under the ROC curve, ties counted half (Mann–Whitney)."""
    _, place, count = np.unique(margin, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    bad = label == 1
    pairs = bad.sum() * (~bad).sum()
    return float((rank[bad].sum() - bad.sum() * (bad.sum() + 1) / 2) / pairs) if pairs else float("nan")


SIGNIFICANT = 2.0
"""Standard errors by which a round must be worse than the best to be left out. One stops too early with few people."""


@dataclass
class Curve:
    """Held-out margins after each round; the first entry is before any tree.

    Attributes:
        loss: what is minimised.
        label: float64, shape (n,).
        weight: float64, shape (n,): how much each person counts, 1 on average.
        margins: one float64 array of shape (n,) for each round, from the ensembles that have not seen the person.
    """

    loss: Loss
    label: NDArray[np.float64]
    weight: NDArray[np.float64]
    margins: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, margin: NDArray[np.float64]) -> dict[str, float]:
        """Note a round; returns its aggregated figures."""
        self.margins.append(margin)
        figures = {"validation_loss": float(self.losses(margin).mean())}
        return {"validation_auc": auc(self.label, margin), **figures} if self.loss.link == "logit" else figures

    def losses(self, margin: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weighted loss of each person, float64, shape (n,)."""
        return np.asarray(self.weight * self.loss.losses(self.label, margin[:, None]))

    def kept(self) -> int:
        """Rounds to keep: the last that is not significantly worse than the best round.

        *Significantly* is two standard errors of the paired difference. The last rather than the best, because the best
        round of few people is mostly luck, and the ranking still improves after the loss has stopped to; the blend
        takes back what is too much.
        """
        if len(self.margins) < 2:
            return 0
        by_round = np.array([self.losses(margin) for margin in self.margins[1:]])
        worse = by_round - by_round[by_round.mean(axis=1).argmin()]
        return int(np.flatnonzero(worse.mean(axis=1) <= SIGNIFICANT * _standard_error(worse))[-1]) + 1

    @property
    def past_best(self) -> bool:
        """Whether the last round is significantly worse than the best, so that more rounds are in vain."""
        return self.kept() < len(self.margins) - 1

    def hurts(self, before: NDArray[np.float64], after: NDArray[np.float64]) -> bool:
        """Whether margins `after` leave held-out people worse off than `before` by more than one standard error."""
        worse = self.losses(after) - self.losses(before)
        return bool(worse.mean() > _standard_error(worse))

    def helps(self, before: NDArray[np.float64], after: NDArray[np.float64]) -> bool:
        """Whether margins `after` leave held-out people better off than `before`."""
        return bool((self.losses(after) - self.losses(before)).mean() < 0)


def _standard_error(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the mean over the last axis."""
    return np.asarray(difference.std(axis=-1) / np.sqrt(difference.shape[-1]))
