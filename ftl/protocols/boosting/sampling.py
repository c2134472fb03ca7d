"""Which rows a tree is grown on, and how much each counts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sampling:
    """Rows drawn anew for every tree, out of those that may train it.

    Attributes:
        seed: of the draws.
        rows: share of the rows, drawn evenly.
        top: with `other`, gradient-based one-side sampling (Ke et al. 2017, algorithm 2): the share of rows with the
            largest gradients, all kept. The choice itself is seen by every party, so it tells of the labels; 0 for off.
        other: share drawn from the remaining rows, each counting (1 - top) / other times.
    """

    seed: int
    rows: float = 1.0
    top: float = 0.0
    other: float = 0.0

    @property
    def by_gradient(self) -> bool:
        """Whether rows are drawn by gradient."""
        return self.top > 0 and self.other > 0 and self.top + self.other < 1

    def most(self, training: int) -> int:
        """Most rows that one tree has out of `training`."""
        if self.by_gradient:
            return int(np.ceil(self.top * training)) + int(np.ceil(self.other * training))
        return training if self.rows >= 1 else int(np.ceil(self.rows * training))

    def factors(self, number: int, training: NDArray[np.bool_], gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """How often each row counts; 0 where it is left out.

        Args:
            number: of the round.
            training: bool, shape (ensembles, people): who may train.
            gradient: float64, shape (ensembles, people): sum of absolute gradients over the outputs.

        Returns:
            float64, shape (ensembles, people).
        """
        factors = np.zeros(training.shape)
        random = np.random.default_rng([self.seed, 2, number])
        for ensemble, allowed in enumerate(training):
            rows = np.flatnonzero(allowed)
            if self.by_gradient:
                self._one_sided(random, rows, gradient[ensemble], factors[ensemble])
            else:
                factors[ensemble, random.permutation(rows)[: self.most(len(rows))] if self.rows < 1 else rows] = 1.0
        return factors

    def _one_sided(
        self,
        random: np.random.Generator,
        rows: NDArray[np.int64],
        gradient: NDArray[np.float64],
        factors: NDArray[np.float64],
    ) -> None:
        top, other = int(np.ceil(self.top * len(rows))), int(np.ceil(self.other * len(rows)))
        by_size = rows[np.argsort(-gradient[rows], kind="stable")]
        factors[by_size[:top]] = 1.0
        factors[random.permutation(by_size[top:])[:other]] = (1 - self.top) / self.other
