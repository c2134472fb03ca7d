"""A stage: trees that learn one target, grown by the parties that take part, with what held-out people say of them.

A run has up to three kinds of stages, always in this order: *opinion*, *label*, and *alone* once for each partner.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from ftl.crypto import SecretCipher
from ftl.errors import ProtocolError
from ftl.features import BinEdges
from ftl.protocols.boosting import Candidates, Growth, Loss, Plan, Rules, Sampling, receive, send, to_bits
from ftl.protocols.boosting.messages import Ready, Start
from ftl.protocols.recipe import Task
from ftl.protocols.transfer_boost.validation import Curve, held_out
from ftl.protocols.trees import Split


@dataclass(frozen=True)
class Target:
    """What the trees of a stage learn, and from where.

    Attributes:
        loss: what is minimised.
        label: float64, shape (shared,): a number, or a chance between 0 and 1.
        weight: float64, shape (shared,): how much each person counts, 1 on average.
        start: float64, shape (shared,): margins before the first tree.
    """

    loss: Loss
    label: NDArray[np.float64]
    weight: NDArray[np.float64]
    start: NDArray[np.float64]


@dataclass(frozen=True)
class Stage:
    """How its trees are grown.

    Attributes:
        target: what they learn.
        plan: of the stage.
        rules: how splits are compared.
        training: bool, shape (ensembles, shared): who trains each ensemble.
        learning_rate: share of a Newton step.
        rows: share of its training people on which a tree is grown.
        own: the active party's candidates; without any, the trees are the partners' alone.
    """

    target: Target
    plan: Plan
    rules: Rules
    training: NDArray[np.bool_]
    learning_rate: float
    rows: float
    own: Candidates


class Grown(msgspec.Struct):
    """What a stage left; a tree's number is its place in the order grown.

    Attributes:
        leaves: per tree its leaf values.
        owners: per tree the parties that split it.
        left: per tree, bits of the shared people: who is in its first leaf; empty of trees of several levels.
        splits: the active party's own.
        held_out: float64, shape (shared,), after each round: what the trees add to the margins of people whom they
            have not seen; the first entry is before any tree.
        seen: float64, shape (shared,), likewise what the trees add by all ensembles, as the model will.
    """

    leaves: list[list[float]] = []
    owners: list[set[str]] = []
    left: list[bytes] = []
    splits: list[Split] = []
    held_out: list[NDArray[np.float64]] = []
    seen: list[NDArray[np.float64]] = []


def no_columns(shared: int) -> Candidates:
    """The candidates of a party that takes part with none of its columns."""
    return Candidates(np.empty((shared, 0)), BinEdges((), np.empty(0, dtype=bool)), 1)


def ask(task: Task, plan: Plan, cipher: SecretCipher, parties: Iterable[str]) -> dict[str, int]:
    """Send the plan of a stage to those who take part; returns who has how many candidates, none of them 0.

    Raises:
        ProtocolError: a party has fewer than none.
    """
    asked = tuple(parties)
    for party in asked:
        send(task, party, "start", Start(plan, cipher.public()))
    offered = {party: receive(task, party, "ready", Ready).candidates for party in asked}
    for party, count in offered.items():
        if count < 0:
            raise ProtocolError(f"{party!r} says that it has {count} candidates.")
    return {party: count for party, count in offered.items() if count}


def skip(task: Task, parties: Iterable[str]) -> None:
    """Tell parties that a stage does not take place."""
    for party in parties:
        send(task, party, "start", Start(None, b""))


def grow(
    task: Task,
    stage: Stage,
    partners: dict[str, int],
    cipher: SecretCipher,
    curve: Curve | None,
    after: Callable[[dict[str, float]], None],
) -> Grown:
    """Grow all rounds of a stage, or until held-out people say that more are in vain.

    Args:
        task: of the run.
        stage: what to grow.
        partners: see :func:`ask`.
        cipher: with the secret key.
        curve: judges the rounds by the margins of held-out people; None to grow all rounds.
        after: called after every round with its aggregated figures.

    Raises:
        ProtocolError: a passive party sent something that cannot be right.
    """
    target, plan = stage.target, stage.plan
    margins = np.repeat(target.start[None, :, None], plan.ensembles, axis=0)
    sampling = Sampling(task.seed, stage.rows)
    growth = Growth(
        task, plan, stage.own, partners, cipher, stage.rules, target.loss, sampling, stage.learning_rate,
        target.label, target.weight, margins,
    )  # fmt: skip
    grown = Grown(held_out=[np.zeros(plan.people)], seen=[np.zeros(plan.people)])
    if curve is not None:
        curve.add(target.start)
    number = 0
    while number < plan.rounds and not (curve is not None and curve.past_best):
        before = growth.margins
        growth.round(number, stage.training)
        number += 1
        grown.left += _left(growth, before)
        unseen = held_out(stage.training, growth.margins)
        grown.held_out.append(unseen - target.start)
        grown.seen.append(growth.margins[:, :, 0].mean(axis=0) - target.start)
        after({} if curve is None else curve.add(unseen))
    growth.finish(number)
    grown.leaves, grown.owners, grown.splits = growth.leaves, growth.owners, growth.splits
    return grown


def _left(growth: Growth, before: NDArray[np.float64]) -> list[bytes]:
    """Who is in the first leaf of each of the last round's trees, read from the steps that people took."""
    if growth.plan.depth > 1:
        return [b""] * growth.plan.trees
    steps = (growth.margins - before)[:, :, 0]
    first, second = np.array(growth.leaves[-growth.plan.trees :]).T
    return [to_bits(row).tobytes() for row in np.abs(steps - first[:, None]) <= np.abs(steps - second[:, None])]


@dataclass(frozen=True)
class Model:
    """Trees that stay.

    Attributes:
        numbers: of the trees, in the order grown.
        leaves: per tree its leaf values.
        constant: what all people have from trees that nobody split.
        owners: parties that split any of them.
    """

    numbers: list[int]
    leaves: list[list[float]]
    constant: float
    owners: set[str]


def keep(grown: Grown, count: int, factor: float) -> Model:
    """The first `count` trees times `factor`; trees of one level that divide all shared people alike become one."""
    numbers: list[int] = []
    leaves: list[list[float]] = []
    constant, owners = 0.0, set[str]()
    place: dict[bytes, int] = {}
    for number in range(count):
        values, left = [value * factor for value in grown.leaves[number]], grown.left[number]
        if not grown.owners[number]:
            constant += values[0]
            continue
        at = place.setdefault(left, len(leaves)) if left else len(leaves)
        if at < len(leaves):
            leaves[at] = [sum(pair) for pair in zip(leaves[at], values, strict=True)]
        else:
            numbers.append(number)
            leaves.append(values)
            owners |= grown.owners[number]
    return Model(numbers, leaves, constant, owners)


def renumbered(splits: Iterable[Split], numbers: list[int], first: int = 0) -> list[Split]:
    """The splits of the trees that stay, under the trees' new numbers, which begin with `first`."""
    place = {number: first + at for at, number in enumerate(numbers)}
    return [structs.replace(split, tree=place[split.tree]) for split in splits if split.tree in place]
