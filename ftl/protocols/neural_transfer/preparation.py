"""Products of random masks, held in shares: what an epoch on secret shares uses up. Made by the two parties alone.

There is no dealer. A third party that deals masks must not see the opened messages, and the coordinator's federation
server sees them all. Instead each party encrypts its masks, and the other multiplies them by its own under encryption
and takes off its share. Nothing here depends on data, so it can be made ahead of training.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftl.crypto import lattice
from ftl.crypto.lattice import Factor, LatticeKey, LatticePublic, Operands
from ftl.crypto.shares import PRIMES, Residues, random_residues
from ftl.errors import CipherError, ProtocolError
from ftl.protocols.neural_transfer.messages import Ciphertexts, receive, send
from ftl.protocols.recipe import Task

KEPT_FACTORS = 2048
"""Multiplicands that stay the same for a whole run are kept ready up to so many (200 kB each)."""

Matrix = NDArray[np.int64]


@dataclass(frozen=True)
class Sizes:
    """n shared people, width d, columns of A's and B's networks with the constant."""

    people: int
    width: int
    active: int
    passive: int

    def blocks(self, count: int) -> int:
        """Plaintexts of `count` rows of d."""
        return lattice.block_count(count, self.width)

    def regions(self, inputs: int) -> int:
        """Regions in which sums over people for so many inputs are made."""
        return lattice.best_regions(self.people, self.width, inputs)

    @property
    def by_passive(self) -> list[tuple[int, int]]:
        """Results that the passive party makes: rows, and regions in which they are summed up; 0 for not at all."""
        each = [(self.people, 0), (self.people, 0), (self.passive, 0), (self.active, 0)]
        return each + self._of_inputs(self.passive)

    @property
    def by_active(self) -> list[tuple[int, int]]:
        """Results that the active party makes."""
        return [(self.people, 1), (self.people, 0), *self._of_inputs(self.active)]

    def _of_inputs(self, inputs: int) -> list[tuple[int, int]]:
        regions = self.regions(inputs)
        return [(self.people, regions)] * -(-inputs // regions)


@dataclass(frozen=True)
class Shares:
    """A party's shares of products of A's masks r and B's masks s, named after what they hide; residues.

    Attributes:
        margin: of s_U r_phi, shape (2, n).
        damped: of r_C * s_S, shape (2, n, d).
        scaled: of r_phi * s_Q, shape (2, p_B, d).
        spreading: of r_V * s_g, shape (2, p_A, d).
        passive_sums: of s_X^T r_H, shape (2, p_B, d).
        total: of r_w^T s_U, shape (2, d).
        aligned: of r_S * s_U, shape (2, n, d).
        active_sums: of r_X^T s_K, shape (2, p_A, d).
    """

    margin: Residues
    damped: Residues
    scaled: Residues
    spreading: Residues
    passive_sums: Residues
    total: Residues
    aligned: Residues
    active_sums: Residues


@dataclass(frozen=True)
class ActiveMasks:
    """The active party's masks of phi (d), w (n), C (n, d), S^A (n, d), V (p_A, d) and H (n, d) in an epoch."""

    centre: Residues
    weight: Residues
    gap: Residues
    slope: Residues
    spread: Residues
    part: Residues

    @classmethod
    def draw(cls, sizes: Sizes) -> "ActiveMasks":
        """Fresh ones."""
        n, d = sizes.people, sizes.width
        shapes = ((d,), (n,), (n, d), (n, d), (sizes.active, d), (n, d))
        return cls(*(random_residues(shape) for shape in shapes))


@dataclass(frozen=True)
class PassiveMasks:
    """The passive party's masks of U^B (n, d), S^B (n, d), Q (p_B, d), its share of g (d), and K (n, d)."""

    hidden: Residues
    slope: Residues
    sums: Residues
    total: Residues
    part: Residues

    @classmethod
    def draw(cls, sizes: Sizes) -> "PassiveMasks":
        """Fresh ones."""
        n, d = sizes.people, sizes.width
        shapes = ((n, d), (n, d), (sizes.passive, d), (d,), (n, d))
        return cls(*(random_residues(shape) for shape in shapes))


@dataclass(frozen=True)
class _Job:
    """Products of encrypted operands and known factors: a result each, or one for their sum."""

    places: list[int]
    factors: list[Factor]
    summed: bool


