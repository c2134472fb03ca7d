"""The shared trees against XGBoost's formulas computed plainly: floats, sets of rows, nothing subtracted or hidden."""

from dataclasses import replace

import numpy as np
import pytest
from clear_cipher import ClearScheme
from secure_boost_parties import SHARED, SMALL, parties, run

from ftl.features import BinEdges, Frame
from ftl.protocols.boosting import Candidates, columns_of

RATE, L2, LEAST_HESSIAN = 0.3, 1.0, 1.0


class Reference:
    """Boosted trees by equations 5 and 7 of Chen and Guestrin (2016) on the same candidates."""

    def __init__(self, frames: list[Frame], settings: dict) -> None:
        self.settings, self.parties = {**SMALL, **settings}, [frame.party for frame in frames]
        self.label = frames[0].label[:SHARED]
        self.weight = np.ones(SHARED) if frames[0].weight is None else frames[0].weight[:SHARED]
        self.kind, self.outputs = frames[0].kind, max(len(frames[0].classes), 1)
        self.candidates = {
            f.party: Candidates(
                f.values[:SHARED], BinEdges.fit(f.values, f.categorical, self.settings["max_bins"]),
                self.settings["min_bucket"], f.monotone,
            )
            for f in frames
        }  # fmt: skip
        self.trees: list[list[float]] = []
        margins = np.tile(self.start(), (SHARED, 1))
        for number in range(self.settings["rounds"]):
            self.number, added = number, np.zeros_like(margins)
            for output in range(self.outputs):
                self.tree = output
                self.gradient, self.hessian = (part * self.weight for part in self.derivatives(margins, output))
                values = np.zeros(2 ** self.settings["depth"])
                self.values, self.reached = values, np.zeros(SHARED)
                self.grow(np.ones(SHARED, dtype=bool), 0, 0, {}, (-np.inf, np.inf), None)
                self.trees.append(list(values))
                added[:, output] = self.reached
            margins = margins + added

    def start(self) -> np.ndarray:
        if self.kind == "number":
            return np.array([(self.label * self.weight).sum() / self.weight.sum()])
        shares = np.array([self.weight[self.label == c].sum() for c in range(max(self.outputs, 2))]) / self.weight.sum()
        return np.log(shares) if self.kind == "classes" else np.array([np.log(shares[1] / shares[0])])

    def derivatives(self, margins: np.ndarray, output: int) -> tuple[np.ndarray, np.ndarray]:
        if self.kind == "number":
            return margins[:, 0] - self.label, np.ones(SHARED)
        if self.kind == "binary":
            chance = 1 / (1 + np.exp(-margins[:, 0]))
            return chance - self.label, chance * (1 - chance)
        chance = np.exp(margins)[:, output] / np.exp(margins).sum(axis=1)
        return chance - (self.label == output), 2 * chance * (1 - chance)

    def step(self, rows: np.ndarray, limits: tuple[float, float]) -> float:
        return float(np.clip(-self.gradient[rows].sum() / (self.hessian[rows].sum() + L2), *limits))

    def score(self, rows: np.ndarray, limits: tuple[float, float]) -> float:
        slope, bend, step = self.gradient[rows].sum(), self.hessian[rows].sum() + L2, self.step(rows, limits)
        return -(2 * slope * step + bend * step**2)

    def grow(self, node, number, level, allowed, limits, sibling) -> None:
        depth = self.settings["depth"]
        best, found, passed = 1e-6, None, {}
        for party in self.parties if level < depth else ():
            candidates = self.candidates[party]
            share = self.settings.get("columns", 1.0)
            used = columns_of(11, party, self.number, self.outputs, len(candidates.columns), share)[self.tree]
            shown = [node] if sibling is None else [node, sibling]
            released = allowed.get(party, used[candidates.place])
            if party != "bank":
                released = candidates.releasable([candidates.counts(rows) for rows in shown], released)
            passed[party] = released
            for candidate in np.flatnonzero(released):
                left = node & candidates.goes_left(candidate)
                gain, direction = self.gain(node, left, candidates.offered[candidate], limits)
                if gain > best + 1e-9:
                    best, found = gain, (left, direction)
        if found is None:
            self.reached[node] = RATE * self.step(node, limits)
            self.values[number << (depth - level) : (number + 1) << (depth - level)] = RATE * self.step(node, limits)
            return
        left, direction = found
        right = node & ~left
        middle = (self.step(left, limits) + self.step(right, limits)) / 2
        pairs = {1: (limits, limits), 2: ((limits[0], middle), (middle, limits[1]))}
        pairs[3] = pairs[2][::-1]
        self.grow(left, 2 * number, level + 1, passed, pairs[direction][0], right)
        self.grow(right, 2 * number + 1, level + 1, passed, pairs[direction][1], left)

    def gain(self, node, left, direction, limits) -> tuple[float, int]:
        right = node & ~left
        too_small = min(left.sum(), right.sum()) < self.settings["min_bucket"]
        if too_small or min(self.hessian[left].sum(), self.hessian[right].sum()) < LEAST_HESSIAN:
            return -np.inf, direction
        steps = self.step(left, limits), self.step(right, limits)
        if (direction == 2 and steps[0] > steps[1]) or (direction == 3 and steps[0] < steps[1]):
            return -np.inf, direction
        return self.score(left, limits) + self.score(right, limits) - self.score(node, limits), direction


def weighted(frames: list[Frame]) -> list[Frame]:
    weight = np.random.default_rng(1).uniform(0.2, 5.0, len(frames[0].ids))
    return [replace(frames[0], weight=weight), *frames[1:]]


def monotone(frames: list[Frame]) -> list[Frame]:
    bank, *others = frames
    rising = [replace(frame, monotone=np.array([-1, 1, 0], dtype=np.int8)) for frame in others]
    return [replace(bank, monotone=np.array([1, -1], dtype=np.int8)), *rising]


CASES = {
    "binary": (parties("binary"), {}),
    "number": (parties("number"), {"depth": 3}),
    "classes": (parties("classes"), {}),
    "weights": (weighted(parties("binary")), {"depth": 3}),
    "monotone": (monotone(parties("binary")), {"depth": 3, "rounds": 4}),
    "monotone number": (monotone(weighted(parties("number"))), {"depth": 3}),
    "two partners": (parties("binary", partners=("shop", "telecom")), {"depth": 3}),
    "fewer columns": (parties("classes"), {"columns": 0.5}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_trees_are_those_of_xgboosts_formulas_to_fixed_point_rounding(case: str) -> None:
    frames, settings = CASES[case]
    result = run(frames, ClearScheme(), {**SMALL, **settings})
    reference = Reference(frames, settings)
    np.testing.assert_allclose(result.active.combiner.offsets, reference.start(), rtol=1e-12)
    found, expected = np.array(result.active.combiner.trees), np.array(reference.trees)
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())
    assert np.abs(expected).max(axis=1).min() > 0
