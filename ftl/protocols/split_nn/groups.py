"""Which shared people train in which batch; every party draws the same from the run's seed, without regard to labels.

Batches are the same in all rounds. Batches drawn anew would give a passive party ever new sums of the same people's
gradients, and with enough of them each person's own could be solved for.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftl.protocols.split_nn.settings import Plan


@dataclass(frozen=True)
class Groups:
    """Positions in the common order of the shared people.

    Attributes:
        batches: int64 each: the people of every batch.
        validation: int64: those who train nothing.
    """

    batches: tuple[NDArray[np.int64], ...]
    validation: NDArray[np.int64]

    @classmethod
    def draw(cls, plan: Plan, seed: int) -> "Groups":
        """Draw them.

        Args:
            plan: of the run.
            seed: of the run.
        """
        order = np.random.default_rng([seed, 4]).permutation(plan.shared).astype(np.int64)
        held = round(plan.shared * plan.validation)
        batches = tuple(np.sort(part) for part in np.array_split(order[held:], plan.batches))
        return cls(batches, np.sort(order[:held]))
