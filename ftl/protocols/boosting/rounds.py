"""The key holder's side of one round: encrypts, decrypts, chooses splits, level by level."""

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ftl.crypto import Plaintexts, SecretCipher, Sums, compressed_length
from ftl.errors import CipherError, ProtocolError
from ftl.protocols.boosting.messages import (
    Choice,
    Divided,
    Gradients,
    Sides,
    receive,
    require_shape,
    send,
)
from ftl.protocols.boosting.messages import Sums as SumsMessage
from ftl.protocols.boosting.offers import (
    FALLING,
    UNBOUNDED,
    WITHHELD,
    Best,
    FixedPoint,
    Offer,
    Total,
    best_split,
)
from ftl.protocols.boosting.partition import Partition, bundles, bytes_of, columns_of, from_bits, to_bits

if TYPE_CHECKING:
    from ftl.protocols.boosting.growth import Growth

Node = tuple[int, int]
"""(tree of the round, node of the level)."""


class Round:
    """One round: all its trees, level by level."""

    def __init__(
        self,
        growth: "Growth",
        number: int,
        training: NDArray[np.bool_],
        gradient: NDArray[np.float64],
        hessian: NDArray[np.float64],
    ) -> None:
        self.growth = growth
        self.number = number
        self.real = gradient, hessian
        self.fixed = FixedPoint.of(growth.rules.packing, gradient, hessian)
        self.scaled = self.fixed.scaled(gradient, hessian)
        packing = growth.rules.packing
        self.integers = packing.fixed(self.scaled[0]), packing.fixed(self.scaled[1])
        self.partition = Partition(training)
        self.columns = columns_of(
            growth.task.seed,
            growth.task.frame.party,
            number,
            len(training),
            len(growth.own.columns),
            growth.plan.columns,
        )
        self.offers: dict[Node, dict[str, Offer]] = {}
        self.totals: dict[Node, Total] = {}
        self.limits: dict[Node, tuple[float, float]] = {}
        self.owners: list[set[str]] = [set() for _ in training]
        self.divided: list[NDArray[np.bool_]] = []  # by level: bool, shape (trees, nodes), nodes that were split

    def send_gradients(self) -> None:
        """Encrypt every training person's gradient and hessian for each tree, and send them to all partners."""
        growth, training, cipher = self.growth, self.partition.training, self.growth.cipher
        if cipher is None:
            return
        plain = [self._packed(run) for run in bundles(len(training), growth.plan.together)]
        ciphertexts = cipher.dump(cipher.encrypt(np.concatenate(plain)))
        for partner in growth.partners:
            message = Gradients(to_bits(training), ciphertexts)
            send(growth.task, partner, f"round/{self.number}/gradients", message)

    def _packed(self, run: range) -> Plaintexts:
        """Plaintexts of a bundle of trees, of the people who train any of them."""
        packing, (gradient, hessian) = self.growth.rules.packing, self.scaled
        training = self.partition.training[run.start : run.stop]
        packed = np.zeros(training.shape[1], dtype=object)
        for place, (tree, rows) in enumerate(zip(run, training, strict=True)):
            packed[rows] += packing.pack(gradient[tree, rows], hessian[tree, rows]) << packing.bits * place
        return packed[training.any(axis=0)]

    def grow(self, level: int) -> None:
        """Collect all parties' sums, choose, and divide the people."""
        best = self._choose(self._collect(level))
        split = np.zeros(self.partition.open.shape, dtype=bool)
        left = np.zeros(self.partition.node.shape, dtype=bool)
        goes_left = self._sides(level, best)
        for node, sides in goes_left.items():
            split[node] = True
            left[node[0]] |= sides
            self.owners[node[0]].add(best[node].party)
        if level + 1 < self.growth.plan.depth:
            for partner in self.growth.partners:
                send(self.growth.task, partner, f"round/{self.number}/divided/{level}", Divided(split, to_bits(left)))
        self._pass_limits(best, goes_left)
        self.divided.append(split)
        self.partition.advance(split, left)

    def steps(self) -> NDArray[np.float64]:
        """Newton steps of every leaf, float64, shape (trees, leaves), within the limits of monotone splits above."""
        leaves = 1 << self.growth.plan.depth
        steps = np.zeros((len(self.owners), leaves))
        for tree, (leaf, trained) in enumerate(zip(self.partition.node, self.partition.training, strict=True)):
            sums = [np.bincount(leaf[trained], weights=part[tree, trained], minlength=leaves) for part in self.real]
            slope, bend = (np.asarray(part, dtype=np.float64) for part in sums)
            low, high = np.array([self.limits.get((tree, number), UNBOUNDED) for number in range(leaves)]).T
            steps[tree] = np.clip(self.growth.rules.step(slope, bend), low, high)[self._reached(tree)]
        return steps

    def _reached(self, tree: int) -> NDArray[np.int64]:
        """The leaf that each leaf stands for, int64, shape (leaves,): those under a closed node for its first one."""
        depth = self.growth.plan.depth
        path, reached = np.arange(1 << depth), np.zeros(1 << depth, dtype=np.int64)
        for level, split in enumerate(self.divided):
            reached = 2 * reached + (split[tree, reached] & (path >> (depth - 1 - level) & 1).astype(bool))
        return reached

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
        if not own.count:
            nothing = np.zeros(0, dtype=np.int64)
            return Offer(Sums(nothing, nothing, nothing), nothing.astype(np.uint8))
        people = self.partition.trained(tree, node)
        places = (np.array([column.first for column in own.columns], dtype=np.int64) + own.codes[people]).ravel()
        parts = [part[tree, people] for part in self.integers]
        by_bin = [_exact_sums(places, part, len(own.columns), sum(own.bins)) for part in (*parts, None)]
        sums = [own.sums(part, np.arange(own.count), np.add, np.take) for part in by_bin]
        return Offer(Sums(*sums), np.where(self.columns[tree][own.place], own.offered, WITHHELD).astype(np.uint8))

    def _receive(self, partner: str, level: int, nodes: int) -> list[Offer]:
        growth, topic, count = self.growth, f"round/{self.number}/sums/{level}", self.growth.partners[partner]
        with growth.cipher.idle() if growth.cipher else nullcontext():
            message = receive(growth.task, partner, topic, SumsMessage)
        require_shape(partner, topic, message.offered, (nodes, count))
        if (message.offered > FALLING).any():
            raise ProtocolError(f"{partner!r} sent candidates of an unknown kind under {topic!r}.")
        runs = bundles(nodes, growth.plan.together)
        if len(message.ciphertexts) != len(runs):
            raise ProtocolError(
                f"{partner!r} sent {len(message.ciphertexts)} lists of sums; {len(runs)} were expected."
            )
        offers: list[Offer] = []
        try:
            for run, data in zip(runs, message.ciphertexts, strict=True):
                offered = message.offered[run.start : run.stop]
                sums = self._decrypt(growth.cipher, data, offered)
                offers += [Offer(each, kinds) for each, kinds in zip(sums, offered, strict=True)]
        except CipherError as exc:
            raise ProtocolError(f"{partner!r} sent sums that cannot be read: {exc.message}", cure=exc.cure) from exc
        return offers

    def _decrypt(self, cipher: SecretCipher | None, data: bytes, offered: NDArray[np.uint8]) -> list[Sums]:
        """Sums of all candidates for each of a bundle's nodes; 0 of candidates that are withheld from all of them."""
        if cipher is None:
            raise CipherError("There is no key to read sums with.")
        packing, given = self.growth.rules.packing, (offered != WITHHELD).any(axis=0)
        sums = np.zeros((len(offered), len(given)), dtype=object)
        if given.any() or data:
            bits, count = packing.bits * len(offered), int(given.sum())
            ciphertexts = cipher.load(data, compressed_length(count, cipher.capacity, bits))
            together = cipher.decrypt(ciphertexts, bits, compressed=count)
            shifts = packing.bits * np.arange(len(offered), dtype=object)
            sums[:, given] = together[None, :] >> shifts[:, None] & (1 << packing.bits) - 1
        return [packing.unpack(each) for each in sums]

    def _choose(self, offers: dict[Node, dict[str, Offer]]) -> dict[Node, Best]:
        """The best split of each node that has one, in the order of tree and node."""
        self.totals = {node: self._total(*node) for node in sorted(offers)}
        chosen = {
            node: best_split(self.growth.rules, self.fixed, total, offers[node]) for node, total in self.totals.items()
        }
        return {node: best for node, best in chosen.items() if best is not None}

    def _total(self, tree: int, node: int) -> Total:
        total = self._sum(tree, self.partition.trained(tree, node))
        return replace(total, limits=self.limits.get((tree, node), UNBOUNDED))

    def _sum(self, tree: int, people: NDArray[np.bool_]) -> Total:
        gradient, hessian = (int(part[tree, people].sum()) for part in self.integers)
        return Total(gradient, hessian, int(people.sum()))

    def _pass_limits(self, best: dict[Node, Best], goes_left: dict[Node, NDArray[np.bool_]]) -> None:
        """Limits of the next level's nodes: of a node that was not split, its left child has them."""
        below: dict[Node, tuple[float, float]] = {}
        for (tree, node), limits in self.limits.items():
            below[tree, 2 * node] = below[tree, 2 * node + 1] = limits
        for (tree, node), one in best.items():
            left = self._sum(tree, goes_left[tree, node] & self.partition.training[tree])
            # Of equal candidates the owner takes one of its own choosing: where any of them is monotone, all are so.
            matching = self._matching((tree, node), one, left)
            direction = int(self.offers[tree, node][one.party].offered[matching].max())
            pair = self.growth.rules.limits_below(self.fixed, self.totals[tree, node], left, direction)
            below[tree, 2 * node], below[tree, 2 * node + 1] = pair
        self.limits = {node: limits for node, limits in below.items() if limits != UNBOUNDED}

    def _matching(self, node: Node, best: Best, left: Total) -> list[int]:
        """Those of the best candidates that have exactly this sum."""
        sums = self.offers[node][best.party].sums
        found = (left.gradient, left.hessian, left.count)
        return [
            c for c in best.candidates if (int(sums.gradient[c]), int(sums.hessian[c]), int(sums.count[c])) == found
        ]

    def _sides(self, level: int, best: dict[Node, Best]) -> dict[Node, NDArray[np.bool_]]:
        """Who goes left of each split, bool of shape (people,), from the split's owner."""
        me = self.growth.task.frame.party
        for partner in self.growth.partners:
            theirs = {node: one for node, one in best.items() if one.party == partner}
            message = Choice(
                np.array(list(theirs), dtype=np.int64).reshape(-1, 2), [one.candidates for one in theirs.values()]
            )
            send(self.growth.task, partner, f"round/{self.number}/choice/{level}", message)
        sides = {node: self._split(level, node, one.candidates[0]) for node, one in best.items() if one.party == me}
        for partner in self.growth.partners:
            theirs = {node: one for node, one in best.items() if one.party == partner}
            sides |= self._receive_sides(partner, level, theirs)
        return sides

    def _receive_sides(self, partner: str, level: int, theirs: dict[Node, Best]) -> dict[Node, NDArray[np.bool_]]:
        topic, people = f"round/{self.number}/sides/{level}", self.growth.plan.people
        with self.growth.cipher.idle() if self.growth.cipher else nullcontext():
            message = receive(self.growth.task, partner, topic, Sides)
        require_shape(partner, topic, message.left, (len(theirs), bytes_of(people)))
        sides = dict(zip(theirs, from_bits(message.left, people), strict=True))
        for node, left in sides.items():
            self._verify(partner, node, theirs[node], left)
        return sides

    def _verify(self, partner: str, node: Node, best: Best, left: NDArray[np.bool_]) -> None:
        """See that the people named are those whose sum was sent."""
        tree, number = node
        if (left & ~self.partition.members(tree, number)).any():
            raise ProtocolError(f"{partner!r} sent people to the left who are not in the node.")
        if not self._matching(node, best, self._sum(tree, left & self.partition.training[tree])):
            raise ProtocolError(
                f"{partner!r} sent people to the left whose gradients do not add up to the sum it sent before.",
                cure=f"Check that {partner!r} runs the same version and aligned the same people.",
            )

    def _split(self, level: int, at: Node, candidate: int) -> NDArray[np.bool_]:
        """Note an own split."""
        (tree, node), own = at, self.growth.own
        members = self.partition.members(tree, node)
        number = self.number * self.growth.plan.trees + tree
        split, left = own.split(candidate, members, number, (level, node), self.growth.plan.depth)
        self.growth.splits.append(split)
        return left


def _exact_sums(
    places: NDArray[np.int64], values: NDArray[np.int64] | None, repeats: int, bins: int
) -> NDArray[np.int64]:
    """Integer sums by bin, or counts; exact, since float64 holds every integer below 2^53."""
    if values is None:
        return np.bincount(places, minlength=bins)
    weights = np.repeat(values.astype(np.float64), repeats)
    return np.bincount(places, weights=weights, minlength=bins).astype(np.int64)
