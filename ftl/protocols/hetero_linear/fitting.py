"""What both sides of a fit have in common: their columns in fixed point, their block, their state between rounds."""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.channel import decode
from ftl.errors import ProtocolError
from ftl.protocols.hetero_linear.exchange import Columns, Exchange
from ftl.protocols.hetero_linear.fixed import Floats, Layout, Residues, orthonormal, real, rounded
from ftl.protocols.hetero_linear.information import Weights, covariance
from ftl.protocols.hetero_linear.messages import Free
from ftl.protocols.hetero_linear.newton import Block, Memory
from ftl.protocols.hetero_linear.settings import Plan
from ftl.protocols.recipe import Task

LAST = 1 << 20
"""Stands for a round number in what comes after the rounds."""


class State(msgspec.Struct, frozen=True):
    """A party's state after a round; stays at the node.

    Attributes:
        memory: of its block.
        done: whether no further round follows.
        slope: active party: of its recursion.
        way: active party: likewise.
        moved: active party: largest change of a coefficient in the last round.
        reach: active party: passive party to the bound on its part of the margins, in half log-odds.
    """

    memory: Memory
    done: bool
    slope: float = 0.0
    way: float = 1.0
    moved: float = 1.0
    reach: dict[str, int] = {}


def resumed(task: Task) -> tuple[int, State] | None:
    """(round that comes next, state) of a run that was broken off; None to begin."""
    latest = task.checkpoints.latest()
    if latest is None:
        return None
    return latest[0], decode(latest[1], State, sender=task.frame.party, topic="checkpoint")


@dataclass
class Fit:
    """One party's side of a fit.

    Attributes:
        exchange: the way to the others.
        matrix: float64, shape (n, p): its columns of the regression, of the shared training people.
        block: its coefficients.
    """

    exchange: Exchange
    matrix: Floats
    block: Block

    def __post_init__(self) -> None:
        plan = self.exchange.plan
        self._basis = orthonormal(self.matrix)
        fixed = rounded(self.matrix @ self._basis, plan.value_bits, self.random(LAST + 1))
        self._columns = Columns(fixed, Layout(plan.people, 1))

    def random(self, number: int) -> np.random.Generator:
        """For rounding in a round: no secret, and the same when the run is repeated."""
        place = self.exchange.parties.index(self.exchange.me)
        return np.random.default_rng([self.exchange.task.seed, place, number])

    @property
    def margin(self) -> Floats:
        """This party's part of the margins, shape (n,)."""
        return np.asarray(self.matrix @ self.block.coefficients)

    def offer(self, topic: str, held: Residues) -> None:
        """As a holder, send the shares of residuals that :meth:`collect` will need."""
        self.exchange.offer(topic, held[:, None], list(self.exchange.columns.values()))

    def multiply(self, topic: str, holders: list[str]) -> dict[str, Residues]:
        """Multiply the holders' residuals with the own columns."""
        return self.exchange.multiply(topic, holders, self._columns)

    def collect(self, topic: str, held: Residues | None, masks: dict[str, Residues]) -> Floats:
        """Gradient of the mean loss in the own coefficients, shape (p,), from shared residuals."""
        plan = self.exchange.plan
        shares = None if held is None else held[:, None]
        widths = list(self.exchange.columns.values())
        sums = self.exchange.collect(topic, shares, 1, self._columns, widths, masks)
        if sums is None:
            raise ProtocolError(f"{self.exchange.me!r} has no columns in the regression.")
        mean = real(sums[:, 0], plan.residual_bits + plan.value_bits) / plan.people
        return np.asarray(np.linalg.solve(self._basis.T, mean))

    def covariance(self, weights: Weights, said: dict[str, Free]) -> Floats | None:
        """Of the coefficients that move; see :func:`~ftl.protocols.hetero_linear.information.covariance`."""
        free = self.block.free
        counts = [one.columns for one in said.values()]
        found = covariance(self.exchange, self.matrix[:, free], self.block.l2[free], weights, counts, self.random(LAST))
        return None if found is None else found / self.exchange.plan.people


def block_of(plan: Plan, metric: Floats, start: Floats, signs: NDArray[np.int64], *, intercept: bool) -> Block:
    """A party's block of coefficients.

    Args:
        plan: of the run.
        metric: float64, shape (p, p): curvature of the mean loss in its columns.
        start: float64, shape (p,): coefficients to begin with.
        signs: int64, shape (p,): of its terms.
        intercept: whether the first column is the constant, which has no penalty and no sign.
    """
    penalised = np.ones(len(start))
    signs = np.where(signs == 0, int(plan.non_negative), signs)
    if intercept:
        penalised[0], signs[0] = 0.0, 0
    metric = metric + np.diag(plan.l2 * penalised)
    return Block(start, metric, plan.l1 * penalised, plan.l2 * penalised, signs, plan.memory)


def note_on(plan: Plan, covariance_known: bool) -> str:
    """How far the p-values can be trusted."""
    if not plan.standard_errors:
        return "Standard errors were not asked for."
    if not covariance_known:
        return "No standard errors: columns of different parties determine each other."
    chosen = plan.l1 > 0 or plan.non_negative
    if chosen:
        return "As if the coefficients that are not 0 had been chosen beforehand: p-values are too small."
    if plan.l2 > 0:
        return "Under an l2 penalty coefficients are biased towards 0: p-values are approximate."
    return ""
