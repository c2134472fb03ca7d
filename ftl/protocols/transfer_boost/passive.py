"""A passive party's program: sums encrypted gradients over its bins, and says who goes left of its chosen splits."""

import secrets
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.crypto import AdditiveScheme, Ciphertexts, Packing, PublicCipher
from ftl.errors import CipherError, ProtocolError
from ftl.features import BinEdges
from ftl.protocols.recipe import Outcome, Step, Task
from ftl.protocols.transfer_boost.candidates import Candidates
from ftl.protocols.transfer_boost.messages import (
    Choice,
    Divided,
    Gradients,
    Kept,
    Masks,
    Ready,
    Sides,
    Start,
    Sums,
    Working,
    receive,
    require_shape,
    send,
)
from ftl.protocols.transfer_boost.partition import (
    Partition,
    fold_of,
    from_bits,
    leaf_bits,
    packing_for,
    to_bits,
    training_of,
)
from ftl.protocols.transfer_boost.parts import PassiveRecord, load
from ftl.protocols.transfer_boost.settings import Plan
from ftl.protocols.trees import Split


def run_passive(task: Task, scheme: AdditiveScheme) -> Outcome:
    """Take part in a run as a passive party.

    Raises:
        ProtocolError: the active party sent something the protocol does not allow.
        ChannelTimeout: it sent nothing in time.
    """
    while not receive(task, task.active, "base", Working).done:
        pass
    start = receive(task, task.active, "start", Start)
    splits: list[Split] = []
    if start.plan is not None:
        splits = _grow(task, start.plan, scheme, start.public)
    kept = receive(task, task.active, "kept", Kept).trees
    part = msgspec.json.encode(PassiveRecord(task.frame.columns, kept, tuple(s for s in splits if s.tree < kept)))
    if start.plan is not None and kept:
        leaves = load(part, {}).sub_scores(task.frame.values[task.test]).leaves
        send(task, task.active, "masks", Masks(leaves.astype(mask_type(start.plan.depth))))
        task.report(Step("predict", 1, 1))
    return Outcome(part)


def mask_type(depth: int) -> np.dtype[np.unsignedinteger]:
    """The smallest unsigned integer with a bit for each leaf."""
    return np.dtype(f"<u{max(1 << depth, 8) // 8}")


def _grow(task: Task, plan: Plan, scheme: AdditiveScheme, public: bytes) -> list[Split]:
    if plan.shared != len(task.train):
        raise ProtocolError(
            f"{task.active!r} plans with {plan.shared} shared people, {task.frame.party!r} has {len(task.train)}.",
            cure="Align again; both must use the same shared people.",
        )
    edges = BinEdges.fit(task.frame.values, task.frame.categorical, plan.max_bins)
    candidates = Candidates(task.frame.values[task.train], edges, plan.min_bucket)
    send(task, task.active, "ready", Ready(candidates.count))
    if not candidates.count:
        return []
    training = training_of(fold_of(plan.shared, plan.folds, task.seed), plan.folds)
    program = _Rounds(task, plan, candidates, scheme.load_public(public), packing_for(training), training)
    for number in range(plan.rounds):
        if not program.round(number):
            break
        task.report(Step("train", number + 1, plan.rounds))
    return program.splits


@dataclass
class _Rounds:
    """The rounds of one run, seen from a passive party.

    Attributes:
        training: bool, shape (folds, shared): who trains each tree of a round.
        splits: this party's splits so far.
    """

    task: Task
    plan: Plan
    candidates: Candidates
    cipher: PublicCipher
    packing: Packing
    training: NDArray[np.bool_]
    splits: list[Split] = field(default_factory=list)

    def round(self, number: int) -> bool:
        """One tree per fold; False when the active party has ended the training."""
        active = self.task.active
        gradients = receive(self.task, active, f"round/{number}/gradients", Gradients)
        if not gradients.ciphertexts:
            return False
        people = np.argwhere(self.training)
        try:
            ciphertexts = self.cipher.load(gradients.ciphertexts, len(people))
        except CipherError as exc:
            raise ProtocolError(f"{active!r} sent gradients that cannot be read: {exc.message}", cure=exc.cure) from exc
        tree = _Round(self, number, ciphertexts, people)
        for level in range(self.plan.depth):
            tree.grow(level)
        return True


