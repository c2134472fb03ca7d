"""The other parties' side of the rounds: sum encrypted gradients over bins, and say who goes left of chosen splits."""

import secrets
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ftl.crypto import AdditiveScheme, Ciphertexts, PublicCipher
from ftl.errors import CipherError, ProtocolError
from ftl.protocols.boosting.candidates import Candidates
from ftl.protocols.boosting.messages import (
    Choice,
    Divided,
    Gradients,
    Plan,
    Ready,
    Sides,
    Start,
    Sums,
    receive,
    require_shape,
    send,
)
from ftl.protocols.boosting.offers import WITHHELD
from ftl.protocols.boosting.partition import Partition, bundles, bytes_of, columns_of, from_bits, to_bits
from ftl.protocols.recipe import Task
from ftl.protocols.trees import Split

MOST_DEPTH = 6
"""Levels of a tree; a leaf is a bit of a 64-bit word."""


def accept(task: Task, least_bucket: int) -> tuple[Plan, bytes] | None:
    """The plan and the public key that the active party sends; None when it grows no trees.

    Args:
        task: of the run.
        least_bucket: a plan with a smaller `min_bucket` is refused.

    Raises:
        ProtocolError: the plan is not one that this party can follow.
    """
    start = receive(task, task.active, "start", Start)
    plan = start.plan
    if plan is None:
        return None
    if plan.people != len(task.train):
        raise ProtocolError(
            f"{task.active!r} plans with {plan.people} shared people, {task.frame.party!r} has {len(task.train)}.",
            cure="Align again; both must use the same shared people.",
        )
    if plan.min_bucket < least_bucket:
        raise ProtocolError(
            f"{task.active!r} asks for sums of {plan.min_bucket} people; {task.frame.party!r} gives none of fewer than "
            f"{least_bucket}.",
            cure="Let all parties run with the same settings.",
        )
    possible = 1 <= plan.depth <= MOST_DEPTH and plan.ensembles > 0 and plan.outputs > 0 and plan.slot_bits > 0
    possible &= plan.together > 0
    if not (possible and 0 <= plan.first <= plan.rounds and 0 < plan.columns <= 1):
        raise ProtocolError(f"{task.active!r} sent a plan that makes no sense: {plan}.")
    return plan, start.public


def join(task: Task, plan: Plan, candidates: Candidates, scheme: AdditiveScheme, public: bytes) -> "Summing":
    """Say how many candidates this party has, and be ready for the rounds.

    Raises:
        ProtocolError: the public key cannot be used.
    """
    try:
        cipher = scheme.load_public(public)
    except CipherError as exc:
        raise ProtocolError(f"{task.active!r} sent a key that cannot be used: {exc.message}", cure=exc.cure) from exc
    if plan.together > 1 and (plan.depth > 1 or plan.together * plan.slot_bits > cipher.capacity):
        raise ProtocolError(f"{task.active!r} sent a plan that makes no sense: {plan}.")
    send(task, task.active, "ready", Ready(candidates.count))
    return Summing(task, plan, candidates, cipher)


@dataclass
class Summing:
    """The rounds of one run, seen from a passive party.

    Attributes:
        task: of the run.
        plan: of the run.
        candidates: this party's.
        cipher: with the public key.
        splits: this party's splits so far.
    """

    task: Task
    plan: Plan
    candidates: Candidates
    cipher: PublicCipher
    splits: list[Split] = field(default_factory=list)

    def round(self, number: int) -> bool:
        """One tree per ensemble and output; False when the active party has ended the training.

        Raises:
            ProtocolError: the active party sent something the protocol does not allow.
        """
        active, topic = self.task.active, f"round/{number}/gradients"
        gradients = receive(self.task, active, topic, Gradients)
        if not gradients.ciphertexts:
            return False
        require_shape(active, topic, gradients.training, (self.plan.trees, bytes_of(self.plan.people)))
        training = from_bits(gradients.training, self.plan.people)
        trained = np.array([training[run].any(axis=0) for run in bundles(len(training), self.plan.together)])
        try:
            ciphertexts = self.cipher.load(gradients.ciphertexts, int(trained.sum()))
        except CipherError as exc:
            raise ProtocolError(f"{active!r} sent gradients that cannot be read: {exc.message}", cure=exc.cure) from exc
        tree = _Round(self, number, Gathered(ciphertexts, *np.nonzero(trained)), training)
        for level in range(self.plan.depth):
            tree.grow(level)
        return True


@dataclass(frozen=True)
class Gathered:
    """Packed gradients and hessians, as they came.

    Attributes:
        ciphertexts: length n.
        bundle: int64, shape (n,): of whose trees each is.
        person: int64, shape (n,): whose it is.
    """

    ciphertexts: Ciphertexts
    bundle: NDArray[np.int64]
    person: NDArray[np.int64]


Nodes = list[tuple[int, int, int | None]]
"""(tree, node, sibling) of nodes that are summed together: roots of a bundle, or one node."""


