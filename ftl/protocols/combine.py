"""From the parties' sub-scores to the answer and to what each reason cost, vectorised over people.

The gateway, `ftl score` and the registered MLflow model all call this, so that they answer with the same numbers.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ftl.protocols.recipe import Activation, Combiner, SubScores
from ftl.protocols.tables import LeafTables
from ftl.protocols.trees import probability

ACTIVATIONS: dict[Activation, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
    "sigmoid": probability,
}


class Combination:
    """A combiner laid out for speed; keep it as long as the model version answers.

    Args:
        combiner: of the model version.
        active: name of the active party.
    """

    def __init__(self, combiner: Combiner, active: str) -> None:
        self.combiner, self.active = combiner, active
        self.tables = LeafTables(combiner.trees)
        self._own_tables = {party: LeafTables(alone.trees) for party, alone in combiner.alone.items()}
        self._network = [(np.array(layer.weights), np.array(layer.bias), layer) for layer in combiner.network]

    def answer(self, scores: Mapping[str, SubScores]) -> NDArray[np.float64]:
        """Probability of default or number, float64, shape (m,); probability per class, shape (m, outputs).

        Args:
            scores: as for :meth:`margin`.
        """
        margins = self.margin(scores)
        if self.combiner.link == "softmax":
            grown = np.exp(margins - margins.max(axis=1, keepdims=True))
            return np.asarray(grown / grown.sum(axis=1, keepdims=True))
        return probability(margins[:, 0]) if self.combiner.link == "logit" else margins[:, 0]

    def margin(self, scores: Mapping[str, SubScores]) -> NDArray[np.float64]:
        """What the model's link turns into its answer, float64, shape (m, outputs).

        A person whom some needed party does not know (or whose party did not answer and is absent from `scores`) gets
        the active party's own margin; one whom the active party does not know, that of a passive party that can answer
        alone. NaN where there is neither; of several classes also wherever a needed party does not know the person.

        Args:
            scores: party to its sub-scores for the same m people in the same order.
        """
        result = self._alone(scores)
        complete = complete_rows(self.combiner, scores)
        if complete.any():
            result = np.where(complete[:, None], self._joint(scores), result)
        return result

    def own_margin(self, party: str, scores: SubScores) -> NDArray[np.float64]:
        """Margin by a passive party's columns alone, float64, shape (m,); NaN where it has no trees of its own."""
        if scores.own_leaves is None:
            return np.full(len(scores.known), np.nan)
        values = self._own_tables[party].values(scores.own_leaves)
        return np.asarray(self.combiner.alone[party].offset + values.sum(axis=1))

    def tree_values(self, scores: Mapping[str, SubScores]) -> NDArray[np.float64]:
        """Value of the leaf reached, unscaled, float64, shape (m, trees)."""
        return self.tables.values(reachable(self.combiner, scores))

    def _alone(self, scores: Mapping[str, SubScores]) -> NDArray[np.float64]:
        """The best that one party can say, float64, shape (m, outputs)."""
        result = np.full((_people(scores), self.combiner.outputs), np.nan)
        if self.combiner.outputs > 1:
            return result
        for party in self.combiner.alone:
            if party in scores:
                own = self.own_margin(party, scores[party])
                result = np.where(scores[party].known[:, None], own[:, None], result)
        if self.active in scores:
            known, own = scores[self.active].known, scores[self.active].log_odds
            result = np.where(known[:, None], own[:, None], result)
        return result

    def _joint(self, scores: Mapping[str, SubScores]) -> NDArray[np.float64]:
        combiner = self.combiner
        result = np.zeros((_people(scores), combiner.outputs)) + combiner.offset
        if combiner.offsets:
            result += np.array(combiner.offsets)
        for party in dict.fromkeys((self.active, *combiner.parties)):
            share = scores[party].share if party in scores else None
            if share is not None:
                result += share
            elif party == self.active and party in scores:
                result += scores[party].log_odds[:, None]
        if combiner.trees:
            values = self.tree_values(scores)
            result += combiner.scale * values.reshape(len(values), -1, combiner.outputs).sum(axis=1)
        return result + self._top(scores) if combiner.network else result

    def _top(self, scores: Mapping[str, SubScores]) -> NDArray[np.float64]:
        """What the top network adds, float64, shape (m, outputs)."""
        said = (scores[party].hidden for party in self.combiner.parties)
        values = np.concatenate([hidden for hidden in said if hidden is not None], axis=1)
        for weights, bias, layer in self._network:
            values = ACTIVATIONS[layer.activation](values @ weights + bias)
        return values


def answer(combiner: Combiner, active: str, scores: Mapping[str, SubScores]) -> NDArray[np.float64]:
    """See :meth:`Combination.answer`."""
    return Combination(combiner, active).answer(scores)


def margin(combiner: Combiner, active: str, scores: Mapping[str, SubScores]) -> NDArray[np.float64]:
    """See :meth:`Combination.margin`."""
    return Combination(combiner, active).margin(scores)


def log_odds(combiner: Combiner, active: str, scores: Mapping[str, SubScores]) -> NDArray[np.float64]:
    """Log-odds of default for m people, float64, shape (m,); see :meth:`Combination.margin`."""
    return margin(combiner, active, scores)[:, 0]


def answered_rows(combiner: Combiner, active: str, scores: Mapping[str, SubScores]) -> NDArray[np.bool_]:
    """bool, shape (m,): people for whom :meth:`Combination.margin` gives a number: somebody who can answer has them."""
    able = [scores[party].known for party in (active, *combiner.alone) if party in scores]
    return np.asarray(np.logical_or.reduce(able)) if able else np.zeros(_people(scores), dtype=bool)


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
