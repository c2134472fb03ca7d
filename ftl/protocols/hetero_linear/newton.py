"""A quasi-Newton method whose vectors stay with their owners: L-BFGS in terms of inner products.

Every party holds its own block of the coefficients, of the gradients and of the steps so far, and knows a metric of its
own block: its information matrix at the start, up to weights it cannot know. All that crosses between blocks are inner
products, summed over the parties, from which the active party computes by the two-loop recursion how much of each
remembered vector goes into the next step (Liu and Nocedal 1989, with the vector-free recursion of Chen, Wang and Zhou
2014). The metric makes the method converge in a few rounds; coupling between parties is learned from the steps.

An l1 penalty and signs of coefficients are kept as in OWL-QN (Andrew and Gao 2007): a coefficient that crosses 0 stops
there, and one at 0 moves only if that lowers the objective; the recursion sees the free coefficients alone.
"""

from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RIDGE = 1e-8
"""Added to a metric in units of its mean diagonal, against columns that nearly determine each other."""
_LEAST_CURVATURE = 1e-12
_TOO_FAR = 0.5
"""Share of the slope at which a step began that may remain, pointing back, at its end."""


class Products(msgspec.Struct, frozen=True):
    """Inner products of one party's blocks, or their sums over the parties; m steps are remembered.

    Attributes:
        step_change: float64, shape (m, m): step i · change of gradient j.
        change_change: float64, shape (m, m): changes in the metric's inverse.
        step_gradient: float64, shape (m,): steps · gradient.
        change_gradient: float64, shape (m,): changes · gradient in the metric's inverse.
        gradient: gradient · gradient in the metric's inverse.
        largest: largest change of a coefficient in the party's own Newton step.
    """

    step_change: Floats
    change_change: Floats
    step_gradient: Floats
    change_gradient: Floats
    gradient: float
    largest: float


class Step(msgspec.Struct, frozen=True):
    """How the next step is made of remembered vectors.

    Attributes:
        steps: float64, shape (m,), factors on the steps so far.
        changes: float64, shape (m,), on the changes of the gradient in the metric's inverse.
        gradient: on the gradient in the metric's inverse.
        last: whether no gradient is wanted at the new point.
    """

    steps: Floats
    changes: Floats
    gradient: float
    last: bool


class Memory(msgspec.Struct, frozen=True):
    """What a block keeps between rounds.

    Attributes:
        coefficients: float64, shape (p,).
        gradient: of the last round, shape (p,); None before the first.
        before: coefficients at which it was taken.
        steps: float64, shape (m, p).
        changes: float64, shape (m, p).
    """

    coefficients: Floats
    gradient: Floats | None
    before: Floats | None
    steps: Floats
    changes: Floats


