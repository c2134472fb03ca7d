"""The same trees on one party's columns alone: nothing is encrypted, nobody is asked."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ftl.features import BinEdges
from ftl.protocols.boosting.active import Growth, packing_for
from ftl.protocols.boosting.candidates import Candidates
from ftl.protocols.boosting.losses import Loss
from ftl.protocols.boosting.messages import Plan
from ftl.protocols.boosting.offers import Rules
from ftl.protocols.boosting.sampling import Sampling
from ftl.protocols.recipe import Task
from ftl.protocols.trees import Ensemble


def grow_alone(
    task: Task,
    plan: Plan,
    rules: Rules,
    loss: Loss,
    rows: NDArray[np.int64],
    learning_rate: float,
) -> Ensemble:
    """Grow all rounds of a plan on rows of the active party's own frame; for a loss with one output.

    Args:
        task: whose frame and seed are used.
        plan: its rounds, depth, smallest bucket, bins and share of columns.
        rules: how splits are compared.
        loss: what is minimised.
        rows: int64, shape (n,), rows of the frame with a label.
        learning_rate: share of a Newton step.
    """
    frame, people = task.frame, len(rows)
    values = frame.values[rows]
    label = np.zeros(people) if frame.label is None else frame.label[rows]
    weight = np.ones(people) if frame.weight is None else frame.weight[rows]
    edges = BinEdges.fit(values, frame.categorical, plan.max_bins)
    own = Candidates(values, edges, plan.min_bucket, frame.monotone)
    packing = packing_for(people)
    alone = Plan(people, 1, 1, plan.rounds, plan.depth, plan.min_bucket, plan.max_bins, packing.bits, plan.columns)
    start = loss.start(label, weight)
    growth = Growth(
        task,
        alone,
        own,
        {},
        None,
        replace(rules, packing=packing),
        loss,
        Sampling(task.seed),
        learning_rate,
        label,
        weight,
        np.tile(start, (1, people, 1)),
    )
    for number in range(plan.rounds):
        growth.round(number, np.ones((1, people), dtype=bool))
    leaves = tuple(tuple(tree) for tree in growth.leaves)
    return Ensemble(float(start[0]), leaves, tuple(growth.splits))
