"""Why a score is not higher: reason codes by the points they cost.

For each reason the loss is counted against the best attainable value (Siddiqi 2006, ch. 8 "Adverse codes"): what
the applicant's log-odds of default would fall by if the columns behind that reason took their most favourable values
and everything else stayed. It has two sources: what a party says was lost in its own additive part
(``SubScores.lost``), and what the joint trees lose: value of the leaf reached minus the smallest value among the leaves
that could be reached were those columns free (``SubScores.relaxed``), times the combiner's scale.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftl.protocols import Combiner, SubScores, combine

MOST_REASONS = 4
"""What a lender names at most; the official commentary to 12 CFR 1002.9(b)(2) holds more to be of no help."""

SMALLEST_LOSS = 1e-9
"""Log-odds; below it a loss is rounding."""

Losses = dict[str, NDArray[np.float64]]
"""Reason code to log-odds lost, float64, shape (m,)."""


class Costs:
    """What each reason cost, for one model version; keep it as long as that answers.

    Args:
        combination: of the model version.
    """

    def __init__(self, combination: combine.Combination) -> None:
        self._combination = combination
        self._plan: tuple[_Using, _Plan] | None = None

    def losses(self, scores: Mapping[str, SubScores]) -> Losses:
        """Log-odds that each reason cost each of m people, over all parties.

        Trees count only for people whom every needed party knows, as in
        :meth:`ftl.protocols.combine.Combination.margin`.

        Args:
            scores: party to its sub-scores, with reasons, for the same m people in the same order.
        """
        total: Losses = {}
        for part in scores.values():
            for code, lost in part.lost.items():
                total[code] = total[code] + lost if code in total else lost
        for code, lost in self._tree_losses(scores).items():
            total[code] = total[code] + lost if code in total else lost
        return total

    def _tree_losses(self, scores: Mapping[str, SubScores]) -> Losses:
        combiner = self._combination.combiner
        complete = combine.complete_rows(combiner, scores)
        if not complete.any() or not any(scores[party].relaxed for party in combiner.parties):
            return {}
        plan = self._planned(scores)
        joint = np.bitwise_and.reduce([plan.masks(party, scores[party]) for party in combiner.parties])
        reached = combiner.scale * self._combination.tree_values(scores)[:, plan.trees]
        best = self._combination.tables.least(plan.trees, joint, combiner.scale)
        lost = np.add.reduceat(np.where(complete[:, None], reached - best, 0.0), plan.starts, axis=1)
        return dict(zip(plan.codes, lost.T, strict=True))

    def _planned(self, scores: Mapping[str, SubScores]) -> "_Plan":
        """Which trees count for which reason; the same for all answers of one model version."""
        parties = self._combination.combiner.parties
        using = {party: {code: trees for code, (trees, _) in scores[party].relaxed.items()} for party in parties}
        if self._plan is None or not _same(self._plan[0], using):
            self._plan = using, _Plan.of(using)
        return self._plan[1]


_Using = dict[str, dict[str, NDArray[np.int64]]]
"""Party to reason code to the numbers of the trees that use its columns."""


@dataclass(frozen=True)
class _Plan:
    """All reasons side by side, so that one pass over the leaves serves them all.

    Attributes:
        codes: reasons that trees know.
        starts: int64: place of each reason's first tree.
        trees: int64, shape (k,): the trees of all reasons, one reason after the other.
        places: party to int64, shape (k,): where its mask for each of them stands among its `leaves` and, behind those,
            its `relaxed`, one reason after the other.
    """

    codes: list[str]
    starts: NDArray[np.int64]
    trees: NDArray[np.int64]
    places: dict[str, NDArray[np.int64]]

    @classmethod
    def of(cls, using: _Using) -> "_Plan":
        codes = sorted({code for own in using.values() for code in own})
        trees = [np.unique(np.concatenate([own[code] for own in using.values() if code in own])) for code in codes]
        starts = np.cumsum([0, *(len(one) for one in trees)])[:-1]
        places = {party: _places(own, codes, trees) for party, own in using.items()}
        return cls(codes, starts, np.concatenate(trees), places)

    def masks(self, party: str, scores: SubScores) -> NDArray[np.unsignedinteger]:
        """Leaves that a party allows for each tree of each reason, shape (m, k)."""
        own = np.concatenate([scores.leaves, *(masks for _, masks in scores.relaxed.values())], axis=1)
        places = self.places[party]
        return np.asarray(own[:, np.where(places < 0, scores.leaves.shape[1] - 1 - places, places)])


def _places(
    own: Mapping[str, NDArray[np.int64]], codes: list[str], trees: list[NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Where one party's masks stand: a tree's number, or -1 - its place among the relaxed ones."""
    first = dict(zip(own, np.cumsum([0, *(len(one) for one in own.values())]).tolist(), strict=False))
    found = []
    for code, numbers in zip(codes, trees, strict=True):
        place = numbers.copy()
        if code in own:
            place[np.searchsorted(numbers, own[code])] = -1 - (first[code] + np.arange(len(own[code])))
        found.append(place)
    return np.concatenate(found)


def _same(one: _Using, other: _Using) -> bool:
    """Whether the very same arrays are meant: answers of one layout share theirs."""
    return one.keys() == other.keys() and all(
        one[party].keys() == own.keys() and all(one[party][code] is trees for code, trees in own.items())
        for party, own in other.items()
    )


def losses(combiner: Combiner, scores: Mapping[str, SubScores]) -> Losses:
    """See :meth:`Costs.losses`."""
    return Costs(combine.Combination(combiner, next(iter(scores)))).losses(scores)


@dataclass(frozen=True)
class Ranking:
    """The costliest reasons of m people.

    Attributes:
        codes: of all reasons, in alphabetical order.
        order: int64, shape (m, k): places in `codes`, costliest first.
        lost: float64, shape (m, k): log-odds lost on them.
        counts: int64, shape (m,): how many of the k cost anything.
    """

    codes: list[str]
    order: NDArray[np.int64]
    lost: NDArray[np.float64]
    counts: NDArray[np.int64]


def ranking(
    lost: Mapping[str, NDArray[np.float64]], allowed: Collection[str], people: int, most: int = MOST_REASONS
) -> Ranking:
    """Per person the costliest reasons, costliest first, ties by code.

    Args:
        lost: as :func:`losses` returns.
        allowed: codes that may be named; a code that no text explains is never shown.
        people: m.
        most: reasons per person.
    """
    codes = sorted(code for code in lost if code in allowed)
    table = np.zeros((people, len(codes)))
    for column, code in enumerate(codes):
        table[:, column] = lost[code]
    table[table <= SMALLEST_LOSS] = 0.0
    # A stable sort over alphabetical columns breaks ties the same way everywhere; rounding hides the last bits' noise.
    order = np.argsort(-np.round(table, 9), axis=1, kind="stable")[:, :most]
    largest = np.take_along_axis(table, order, axis=1)
    return Ranking(codes, order, largest, (largest > 0).sum(axis=1))


def ranked(
    lost: Mapping[str, NDArray[np.float64]], allowed: Collection[str], people: int, most: int = MOST_REASONS
) -> list[list[tuple[str, float]]]:
    """As :func:`ranking`, per person as (code, log-odds lost)."""
    found = ranking(lost, allowed, people, most)
    return [
        [(found.codes[place], amount) for place, amount in zip(places[:count], amounts, strict=False)]
        for places, amounts, count in zip(found.order.tolist(), found.lost.tolist(), found.counts.tolist(), strict=True)
    ]