class _Round:
    """One round: the trees of all folds, level by level.

    Args:
        run: the run.
        number: of the round.
        ciphertexts: packed gradient and hessian, one for each of `people`.
        people: int64, shape (rows, 2): (tree, shared person) of each ciphertext.
    """

    def __init__(self, run: _Rounds, number: int, ciphertexts: Ciphertexts, people: NDArray[np.int64]) -> None:
        self.run = run
        self.number = number
        self.ciphertexts = ciphertexts
        self.people = people
        self.codes = np.ascontiguousarray(run.candidates.codes[people[:, 1]])
        self.partition = Partition(run.training)
        self.released: dict[tuple[int, int], NDArray[np.bool_]] = {}  # by (tree, node) of the last level that was sent
        self.order = [_secret_order(run.candidates.count) for _ in run.training]

    def grow(self, level: int) -> None:
        """Send the sums of a level, learn what was chosen, say who goes left, learn how all nodes were split."""
        task, topic = self.run.task, f"round/{self.number}/%s/{level}"
        send(task, task.active, topic % "sums", self._sums())
        choice = receive(task, task.active, topic % "choice", Choice)
        left = [self._split(level, node, numbers) for node, numbers in zip(*self._checked(choice), strict=True)]
        packed = to_bits(np.array(left, dtype=bool).reshape(len(left), self.run.plan.shared))
        send(task, task.active, topic % "sides", Sides(packed))
        if level + 1 < self.run.plan.depth:
            self._advance(receive(task, task.active, topic % "divided", Divided), topic % "divided")

    def _sums(self) -> Sums:
        candidates, cipher = self.run.candidates, self.run.cipher
        nodes = self.partition.summed()
        masks = [self._rows(tree, node) for tree, node, _ in nodes]
        by_bin = cipher.bucket_sums(self.ciphertexts, masks, self.codes, candidates.bins) if nodes else []
        sent = np.zeros((len(nodes), candidates.count), dtype=np.uint8)
        dumped, shown = [], {}
        for place, (tree, node, sibling) in enumerate(nodes):
            released = self._release(tree, node, sibling)
            for each in (node,) if sibling is None else (node, sibling):
                shown[tree, each] = released
            sent[place] = released[self.order[tree]]
            sums = candidates.sums(by_bin[place], self.order[tree], released, cipher.add, cipher.take)
            dumped.append(cipher.dump(cipher.compress(sums, self.run.packing.bits)))
        self.released = shown
        return Sums(dumped, sent)

    def _rows(self, tree: int, node: int) -> NDArray[np.bool_]:
        """bool, one for each ciphertext: training people of the node."""
        return np.asarray((self.people[:, 0] == tree) & self.partition.members(tree, node)[self.people[:, 1]])

    def _release(self, tree: int, node: int, sibling: int | None) -> NDArray[np.bool_]:
        """Which candidates of a node (and of its sibling, by subtraction) the active party may see."""
        trained = self.run.training[tree]
        shown = [node] if sibling is None else [node, sibling]
        counts = [self.run.candidates.counts(self.partition.members(tree, each) & trained) for each in shown]
        parent = self.released.get((tree, node // 2)) if sibling is not None else None
        allowed = np.ones(self.run.candidates.count, dtype=bool) if parent is None else parent
        return self.run.candidates.releasable(counts, allowed)

    def _checked(self, choice: Choice) -> tuple[list[tuple[int, int]], list[list[int]]]:
        """The nodes and, in this party's own numbers, the candidates of a choice that can be meant."""
        active, nodes = self.run.task.active, choice.nodes
        require_shape(active, "choice", nodes, (len(choice.candidates), 2))
        found: list[tuple[int, int]] = []
        own: list[list[int]] = []
        for (tree, node), places in zip(nodes.tolist(), choice.candidates, strict=True):
            known = self.released.get((tree, node))
            if known is None or not places or not all(0 <= place < len(known) for place in places):
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
        candidates, depth = self.run.candidates, self.run.plan.depth
        members = self.partition.members(tree, node)
        chosen = min(numbers)
        column, threshold, codes, missing_left = candidates.describe(chosen)
        goes_left = candidates.goes_left(chosen)
        if threshold is not None and not candidates.is_missing(column)[members].any():
            missing_left = bool(np.count_nonzero(goes_left & members) * 2 >= np.count_nonzero(members))
        self.run.splits.append(
            Split(
                self.number * len(self.run.training) + tree,
                column.number,
                threshold,
                codes,
                missing_left,
                leaf_bits(2 * node, level + 1, depth),
                leaf_bits(2 * node + 1, level + 1, depth),
            )
        )
        return np.asarray(goes_left & members)

    def _advance(self, divided: Divided, topic: str) -> None:
        active, shape = self.run.task.active, self.partition.open.shape
        require_shape(active, topic, divided.split, shape)
        require_shape(active, topic, divided.left, (shape[0], -(-self.run.plan.shared // 8)))
        if (divided.split & ~self.partition.open).any():
            raise ProtocolError(f"{active!r} split a node that is closed.")
        self.partition.advance(divided.split, from_bits(divided.left, self.run.plan.shared))


def _secret_order(count: int) -> NDArray[np.int64]:
    """A permutation that nobody else can draw: it comes from the operating system, not from the run's seed."""
    return np.random.default_rng(secrets.randbits(128)).permutation(count)