@dataclass
class Block:
    """One party's coefficients.

    Args:
        coefficients: float64, shape (p,), to begin with.
        metric: float64, shape (p, p), curvature of the mean loss in the own block, penalty included.
        l1: float64, shape (p,), penalty of each coefficient.
        l2: float64, shape (p,), likewise.
        signs: int64, shape (p,): 1 where the coefficient may not be negative, -1 where not positive, 0 for either.
        memory: steps to remember.

    Attributes:
        along: coefficients · gradient of the mean loss, of the last round.
    """

    coefficients: Floats
    metric: Floats
    l1: Floats
    l2: Floats
    signs: NDArray[np.int64]
    memory: int
    _kept: Memory = field(init=False, repr=False)
    _free: NDArray[np.bool_] = field(init=False, repr=False)
    _slope: Floats = field(init=False, repr=False)
    _mapped: Floats = field(init=False, repr=False)
    along: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        width = len(self.coefficients)
        self._kept = Memory(self.coefficients, None, None, np.empty((0, width)), np.empty((0, width)))

    def take(self, loss_gradient: Floats) -> Products:
        """Note the gradient of the mean loss at the present coefficients, shape (p,); what the others need of it."""
        gradient, kept = loss_gradient + self.l2 * self.coefficients, self._kept
        self.along = float(self.coefficients @ loss_gradient)
        if kept.gradient is not None and kept.before is not None:
            steps = np.vstack([kept.steps, self.coefficients - kept.before])[-self.memory :]
            changes = np.vstack([kept.changes, gradient - kept.gradient])[-self.memory :]
            kept = Memory(self.coefficients, gradient, self.coefficients, steps, changes)
        else:
            kept = Memory(self.coefficients, gradient, self.coefficients, kept.steps, kept.changes)
        self._kept = kept
        self._slope = self._pseudo_gradient(gradient)
        self._free = (self.coefficients != 0) | (self._slope != 0)
        self._slope = np.where(self._free, self._slope, 0.0)
        steps, changes = kept.steps * self._free, kept.changes * self._free
        self._mapped = self._in_metric(np.vstack([changes, self._slope]))
        mapped = self._mapped[-1]
        return Products(
            steps @ changes.T,
            changes @ self._mapped[:-1].T,
            steps @ self._slope,
            changes @ mapped,
            float(self._slope @ mapped),
            float(np.abs(mapped).max(initial=0.0)),
        )

    def move(self, step: Step) -> None:
        """Take a step; a coefficient with a penalty or a sign stops at 0 when it would cross."""
        direction = step.steps @ (self._kept.steps * self._free)
        direction += step.changes @ self._mapped[:-1] + step.gradient * self._mapped[-1]
        moved = self.coefficients + direction
        side = np.where(self.coefficients != 0, np.sign(self.coefficients), -np.sign(self._slope))
        crosses = ((self.l1 > 0) | (self.signs != 0)) & (np.sign(moved) != side)
        self.coefficients = np.where(crosses, 0.0, moved)

    def state(self) -> Memory:
        """What to keep of it: the coefficients as they are, and what is remembered."""
        kept = self._kept
        return Memory(self.coefficients, kept.gradient, kept.before, kept.steps, kept.changes)

    def restore(self, memory: Memory) -> None:
        """Go on from a kept state."""
        self._kept, self.coefficients = memory, memory.coefficients

    @property
    def newton_step(self) -> Floats:
        """What the party's own Newton step would change, shape (p,)."""
        return np.asarray(-self._mapped[-1])

    @property
    def free(self) -> NDArray[np.bool_]:
        """bool, shape (p,): coefficients that neither the penalty nor a sign holds at 0."""
        return np.asarray((self.coefficients != 0) | ((self.l1 == 0) & (self.signs == 0)))

    def _pseudo_gradient(self, gradient: Floats) -> Floats:
        """Slope of the objective towards where it falls; 0 where a coefficient at 0 stays."""
        here = gradient + self.l1 * np.sign(self.coefficients)
        rising = np.where(self.signs >= 0, np.minimum(gradient + self.l1, 0.0), 0.0)
        falling = np.where(self.signs <= 0, np.maximum(gradient - self.l1, 0.0), 0.0)
        return np.asarray(np.where(self.coefficients != 0, here, rising + falling))

    def _in_metric(self, vectors: Floats) -> Floats:
        """Vectors times the inverse of the free part of the metric, shape (k, p)."""
        free, result = np.flatnonzero(self._free), np.zeros_like(vectors)
        if len(free):
            inner = self.metric[np.ix_(free, free)]
            inner = inner + RIDGE * np.trace(inner) / len(free) * np.eye(len(free))
            result[:, free] = np.linalg.solve(inner, vectors[:, free].T).T
        return result


@dataclass
class Recursion:
    """The active party's side: from summed inner products to the next step.

    Attributes:
        slope: of the objective along the way since a gradient was last accepted, where it began; 0 before the first.
        way: that way, in units of the last step: 1, or negative after a step back.
    """

    slope: float = 0.0
    way: float = 1.0

    def next_step(self, products: Products, *, last: bool) -> Step:
        """The next step; a way back where the last one went too far."""
        m = len(products.step_gradient)
        slope = self.way * float(products.step_gradient[-1]) if m else 0.0
        if slope > -_TOO_FAR * self.slope and self.slope < 0 and not last:
            back = slope / (slope - self.slope)  # where the slope, if it rises evenly, is 0
            step = Step(np.array([*[0.0] * (m - 1), -back * self.way]), np.zeros(m), 0.0, last=False)
            self.slope, self.way = self.slope * (1 - back), -(1 - back) / back
            return step
        steps, changes, gradient = two_loops(products)
        slope = float(
            steps @ products.step_gradient + changes @ products.change_gradient + gradient * products.gradient
        )
        if not slope < 0:
            steps, changes, gradient, slope = np.zeros(m), np.zeros(m), -1.0, -products.gradient
        self.slope, self.way = slope, 1.0
        return Step(steps, changes, gradient, last)


def two_loops(products: Products) -> tuple[Floats, Floats, float]:
    """Factors on steps, mapped changes and mapped gradient, by the two-loop recursion of L-BFGS."""
    m, inner = len(products.step_gradient), products.step_change
    usable = [i for i in range(m) if inner[i, i] > _LEAST_CURVATURE]
    taken, given = np.zeros(m), np.zeros(m)
    for i in reversed(usable):
        taken[i] = (products.step_gradient[i] - taken @ inner[i]) / inner[i, i]
    scale = 1.0
    if usable:
        newest = usable[-1]
        scale = float(inner[newest, newest] / products.change_change[newest, newest])
    for i in usable:
        along = scale * (products.change_gradient[i] - taken @ products.change_change[i]) + given @ inner[:, i]
        given[i] = taken[i] - along / inner[i, i]
    return -given, scale * taken, -scale


def total(parts: list[Products]) -> Products:
    """Sum of the parties' inner products, and the largest of their largest changes."""
    return Products(
        sum((part.step_change for part in parts[1:]), parts[0].step_change),
        sum((part.change_change for part in parts[1:]), parts[0].change_change),
        sum((part.step_gradient for part in parts[1:]), parts[0].step_gradient),
        sum((part.change_gradient for part in parts[1:]), parts[0].change_gradient),
        sum(part.gradient for part in parts),
        max(part.largest for part in parts),
    )
