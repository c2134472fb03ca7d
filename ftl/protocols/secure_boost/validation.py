"""Shared people who train no tree, and what they say of the rounds."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ftl.protocols.boosting import Loss


@dataclass
class Watch:
    """Weighted loss of people outside (or, where there are none, inside) the training, round by round.

    Attributes:
        held_out: bool, shape (people,): who trains no tree.
        patience: rounds without a better loss before it is in vain to go on.
        losses: after each round.
    """

    held_out: NDArray[np.bool_]
    patience: int
    losses: list[float] = field(default_factory=list)

    @classmethod
    def draw(cls, seed: int, people: int, share: float, patience: int) -> "Watch":
        """Draw the held-out people from the run's seed, without regard to labels."""
        order = np.random.default_rng([seed, 1]).permutation(people)
        return cls(order < round(share * people), patience)

    def add(
        self,
        loss: Loss,
        label: NDArray[np.float64],
        weight: NDArray[np.float64],
        margins: NDArray[np.float64],
    ) -> dict[str, float]:
        """Note a round; returns its aggregated figure.

        Args:
            loss: what is minimised.
            label: float64, shape (people,).
            weight: float64, shape (people,).
            margins: float64, shape (people, outputs).
        """
        seen = self.held_out if self.held_out.any() else ~self.held_out
        self.losses.append(float(np.average(loss.losses(label, margins)[seen], weights=weight[seen])))
        return {"validation_loss" if self.held_out.any() else "training_loss": self.losses[-1]}

    @property
    def rounds_kept(self) -> int:
        """Up to the best round where people are held out, else all."""
        return int(np.argmin(self.losses)) + 1 if self.held_out.any() else len(self.losses)

    @property
    def past_best(self) -> bool:
        """Whether the last `patience` rounds were all worse than one before them."""
        return bool(self.losses) and len(self.losses) - self.rounds_kept >= self.patience
