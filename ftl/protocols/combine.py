"""From the parties' sub-scores to the answer and to what each reason cost, vectorised over people.

The gateway, `ftl score` and the registered MLflow model all call this, so that they answer with the same numbers.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ftl.protocols.recipe import Activation, Alone, Combiner, Layer, SubScores
from ftl.protocols.trees import lowest_leaf, probability

ACTIVATIONS: dict[Activation, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
    "sigmoid": probability,
}


def answer(combiner: Combiner, active: str, scores: Mapping[str, SubScores]) -> NDArray[np.float64]:
    """Probability of default or number, float64, shape (m,); probability per class, shape (m, outputs)."""
    margins = margin(combiner, active, scores)
    if combiner.link == "softmax":
        grown = np.exp(margins - margins.max(axis=1, keepdims=True))
        return np.asarray(grown / grown.sum(axis=1, keepdims=True))
    return probability(margins[:, 0]) if combiner.link == "logit" else margins[:, 0]


def log_odds(combiner: Combiner, active: str, scores: Mapping[str, SubScores]) -> NDArray[np.float64]:
    """Log-odds of default for m people, float64, shape (m,); see :func:`margin`."""
    return margin(combiner, active, scores)[:, 0]


def margin(combiner: Combiner, active: str, scores: Mapping[str, SubScores]) -> NDArray[np.float64]:
    """What the model's link turns into its answer, float64, shape (m, outputs).

    A person whom some needed party does not know (or whose party did not answer and is absent from `scores`) gets the
    active party's own margin; one whom the active party does not know, that of a passive party that can answer alone.
    NaN where there is neither, and for people without a class by all parties.

    Args:
        combiner: of the model version.
        active: name of the active party.
        scores: party to its sub-scores for the same m people in the same order.
    """
    result = _alone(combiner, active, scores)
    complete = complete_rows(combiner, scores)
    if complete.any():
        result = np.where(complete[:, None], _joint(combiner, active, scores), result)
    return result


def answered_rows(combiner: Combiner, active: str, scores: Mapping[str, SubScores]) -> NDArray[np.bool_]:
    """bool, shape (m,): people for whom :func:`margin` gives a number: the active party or one of `alone` has them."""
    able = [scores[party].known for party in (active, *combiner.alone) if party in scores]
    return np.asarray(np.logical_or.reduce(able)) if able else np.zeros(_people(scores), dtype=bool)


def _alone(combiner: Combiner, active: str, scores: Mapping[str, SubScores]) -> NDArray[np.float64]:
    """The best that one party can say, float64, shape (m, outputs)."""
    result = np.full((_people(scores), combiner.outputs), np.nan)
    if combiner.outputs > 1:
        return result
    for party, trees in combiner.alone.items():
        if party in scores:
            result = np.where(scores[party].known[:, None], own_margin(trees, scores[party])[:, None], result)
    if active in scores:
        own = scores[active]
        result = np.where(own.known[:, None], own.log_odds[:, None], result)
    return result


def own_margin(alone: Alone, scores: SubScores) -> NDArray[np.float64]:
    """Margin of a passive party's columns alone, float64, shape (m,)."""
    if scores.own_leaves is None:
        return np.full(len(scores.known), np.nan)
    table = _padded(alone.trees)
    numbers = lowest_leaf(scores.own_leaves)
    return np.asarray(alone.offset + table[np.arange(len(table)), numbers].sum(axis=1))


def _joint(combiner: Combiner, active: str, scores: Mapping[str, SubScores]) -> NDArray[np.float64]:
    result = np.zeros((_people(scores), combiner.outputs)) + combiner.offset
    if combiner.offsets:
        result += np.array(combiner.offsets)
    for party in dict.fromkeys((active, *combiner.parties)):
        share = scores[party].share if party in scores else None
        if share is not None:
            result += share
        elif party == active:
            result += scores[party].log_odds[:, None]
    if combiner.trees:
        values = tree_values(combiner, reachable(combiner, scores))
        result += combiner.scale * values.reshape(len(values), -1, combiner.outputs).sum(axis=1)
    return result + _top(combiner, scores) if combiner.network else result


def _top(combiner: Combiner, scores: Mapping[str, SubScores]) -> NDArray[np.float64]:
    """What the top network adds, float64, shape (m, outputs)."""
    said = (scores[party].hidden for party in combiner.parties)
    values = np.concatenate([hidden for hidden in said if hidden is not None], axis=1)
    for layer in combiner.network:
        values = _through(layer, values)
    return values


def _through(layer: Layer, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return ACTIVATIONS[layer.activation](values @ np.array(layer.weights) + np.array(layer.bias))


def _people(scores: Mapping[str, SubScores]) -> int:
    return len(next(iter(scores.values())).known)


def complete_rows(combiner: Combiner, scores: Mapping[str, SubScores]) -> NDArray[np.bool_]:
    """bool, shape (m,): people for whom every party that the trees need has answered."""
    if not combiner.parties or any(party not in scores for party in combiner.parties):
        return np.zeros(_people(scores), dtype=bool)
    known: NDArray[np.bool_] = np.logical_and.reduce([scores[party].known for party in combiner.parties])
    return known


def reachable(combiner: Combiner, scores: Mapping[str, SubScores]) -> NDArray[np.uint64]:
    """uint64, shape (m, trees): leaves that all parties still allow; one bit for a complete person."""
    masks: NDArray[np.uint64] = np.bitwise_and.reduce([scores[party].leaves for party in combiner.parties])
    return masks


def tree_values(combiner: Combiner, leaves: NDArray[np.uint64]) -> NDArray[np.float64]:
    """float64, shape (m, trees): value of the lowest set leaf of each mask."""
    table = leaf_table(combiner)
    return np.asarray(table[np.arange(len(table)), np.minimum(lowest_leaf(leaves), table.shape[1] - 1)])


def leaf_table(combiner: Combiner) -> NDArray[np.float64]:
    """float64, shape (trees, 64): leaf values, padded with 0."""
    return _padded(combiner.trees)


def _padded(trees: list[list[float]]) -> NDArray[np.float64]:
    table = np.zeros((len(trees), 64))
    for row, values in zip(table, trees, strict=True):
        row[: len(values)] = values
    return table