class Preparation:
    """One party's side of making shares of products of masks.

    Args:
        task: this party's.
        peer: the other party.
        keys: this party's, one per prime.
        publics: the other's, one per prime.
        sizes: of what is masked.
        inputs: this party's mask of its own x, residues of shape (2, p, n), the same in every epoch.
    """

    def __init__(
        self,
        task: Task,
        peer: str,
        keys: list[LatticeKey],
        publics: list[LatticePublic],
        sizes: Sizes,
        inputs: Residues,
    ) -> None:
        self.task, self.peer, self.keys, self.publics, self.sizes = task, peer, keys, publics, sizes
        self._inputs = inputs
        self._kept: dict[int, list[list[Factor]]] = {}

    def active(self, epoch: int, masks: ActiveMasks) -> Shares:
        """The active party's shares for an epoch."""
        plain = [
            np.concatenate(
                [
                    _tiles(masks.centre[i]),
                    lattice.blocks(masks.gap[i]),
                    lattice.blocks(masks.spread[i]),
                    self._copies(masks.part[i], self.sizes.passive),
                ]
            )
            for i in range(2)
        ]
        sizes = self.sizes
        given = self._swap(epoch, plain, sizes.blocks(sizes.people) + self._copied(sizes.active))
        jobs = [self._active_jobs(i, masks) for i in range(2)]
        own, others = self._multiply(epoch, given, jobs, self.sizes.by_active, self.sizes.by_passive)
        return _shares(self.sizes, by_active=own, by_passive=others)

    def passive(self, epoch: int, masks: PassiveMasks) -> Shares:
        """The passive party's shares for an epoch."""
        blocks = self.sizes.blocks
        sizes = self.sizes
        plain = [
            np.concatenate([lattice.blocks(masks.hidden[i]), self._copies(masks.part[i], sizes.active)])
            for i in range(2)
        ]
        count = 1 + blocks(sizes.people) + blocks(sizes.active) + self._copied(sizes.passive)
        given = self._swap(epoch, plain, count)
        jobs = [self._passive_jobs(i, masks) for i in range(2)]
        own, others = self._multiply(epoch, given, jobs, self.sizes.by_passive, self.sizes.by_active)
        return _shares(self.sizes, by_active=others, by_passive=own)

    def _active_jobs(self, i: int, masks: ActiveMasks) -> list[_Job]:
        """Products with the passive party's masks of U and K."""
        blocks = self.sizes.blocks(self.sizes.people)
        hidden, part = list(range(blocks)), list(range(blocks, blocks + self._copied(self.sizes.active)))
        total = _Job(hidden, self._factors(i, _across(masks.weight[i], self.sizes.width)), summed=True)
        aligned = _Job(hidden, self._factors(i, masks.slope[i]), summed=False)
        return [total, aligned, *(_Job(part, factors, summed=True) for factors in self._of_inputs(i))]

    def _passive_jobs(self, i: int, masks: PassiveMasks) -> list[_Job]:
        """Products with the active party's masks of phi, C, V and H."""
        people, active = self.sizes.blocks(self.sizes.people), self.sizes.blocks(self.sizes.active)
        gap = list(range(1, 1 + people))
        spread = list(range(1 + people, 1 + people + active))
        part = list(range(1 + people + active, 1 + people + active + self._copied(self.sizes.passive)))
        sums = self._factors(i, masks.sums[i])
        total = [self.publics[i].factor(_tiles(masks.total[i])[0])] * active
        return [
            _Job([0] * people, self._factors(i, masks.hidden[i]), summed=False),
            _Job(gap, self._factors(i, masks.slope[i]), summed=False),
            _Job([0] * len(sums), sums, summed=False),
            _Job(spread, total, summed=False),
            *(_Job(part, factors, summed=True) for factors in self._of_inputs(i)),
        ]

    def _swap(self, epoch: int, plain: list[lattice.Slots], count: int) -> list[Operands]:
        """Send own masks encrypted, receive the other's."""
        topic = f"epoch/{epoch}/prepare/operands"
        sent = [key.encrypt(slots) for key, slots in zip(self.keys, plain, strict=True)]
        send(self.task, self.peer, topic, Ciphertexts(sent))
        items = self._received(topic)
        try:
            return [self.publics[i].operands(items[i], count) for i in range(2)]
        except CipherError as exc:
            raise ProtocolError(f"{self.peer!r} sent what cannot be read: {exc.message}", cure=exc.cure) from exc

    def _multiply(
        self,
        epoch: int,
        given: list[Operands],
        jobs: list[list[_Job]],
        mine: list[tuple[int, int]],
        others: list[tuple[int, int]],
    ) -> tuple[list[Residues], list[Residues]]:
        """Do the jobs and let the other do its own: this party's shares of both."""
        topic = f"epoch/{epoch}/prepare/products"
        sent: list[list[bytes]] = []
        kept: list[list[Matrix]] = []
        for i in range(2):
            results, masks = _run(self.publics[i], given[i], jobs[i])
            sent.append(results)
            kept.append(self._apart((PRIMES[i] - masks) % PRIMES[i], mine, PRIMES[i]))
        send(self.task, self.peer, topic, Ciphertexts(sent))
        items, count = self._received(topic), sum(_results(self.sizes, shape) for shape in others)
        try:
            came = [self._apart(self.keys[i].decrypt(items[i], count), others, PRIMES[i]) for i in range(2)]
        except CipherError as exc:
            raise ProtocolError(f"{self.peer!r} sent what cannot be read: {exc.message}", cure=exc.cure) from exc
        return [np.stack(pair) for pair in zip(*kept, strict=True)], [
            np.stack(pair) for pair in zip(*came, strict=True)
        ]

    def _received(self, topic: str) -> list[list[bytes]]:
        items = receive(self.task, self.peer, topic, Ciphertexts).items
        if len(items) != len(PRIMES):
            raise ProtocolError(f"{self.peer!r} sent ciphertexts for {len(items)} primes; {len(PRIMES)} were expected.")
        return items

    def _apart(self, slots: lattice.Slots, shapes: list[tuple[int, int]], prime: int) -> list[Matrix]:
        """Matrices of the shapes, or their rows' sums, from plaintexts one after the other."""
        matrices, start = [], 0
        for shape in shapes:
            end = start + _results(self.sizes, shape)
            (count, regions), part, width = shape, slots[start:end], self.sizes.width
            summed = lattice.folded(part, width, prime, regions)[0] if regions else None
            matrices.append(lattice.rows(part, count, width) if summed is None else summed)
            start = end
        return matrices

    def _copies(self, matrix: Matrix, inputs: int) -> lattice.Slots:
        """An n × d matrix as operands of sums over people, for so many inputs of the other."""
        return lattice.blocks(*[matrix] * self.sizes.regions(inputs))

    def _copied(self, inputs: int) -> int:
        """Plaintexts of that."""
        return lattice.block_count(self.sizes.people, self.sizes.width, self.sizes.regions(inputs))

    def _factors(self, i: int, matrix: Matrix) -> list[Factor]:
        return [self.publics[i].factor(slots) for slots in lattice.blocks(matrix)]

    def _of_inputs(self, i: int) -> list[list[Factor]]:
        """What multiplies an n × d matrix to sum it over people, for several inputs at once; kept if memory allows."""
        if i in self._kept:
            return self._kept[i]
        rows, width = self._inputs[i], self.sizes.width
        regions, factors = self.sizes.regions(len(rows)), []
        for start in range(0, len(rows), regions):
            group = [_across(row, width) for row in rows[start : start + regions]]
            group += [np.zeros_like(group[0])] * (regions - len(group))
            factors.append([self.publics[i].factor(slots) for slots in lattice.blocks(*group)])
        if len(factors) * len(factors[0]) <= KEPT_FACTORS:
            self._kept[i] = factors
        return factors