class _Round:
    """One round: all its trees, level by level.

    Args:
        run: the run.
        number: of the round.
        gathered: what the active party sent.
        training: bool, shape (trees, people): who trains each tree.
    """

    def __init__(self, run: Summing, number: int, gathered: Gathered, training: NDArray[np.bool_]) -> None:
        self.run = run
        self.number = number
        self.gathered = gathered
        self.partition = Partition(training)
        self.released: dict[tuple[int, int], NDArray[np.bool_]] = {}  # by (tree, node) of the last level that was sent
        self.bundle = np.zeros(len(training), dtype=np.int64)
        self.order = np.empty((len(training), run.candidates.count), dtype=np.int64)
        for place, trees in enumerate(bundles(len(training), run.plan.together)):
            self.bundle[trees] = place
            self.order[trees] = _secret_order(run.candidates.count)
        task, columns = run.task, len(run.candidates.columns)
        self.columns = columns_of(task.seed, task.frame.party, number, len(training), columns, run.plan.columns)

    def grow(self, level: int) -> None:
        """Send the sums of a level, learn what was chosen, say who goes left, learn how all nodes were split."""
        task, topic = self.run.task, f"round/{self.number}/%s/{level}"
        send(task, task.active, topic % "sums", self._sums())
        choice = receive(task, task.active, topic % "choice", Choice)
        left = [self._split(level, node, numbers) for node, numbers in zip(*self._checked(choice), strict=True)]
        packed = to_bits(np.array(left, dtype=bool).reshape(len(left), self.run.plan.people))
        send(task, task.active, topic % "sides", Sides(packed))
        if level + 1 < self.run.plan.depth:
            self._advance(receive(task, task.active, topic % "divided", Divided), topic % "divided")

    def _sums(self) -> Sums:
        candidates, plan, nodes = self.run.candidates, self.run.plan, self.partition.summed()
        offered = np.zeros((len(nodes), candidates.count), dtype=np.uint8)
        self.released, before = {}, self.released
        dumped = []
        for run in bundles(len(nodes), plan.together):
            some = nodes[run.start : run.stop]
            self._release(some, before)
            for place, (tree, node, _) in zip(run, some, strict=True):
                kinds = np.where(self.released[tree, node], candidates.offered, WITHHELD)
                offered[place] = kinds[self.order[tree]]
            dumped.append(self._sent(some, self.order[some[0][0]][offered[run].any(axis=0)]))
        return Sums(dumped, offered)

    def _sent(self, nodes: Nodes, given: NDArray[np.int64]) -> bytes:
        """Sums of the candidates that are given, for all the nodes together."""
        if not len(given):
            return b""
        cipher = self.run.cipher
        sums = self.run.candidates.sums(self._by_bin(nodes), given, cipher.add, cipher.take)
        return cipher.dump(cipher.compress(sums, self.run.plan.slot_bits * len(nodes)))

    def _by_bin(self, nodes: Nodes) -> Ciphertexts:
        """Sums of the nodes' training people by bin of the columns their trees may use, in the layout of all bins."""
        used = np.any([self.columns[tree] for tree, _, _ in nodes], axis=0)
        codes, bins, at = self.run.candidates.bins_at(np.asarray(used))
        (tree, node, _), gathered = nodes[0], self.gathered
        mask = (gathered.bundle == self.bundle[tree]) & self.partition.members(tree, node)[gathered.person]
        [sums] = self.run.cipher.bucket_sums(gathered.ciphertexts, [mask], codes[gathered.person], bins)
        return sums if len(sums) == len(at) else self.run.cipher.take(sums, at)

    def _release(self, nodes: Nodes, before: dict[tuple[int, int], NDArray[np.bool_]]) -> None:
        """Note which candidates of the nodes (and of siblings, by subtraction) the active party may see."""
        candidates = self.run.candidates
        shown = [(tree, each) for tree, *pair in nodes for each in pair if each is not None]
        allowed = [
            self.columns[tree][candidates.place] if sibling is None else before[tree, node // 2]
            for tree, node, sibling in nodes
        ]
        counts = [candidates.counts(self.partition.trained(tree, each)) for tree, each in shown]
        released = candidates.releasable(counts, np.any(allowed, axis=0))
        own = {tree: released & may for (tree, _, _), may in zip(nodes, allowed, strict=True)}
        self.released |= {(tree, each): own[tree] for tree, each in shown}

    def _checked(self, choice: Choice) -> tuple[list[tuple[int, int]], list[list[int]]]:
        """The nodes and, in this party's own numbers, the candidates of a choice that can be meant."""
        active, nodes = self.run.task.active, choice.nodes
        require_shape(active, "choice", nodes, (len(choice.candidates), 2))
        found: list[tuple[int, int]] = []
        own: list[list[int]] = []
        for (tree, node), places in zip(nodes.tolist(), choice.candidates, strict=True):
            known = self.released.get((tree, node))
            if known is None or (tree, node) in found or not places or not all(0 <= p < len(known) for p in places):
                raise ProtocolError(f"{active!r} chose a split of a node or candidate that does not exist.")
            numbers = [int(self.order[tree][place]) for place in places]
            if not known[numbers].all():
                raise ProtocolError(f"{active!r} chose a candidate that was withheld.")
            found.append((tree, node))
            own.append(numbers)
        return found, own

    def _split(self, level: int, at: tuple[int, int], numbers: list[int]) -> NDArray[np.bool_]:
        """Note the split; of equally good candidates the first column's lowest, whatever the secret order."""
        tree, node = at
        members = self.partition.members(tree, node)
        number = self.number * self.run.plan.trees + tree
        split, left = self.run.candidates.split(min(numbers), members, number, (level, node), self.run.plan.depth)
        self.run.splits.append(split)
        return left

    def _advance(self, divided: Divided, topic: str) -> None:
        active, shape = self.run.task.active, self.partition.open.shape
        require_shape(active, topic, divided.split, shape)
        require_shape(active, topic, divided.left, (shape[0], bytes_of(self.run.plan.people)))
        if (divided.split & ~self.partition.open).any():
            raise ProtocolError(f"{active!r} split a node that is closed.")
        self.partition.advance(divided.split, from_bits(divided.left, self.run.plan.people))


def _secret_order(count: int) -> NDArray[np.int64]:
    """A permutation that nobody else can draw: it comes from the operating system, not from the run's seed."""
    return np.random.default_rng(secrets.randbits(128)).permutation(count)
