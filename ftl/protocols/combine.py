"""From the parties' sub-scores to log-odds and to what each reason cost, vectorised over people.

The gateway, `ftl score` and the registered MLflow model all call this, so that they answer with the same numbers.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ftl.protocols.recipe import Combiner, SubScores


def log_odds(combiner: Combiner, active: str, scores: Mapping[str, SubScores]) -> NDArray[np.float64]:
    """Log-odds of default for m people, float64, shape (m,).

    A person whom some needed party does not know (or whose party did not answer and is absent from `scores`) gets the
    active party's own log-odds.

    Args:
        combiner: of the model version.
        active: name of the active party; must be in `scores`.
        scores: party to its sub-scores for the same m people in the same order.
    """
    base = scores[active].log_odds
    complete = complete_rows(combiner, scores)
    if not complete.any():
        return base.copy()
    total = tree_values(combiner, reachable(combiner, scores)).sum(axis=1)
    return np.where(complete, base + combiner.scale * total + combiner.offset, base)


def complete_rows(combiner: Combiner, scores: Mapping[str, SubScores]) -> NDArray[np.bool_]:
    """bool, shape (m,): people for whom every party that the trees need has answered."""
    rows = len(next(iter(scores.values())).known)
    if not combiner.parties or any(party not in scores for party in combiner.parties):
        return np.zeros(rows, dtype=bool)
    known: NDArray[np.bool_] = np.logical_and.reduce([scores[party].known for party in combiner.parties])
    return known


def reachable(combiner: Combiner, scores: Mapping[str, SubScores]) -> NDArray[np.uint64]:
    """uint64, shape (m, trees): leaves that all parties still allow; one bit for a complete person."""
    masks: NDArray[np.uint64] = np.bitwise_and.reduce([scores[party].leaves for party in combiner.parties])
    return masks


def tree_values(combiner: Combiner, leaves: NDArray[np.uint64]) -> NDArray[np.float64]:
    """float64, shape (m, trees): value of the lowest set leaf of each mask."""
    table = leaf_table(combiner)
    isolated = leaves & (~leaves + np.uint64(1))
    index = np.log2(np.maximum(isolated, np.uint64(1)).astype(np.float64)).astype(np.int64)
    return table[np.arange(table.shape[0]), index]


def leaf_table(combiner: Combiner) -> NDArray[np.float64]:
    """float64, shape (trees, 64): leaf values, padded with 0."""
    table = np.zeros((len(combiner.trees), 64))
    for row, values in zip(table, combiner.trees, strict=True):
        row[: len(values)] = values
    return table
