"""What the active party's columns say of what the partners' trees add, so that nothing is counted twice.

A person whom the partners' columns make worse is often one whom the base has marked down already. The blend's factor on
the base takes back what follows the base's own margin; small trees of the active party's columns take back what follows
single columns. Both predict the same thing in different ways, and half of each is taken.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftl.protocols.base import Labelled, fit_with
from ftl.protocols.recipe import Task
from ftl.protocols.transfer_boost.blend import Blend
from ftl.protocols.transfer_boost.start import People
from ftl.protocols.trees import Ensemble

SHARE = 0.5
"""Of what the trees predict; the rest is left to the factor on the base."""
TREES = {"learning_rate": 0.05, "max_iter": 60, "max_leaf_nodes": 6, "l2_regularization": 5.0, "max_features": 1.0}


@dataclass(frozen=True)
class Overlap:
    """How the active party's share of the joint margin follows from its columns.

    Attributes:
        factor: of the base's margin.
        trees: of the p own columns and, as column p, the base's margin; :data:`SHARE` of their answer is taken off.
        offset: keeps the mean margin of the shared people what the blend has made it.
    """

    factor: float
    trees: Ensemble
    offset: float


def fit_overlap(task: Task, people: People, blend: Blend, added: NDArray[np.float64]) -> Overlap:
    """Learn what the partners' trees add to the shared people from the active party's own columns.

    Args:
        task: of the run.
        people: the shared ones.
        blend: of base and trees.
        added: float64, shape (shared,): what the weighted trees add.
    """
    frame = task.frame
    values = np.column_stack([frame.values[task.train], people.base])
    rows = Labelled(values, added, np.append(frame.categorical, [False]), "number", people.weight)
    trees = fit_with(rows, TREES, task.seed)
    factor = 1 + (1 - SHARE) * (blend.base - 1)
    taken = SHARE * trees.compile(values.shape[1]).log_odds(values)
    offset = np.average((blend.base - factor) * people.base + taken, weights=people.weight)
    return Overlap(factor, trees, float(offset))
