"""The active party's side of the rounds: encrypts, decrypts, chooses splits, and keeps every ensemble's log-odds."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ftl.crypto import SecretCipher, Sums, compressed_length
from ftl.errors import CipherError, ProtocolError
from ftl.protocols.recipe import Task
from ftl.protocols.transfer_boost.candidates import Candidates
from ftl.protocols.transfer_boost.messages import Choice, Divided, Gradients, Sides, receive, require_shape, send
from ftl.protocols.transfer_boost.messages import Sums as SumsMessage
from ftl.protocols.transfer_boost.offers import Best, Offer, Rules, Total, best_split
from ftl.protocols.transfer_boost.partition import Partition, from_bits, leaf_bits, to_bits
from ftl.protocols.transfer_boost.settings import Plan
from ftl.protocols.trees import Split, probability

Node = tuple[int, int]
"""(tree of the round, node of the level)."""


@dataclass
class Growth:
    """Ensembles that grow side by side, one for each fold.

    Attributes:
        task: of the run.
        plan: of the run.
        own: the active party's candidates.
        partners: passive party to its number of candidates, none of them 0.
        cipher: with the secret key.
        rules: how splits are compared.
        learning_rate: share of a Newton step.
        label: float64, shape (shared,).
        training: bool, shape (folds, shared): who trains each ensemble.
        log_odds: float64, shape (folds, shared): each ensemble's, for all shared people.
        leaves: leaf values per tree, in the order grown.
        splits: the active party's own splits.
        owners: parties that own a split, per tree.
    """

    task: Task
    plan: Plan
    own: Candidates
    partners: dict[str, int]
    cipher: SecretCipher
    rules: Rules
    learning_rate: float
    label: NDArray[np.float64]
    training: NDArray[np.bool_]
    log_odds: NDArray[np.float64]
    leaves: list[list[float]] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    owners: list[set[str]] = field(default_factory=list)

    def round(self, number: int) -> None:
        """Grow one tree per ensemble and add it to the ensemble's log-odds.

        Raises:
            ProtocolError: a passive party sent something that cannot be right.
        """
        chance = probability(self.log_odds)
        gradient, hessian = chance - self.label, chance * (1 - chance)
        tree = _Round(self, number, gradient, hessian)
        tree.send_gradients()
        for level in range(self.plan.depth):
            tree.grow(level)
        steps = self._steps(tree.partition.node, gradient, hessian)
        self.leaves += steps.tolist()
        self.owners += tree.owners
        self.log_odds = self.log_odds + np.take_along_axis(steps, tree.partition.node, axis=1)

    def held_out(self) -> NDArray[np.float64]:
        """float64, shape (shared,): log-odds of everybody by the ensemble that has not seen them."""
        return np.asarray(self.log_odds[(~self.training).argmax(axis=0), np.arange(self.plan.shared)])

    def finish(self, rounds: int) -> None:
        """Tell the partners that no round follows the last of `rounds`."""
        for partner in self.partners if rounds < self.plan.rounds else ():
            send(self.task, partner, f"round/{rounds}/gradients", Gradients(b""))

    def _steps(
        self, leaf: NDArray[np.int64], gradient: NDArray[np.float64], hessian: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Newton steps −η G/(H+λ) of every leaf (Chen and Guestrin 2016, eq. 5), float64, shape (folds, leaves)."""
        steps = np.zeros((len(leaf), 1 << self.plan.depth))
        for tree, trained in enumerate(self.training):
            sums = [
                np.bincount(leaf[tree, trained], weights=part[tree, trained], minlength=steps.shape[1])
                for part in (gradient, hessian)
            ]
            steps[tree] = -self.learning_rate * sums[0] / np.maximum(sums[1] + self.rules.l2, 1e-12)
        return steps


