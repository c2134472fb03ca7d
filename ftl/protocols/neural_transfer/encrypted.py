"""Gradients under encryption: each party multiplies what the other has encrypted by what it knows itself.

Both gradients are linear in what the *other* party knows: A's part of dL/dW^B is n × d numbers (y phi / 2 + a u^A) and
one d × d matrix (phi phi^T), B's part of dL/dW^A is u^B and the d × d matrix of their products. Each party sends its
n + d rows of d numbers encrypted, receives the other's, and returns for every weight the sum of products under a
uniform mask. The key holder decrypts, adds up within a plaintext and sends the sums back; then the mask is taken off.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ftl.crypto import lattice
from ftl.crypto.lattice import LatticeKey, LatticePublic
from ftl.errors import CipherError, ProtocolError
from ftl.protocols.neural_transfer.gradients import ActiveTerms, Floats, PassiveTerms
from ftl.protocols.neural_transfer.messages import Ciphertexts, Sums, receive, require_residues, send
from ftl.protocols.neural_transfer.noise import Noise
from ftl.protocols.recipe import Task

ACTIVE_FRACTION = 20
"""Bits after the point of what only the active party knows: it holds small numbers (a u^A)."""
PASSIVE_FRACTION = 12
"""Of what only the passive party knows; sums of products then have 32, and 13 bits before the point."""
FRACTION = ACTIVE_FRACTION + PASSIVE_FRACTION


@dataclass
class _Side:
    """One side of the exchange; both do the same with other matrices.

    Attributes:
        task: this party's.
        peer: the other party.
        key: this party's.
        public: the other's.
        inputs: columns of the other's network, with the constant.
        noise: added to what the other learns.
    """

    task: Task
    peer: str
    key: LatticeKey
    public: LatticePublic
    inputs: int
    noise: Noise

    def exchange(self, epoch: int, mine: Floats, fraction: int, coefficients: Iterator[Floats]) -> Floats:
        """Send `mine`, shape (rows, d), and learn per item of `coefficients`, shape (rows, d), a row of d sums."""
        task, topic, prime = self.task, f"epoch/{epoch}/%s", self.key.prime
        rows, width = mine.shape
        copies = lattice.best_regions(rows, width, self.inputs)
        slots = lattice.blocks(*[self._fixed(mine, fraction)] * copies)
        send(task, self.peer, topic % "operands", Ciphertexts([self.key.encrypt(slots)]))
        matrices = [self._fixed(matrix, fraction) for matrix in coefficients]
        results, masks = self._multiply(topic, matrices)
        send(task, self.peer, topic % "products", Ciphertexts([results]))
        self._decrypt(topic, copies, width)
        sums = receive(task, self.peer, topic % "sums", Sums).values
        require_residues(self.peer, topic % "sums", sums, masks.shape, (prime,))
        residues = (sums - masks) % prime
        centred = residues - prime * (residues > prime // 2)
        if (np.abs(centred) > prime // 4).any():
            raise CipherError(
                "A gradient left the range of its fixed point.",
                cure="Standardise the columns, or choose a narrower network.",
            )
        return np.asarray(np.ldexp(centred.astype(np.float64), -FRACTION))

    def _fixed(self, values: Floats, fraction: int) -> lattice.Slots:
        return np.asarray(np.rint(np.ldexp(values, fraction)).astype(np.int64) % self.key.prime)

    def _multiply(self, topic: str, matrices: list[lattice.Slots]) -> tuple[list[bytes], lattice.Slots]:
        """Masked sums of the other's operands times each of the matrices, several in one result, and their masks."""
        (rows, width), prime = matrices[0].shape, self.key.prime
        regions = lattice.best_regions(rows, width, len(matrices))
        items = receive(self.task, self.peer, topic % "operands", Ciphertexts).items
        count = lattice.block_count(rows, width, regions)
        try:
            operands = self.public.operands(items[0] if items else [], count)
        except CipherError as exc:
            raise ProtocolError(f"{self.peer!r} sent what cannot be read: {exc.message}", cure=exc.cure) from exc
        groups = [matrices[start : start + regions] for start in range(0, len(matrices), regions)]
        groups[-1] += [np.zeros_like(matrices[0])] * (regions - len(groups[-1]))
        masks, results = lattice.masks(prime, len(groups)), []
        for group, mask in zip(groups, masks, strict=True):
            factors = [self.public.factor(slots) for slots in lattice.blocks(*group)]
            results.append(self.public.sum_of_products(operands, range(count), factors, mask))
        return results, lattice.folded(masks, width, prime, regions).reshape(-1, width)[: len(matrices)]

    def _decrypt(self, topic: str, regions: int, width: int) -> None:
        """Answer the other's results: sums within a plaintext, which it alone can take the mask off."""
        items = receive(self.task, self.peer, topic % "products", Ciphertexts).items
        try:
            slots = self.key.decrypt(items[0] if items else [], -(-self.inputs // regions))
        except CipherError as exc:
            raise ProtocolError(f"{self.peer!r} sent what cannot be read: {exc.message}", cure=exc.cure) from exc
        sums = lattice.folded(slots, width, self.key.prime, regions).reshape(-1, width)[: self.inputs]
        noise = np.rint(np.ldexp(self.noise.draw(sums.shape), FRACTION)).astype(np.int64)
        send(self.task, self.peer, topic % "sums", Sums((sums + noise) % self.key.prime))


class EncryptedActive:
    """The active party's side; see :class:`~ftl.protocols.neural_transfer.gradients.ActiveExchange`."""

    def __init__(
        self, task: Task, peer: str, key: LatticeKey, public: LatticePublic, inputs: int, noise: Noise
    ) -> None:
        self._side = _Side(task, peer, key, public, inputs, noise)

    def gradient(self, epoch: int, terms: ActiveTerms) -> Floats:
        """dL/dW^A / alpha."""
        own = np.outer(terms.sign, terms.centre) / 2 + terms.alignment * terms.hidden
        mine = np.concatenate([own, np.outer(terms.centre, terms.centre)])
        return self._side.exchange(epoch, mine, ACTIVE_FRACTION, _of_active(terms))


class EncryptedPassive:
    """The passive party's side; see :class:`~ftl.protocols.neural_transfer.gradients.PassiveExchange`."""

    def __init__(
        self, task: Task, peer: str, key: LatticeKey, public: LatticePublic, inputs: int, noise: Noise
    ) -> None:
        self._side = _Side(task, peer, key, public, inputs, noise)

    def gradient(self, epoch: int, terms: PassiveTerms) -> Floats:
        """dL/dW^B / alpha."""
        mine = np.concatenate([terms.hidden, terms.hidden.T @ terms.hidden])
        return self._side.exchange(epoch, mine, PASSIVE_FRACTION, _of_passive(terms))


def _of_active(terms: ActiveTerms) -> Iterator[Floats]:
    """Per input k what u^B and their products are multiplied by in row k of dL/dW^A."""
    for k in range(terms.x.shape[1]):
        task = -0.5 * np.outer(terms.sign, terms.spread[k])
        align = -terms.alignment * terms.x[:, [k]] * terms.slope
        yield np.concatenate([task + align, 0.25 * np.outer(terms.centre, terms.spread[k])])


def _of_passive(terms: PassiveTerms) -> Iterator[Floats]:
    """Per input k what y phi / 2 + a u^A and phi phi^T are multiplied by in row k of dL/dW^B."""
    for k in range(terms.x.shape[1]):
        weighted = terms.x[:, [k]] * terms.slope
        yield np.concatenate([-weighted, 0.25 * terms.hidden.T @ weighted])
