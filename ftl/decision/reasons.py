"""Why a score is not higher: reason codes by the points they cost.

For each reason the loss is counted against the best attainable value (Siddiqi 2006, ch. 8 "Adverse codes"): what
the applicant's log-odds of default would fall by if the columns behind that reason took their most favourable values
and everything else stayed. It has two sources: what a party says was lost in its own additive part
(``SubScores.lost``), and what the joint trees lose: value of the leaf reached minus the smallest value among the leaves
that could be reached were those columns free (``SubScores.relaxed``), times the combiner's scale.
"""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from ftl.protocols import Combiner, SubScores, combine

MOST_REASONS = 4
"""What a lender names at most; the official commentary to 12 CFR 1002.9(b)(2) holds more to be of no help."""

SMALLEST_LOSS = 1e-9
"""Log-odds; below it a loss is rounding."""

Losses = dict[str, NDArray[np.float64]]
"""Reason code to log-odds lost, float64, shape (m,)."""


def losses(combiner: Combiner, scores: Mapping[str, SubScores]) -> Losses:
    """Log-odds that each reason cost each of m people, over all parties.

    Trees count only for people whom every needed party knows, as in :func:`ftl.protocols.combine.log_odds`.

    Args:
        combiner: of the model version.
        scores: party to its sub-scores, asked for with reasons, for the same m people in the same order.
    """
    total: Losses = {}
    for part in scores.values():
        for code, lost in part.lost.items():
            total[code] = total.get(code, np.zeros(len(lost))) + lost
    for code, lost in _tree_losses(combiner, scores).items():
        total[code] = total.get(code, np.zeros(len(lost))) + lost
    return total


def ranked(
    lost: Mapping[str, NDArray[np.float64]], allowed: Collection[str], people: int, most: int = MOST_REASONS
) -> list[list[tuple[str, float]]]:
    """Per person the costliest reasons as (code, log-odds lost), costliest first, ties by code.

    Args:
        lost: as :func:`losses` returns.
        allowed: codes that may be named; a code that no text explains is never shown.
        people: m.
        most: reasons per person.
    """
    codes = sorted(code for code in lost if code in allowed)
    if not codes:
        return [[] for _ in range(people)]
    table = np.column_stack([lost[code] for code in codes])
    # A stable sort over alphabetical columns breaks ties the same way everywhere; rounding hides the last bits' noise.
    order = np.argsort(-np.round(table, 9), axis=1, kind="stable")[:, :most]
    return [
        [(codes[column], float(row[column])) for column in columns if row[column] > SMALLEST_LOSS]
        for row, columns in zip(table, order, strict=True)
    ]


def _tree_losses(combiner: Combiner, scores: Mapping[str, SubScores]) -> Losses:
    complete = combine.complete_rows(combiner, scores)
    codes = sorted({code for party in combiner.parties if party in scores for code in scores[party].relaxed})
    if not codes or not complete.any():
        return {}
    reached = combiner.scale * combine.tree_values(combiner, combine.reachable(combiner, scores))
    relaxed = [_relaxed(code, combiner, scores) for code in codes]
    # All reasons side by side: one pass over the leaves for all of them, however many there are.
    trees = np.concatenate([one for one, _ in relaxed])
    best = _smallest(combiner, trees, np.concatenate([masks for _, masks in relaxed], axis=1))
    lost = np.where(complete[:, None], reached[:, trees] - best, 0.0)
    ends = np.cumsum([len(one) for one, _ in relaxed])[:-1]
    return {code: own.sum(axis=1) for code, own in zip(codes, np.split(lost, ends, axis=1), strict=True)}


def _relaxed(
    code: str, combiner: Combiner, scores: Mapping[str, SubScores]
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Trees that use the reason's columns at any party, and the leaves that all parties would then allow."""
    using = [scores[party].relaxed[code][0] for party in combiner.parties if code in scores[party].relaxed]
    trees = np.unique(np.concatenate(using))
    masks = []
    for party in combiner.parties:
        mask = scores[party].leaves[:, trees]
        if code in scores[party].relaxed:
            own, free = scores[party].relaxed[code]
            mask[:, np.searchsorted(trees, own)] = free
        masks.append(mask)
    joint: NDArray[np.uint64] = np.bitwise_and.reduce(masks)
    return trees, joint


def _smallest(combiner: Combiner, trees: NDArray[np.int64], masks: NDArray[np.uint64]) -> NDArray[np.float64]:
    """float64, shape (m, k): smallest scaled value among the set leaves; 0 where none is set.

    Args:
        combiner: holds leaf values and scale; the scale may have any sign.
        trees: int64, shape (k,).
        masks: uint64, shape (m, k); no mask of a complete person is empty.
    """
    values = combiner.scale * combine.leaf_table(combiner)[trees]
    best = np.full(masks.shape, np.inf)
    for leaf in range(max(len(leaves) for leaves in combiner.trees)):
        allowed = (masks & np.uint64(1 << leaf)) != 0
        np.minimum(best, values[:, leaf], out=best, where=allowed)
    return np.where(np.isfinite(best), best, 0.0)