class _Round:
    """One round: the trees of all folds, level by level."""

    def __init__(
        self, growth: Growth, number: int, gradient: NDArray[np.float64], hessian: NDArray[np.float64]
    ) -> None:
        self.growth = growth
        self.number = number
        self.real = gradient, hessian
        self.fixed = growth.rules.packing.fixed(gradient), growth.rules.packing.fixed(hessian)
        self.partition = Partition(growth.training)
        self.offers: dict[Node, dict[str, Offer]] = {}
        self.owners: list[set[str]] = [set() for _ in growth.training]

    def send_gradients(self) -> None:
        """Encrypt every training person's gradient and hessian for each tree, and send them to all partners."""
        growth, (gradient, hessian) = self.growth, self.real
        plain = np.concatenate(
            [
                growth.rules.packing.pack(gradient[tree, trained], hessian[tree, trained])
                for tree, trained in enumerate(growth.training)
            ]
        )
        ciphertexts = growth.cipher.dump(growth.cipher.encrypt(plain))
        for partner in growth.partners:
            send(growth.task, partner, f"round/{self.number}/gradients", Gradients(ciphertexts))

    def grow(self, level: int) -> None:
        """Collect all parties' sums, choose, and divide the people."""
        best = self._choose(self._collect(level))
        split = np.zeros(self.partition.open.shape, dtype=bool)
        left = np.zeros(self.partition.node.shape, dtype=bool)
        for node, sides in self._sides(level, best).items():
            split[node] = True
            left[node[0]] |= sides
            self.owners[node[0]].add(best[node].party)
        if level + 1 < self.growth.plan.depth:
            for partner in self.growth.partners:
                send(self.growth.task, partner, f"round/{self.number}/divided/{level}", Divided(split, to_bits(left)))
        self.partition.advance(split, left)

    def _collect(self, level: int) -> dict[Node, dict[str, Offer]]:
        """Every open node's offers; of two siblings one is summed, the other is the parent minus it."""
        nodes = self.partition.summed()
        me = self.growth.task.frame.party
        offers: dict[Node, dict[str, Offer]] = {}
        received = {me: [self._own_offer(tree, node) for tree, node, _ in nodes]}
        received |= {partner: self._receive(partner, level, len(nodes)) for partner in self.growth.partners}
        for party, given in received.items():
            for (tree, node, sibling), offer in zip(nodes, given, strict=True):
                offers.setdefault((tree, node), {})[party] = offer
                if sibling is not None:
                    parent = self.offers[tree, node // 2][party]
                    offers.setdefault((tree, sibling), {})[party] = offer.rest_of(parent)
        self.offers = offers
        return offers

    def _own_offer(self, tree: int, node: int) -> Offer:
        own = self.growth.own
        people = self.partition.members(tree, node) & self.growth.training[tree]
        places = np.array([column.first for column in own.columns], dtype=np.int64) + own.codes[people]
        by_bin = [
            _exact_sums(places, np.repeat(part[tree, people][:, None], places.shape[1], axis=1), sum(own.bins))
            for part in (*self.fixed, np.ones_like(self.fixed[0]))
        ]
        everything = np.ones(own.count, dtype=bool)
        order = np.arange(own.count)
        sums = [own.sums(part, order, everything, np.add, np.take) for part in by_bin]
        return Offer(Sums(*sums), everything)

    def _receive(self, partner: str, level: int, nodes: int) -> list[Offer]:
        growth, topic, count = self.growth, f"round/{self.number}/sums/{level}", self.growth.partners[partner]
        message = receive(growth.task, partner, topic, SumsMessage)
        require_shape(partner, topic, message.sent, (nodes, count))
        if len(message.ciphertexts) != nodes:
            raise ProtocolError(f"{partner!r} sent sums of {len(message.ciphertexts)} nodes; {nodes} were expected.")
        try:
            return [
                Offer(self._decrypt(data, count), sent.astype(bool))
                for data, sent in zip(message.ciphertexts, message.sent, strict=True)
            ]
        except CipherError as exc:
            raise ProtocolError(f"{partner!r} sent sums that cannot be read: {exc.message}", cure=exc.cure) from exc

    def _decrypt(self, data: bytes, count: int) -> Sums:
        cipher, packing = self.growth.cipher, self.growth.rules.packing
        ciphertexts = cipher.load(data, compressed_length(count, cipher.capacity, packing.bits))
        return packing.unpack(cipher.decrypt(ciphertexts, packing.bits, compressed=count))

    def _choose(self, offers: dict[Node, dict[str, Offer]]) -> dict[Node, Best]:
        """The best split of each node that has one, in the order of tree and node."""
        chosen = {node: best_split(self.growth.rules, self._total(*node), offers[node]) for node in sorted(offers)}
        return {node: best for node, best in chosen.items() if best is not None}

    def _total(self, tree: int, node: int) -> Total:
        people = self.partition.members(tree, node) & self.growth.training[tree]
        gradient, hessian = (int(part[tree, people].sum()) for part in self.fixed)
        return Total(gradient, hessian, int(people.sum()))

    def _sides(self, level: int, best: dict[Node, Best]) -> dict[Node, NDArray[np.bool_]]:
        """Who goes left of each split, bool of shape (shared,), from the split's owner."""
        me = self.growth.task.frame.party
        sides = {node: self._split(level, node, one.candidates[0]) for node, one in best.items() if one.party == me}
        for partner in self.growth.partners:
            theirs = {node: one for node, one in best.items() if one.party == partner}
            message = Choice(
                np.array(list(theirs), dtype=np.int64).reshape(-1, 2), [one.candidates for one in theirs.values()]
            )
            send(self.growth.task, partner, f"round/{self.number}/choice/{level}", message)
        for partner in self.growth.partners:
            theirs = {node: one for node, one in best.items() if one.party == partner}
            sides |= self._receive_sides(partner, level, theirs)
        return sides

    def _receive_sides(self, partner: str, level: int, theirs: dict[Node, Best]) -> dict[Node, NDArray[np.bool_]]:
        topic, shared = f"round/{self.number}/sides/{level}", self.growth.plan.shared
        message = receive(self.growth.task, partner, topic, Sides)
        require_shape(partner, topic, message.left, (len(theirs), -(-shared // 8)))
        sides = dict(zip(theirs, from_bits(message.left, shared), strict=True))
        for node, left in sides.items():
            self._verify(partner, node, theirs[node], left)
        return sides

    def _verify(self, partner: str, node: Node, best: Best, left: NDArray[np.bool_]) -> None:
        """See that the people named are those whose sum was sent."""
        tree, number = node
        if (left & ~self.partition.members(tree, number)).any():
            raise ProtocolError(f"{partner!r} sent people to the left who are not in the node.")
        people = left & self.growth.training[tree]
        found = [int(part[tree, people].sum()) for part in self.fixed]
        sums = self.offers[node][partner].sums
        if not any([int(sums.gradient[c]), int(sums.hessian[c])] == found for c in best.candidates):
            raise ProtocolError(
                f"{partner!r} sent people to the left whose gradients do not add up to the sum it sent before.",
                cure=f"Check that {partner!r} runs the same version and aligned the same people.",
            )

    def _split(self, level: int, at: Node, candidate: int) -> NDArray[np.bool_]:
        """Note an own split."""
        (tree, node), own, depth = at, self.growth.own, self.growth.plan.depth
        column, threshold, codes, missing_left = own.describe(candidate)
        members = self.partition.members(tree, node)
        left = own.goes_left(candidate)
        if threshold is not None and not own.is_missing(column)[members].any():
            missing_left = bool(np.count_nonzero(left & members) * 2 >= np.count_nonzero(members))
        number = self.number * len(self.owners) + tree
        bits = leaf_bits(2 * node, level + 1, depth), leaf_bits(2 * node + 1, level + 1, depth)
        self.growth.splits.append(Split(number, column.number, threshold, codes, missing_left, *bits))
        return np.asarray(left & members)


def _exact_sums(places: NDArray[np.int64], values: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
    """Integer sums by bin; float64 weights would round beyond 2^53."""
    sums = np.zeros(bins, dtype=np.int64)
    np.add.at(sums, places.ravel(), values.ravel())
    return sums
