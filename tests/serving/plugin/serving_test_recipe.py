"""A recipe whose parts are written by hand: what serving answers can be computed on paper."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from ftl.protocols import Outcome, SubScores, Task


class Stump(msgspec.Struct):
    """One party's split in a joint tree: below the threshold the left leaves stay reachable, else the right ones."""

    column: int
    threshold: float
    left: int
    right: int


class Stumps(msgspec.Struct):
    """A party's part: a linear score of its own and one split per joint tree."""

    columns: tuple[str, ...]
    weights: list[float]
    stumps: list[Stump]
    codes: dict[str, str] = {}

    def sub_scores(self, values: np.ndarray, *, reasons: bool = False) -> SubScores:
        filled = np.nan_to_num(values)
        people = len(values)
        leaves = [np.where(filled[:, s.column] < s.threshold, s.left, s.right) for s in self.stumps]
        lost: dict[str, np.ndarray] = {}
        relaxed: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        if reasons:
            for number, column in enumerate(self.columns):
                code = self.codes.get(column)
                used = [t for t, stump in enumerate(self.stumps) if stump.column == number]
                if code and self.weights:
                    lost[code] = np.maximum(self.weights[number] * filled[:, number], 0.0)
                if code and used:
                    free = [np.full(people, self.stumps[t].left | self.stumps[t].right) for t in used]
                    relaxed[code] = np.array(used), np.column_stack(free).astype(np.uint64)
        return SubScores(
            known=np.ones(people, dtype=bool),
            # Not `@`: BLAS adds up in another order for one person than for many.
            log_odds=(filled * self.weights).sum(axis=1) if self.weights else np.zeros(people),
            leaves=np.column_stack(leaves).astype(np.uint64),
            lost=lost,
            relaxed=relaxed,
        )


class StumpRecipe:
    name = "stumps"

    def settings(self, given: Mapping[str, Any]) -> Any:
        return dict(given)

    def run(self, task: Task, settings: Any) -> Outcome:
        raise NotImplementedError

    def load(self, part: bytes, reasons: Mapping[str, str]) -> Stumps:
        loaded = msgspec.json.decode(part, type=Stumps)
        return msgspec.structs.replace(loaded, codes=dict(reasons))


RECIPE = StumpRecipe()