def _run(public: LatticePublic, given: Operands, jobs: list[_Job]) -> tuple[list[bytes], lattice.Slots]:
    """Results of jobs, one after the other, and the masks that were put on them."""
    terms: list[tuple[list[int], list[Factor]]] = []
    for job in jobs:
        if job.summed:
            terms.append((job.places, job.factors))
        else:
            terms += [([place], [factor]) for place, factor in zip(job.places, job.factors, strict=True)]
    masks = lattice.masks(public.prime, len(terms))
    return [public.sum_of_products(given, *term, mask) for term, mask in zip(terms, masks, strict=True)], masks


def _results(sizes: Sizes, shape: tuple[int, int]) -> int:
    count, regions = shape
    return 1 if regions else sizes.blocks(count)


def _shares(sizes: Sizes, by_active: list[Residues], by_passive: list[Residues]) -> Shares:
    total, aligned, *active_sums = by_active
    margin, damped, scaled, spreading, *passive_sums = by_passive
    primes = np.array(PRIMES).reshape(2, 1)
    return Shares(
        margin=margin.sum(axis=2) % primes,
        damped=damped,
        scaled=scaled,
        spreading=spreading,
        passive_sums=np.concatenate(passive_sums, axis=1)[:, : sizes.passive],
        total=total[:, 0],
        aligned=aligned,
        active_sums=np.concatenate(active_sums, axis=1)[:, : sizes.active],
    )


def _across(column: Matrix, width: int) -> Matrix:
    """Each number of a column `width` times side by side."""
    return np.repeat(column[:, None], width, axis=1)


def _tiles(row: Matrix) -> lattice.Slots:
    """One plaintext full of the same row."""
    return lattice.blocks(np.tile(row, (lattice.SLOTS // len(row), 1)))
