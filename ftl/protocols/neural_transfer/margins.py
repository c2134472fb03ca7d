"""Margins u^B · phi of people outside training, learned by the active party alone and without u^B leaving its owner.

The active party sends phi encrypted, once for all people; the passive party multiplies it by each person's u^B, puts a
uniform mask on every product, and tells each person's sum of masks: only the inner product comes out.
"""

import numpy as np
from numpy.typing import NDArray

from ftl.crypto import lattice
from ftl.crypto.lattice import LatticeKey, LatticePublic
from ftl.errors import CipherError, ProtocolError
from ftl.protocols.neural_transfer.messages import Ciphertexts, Margins, receive, require_residues, send
from ftl.protocols.recipe import Task

FRACTION = 17
"""Bits after the point of phi and of u; sums of 1,024 products below 1 then stay below 2^45."""


def ask(task: Task, peer: str, key: LatticeKey, centre: NDArray[np.float64], people: int) -> NDArray[np.float64]:
    """Active party: margins of the people the other is asked for, float64, shape (people,).

    Args:
        task: this party's.
        peer: the passive party.
        key: this party's.
        centre: phi, shape (d,).
        people: how many.
    """
    prime, width = key.prime, len(centre)
    row = np.rint(np.ldexp(centre, FRACTION)).astype(np.int64) % prime
    tiles = lattice.blocks(np.tile(row, (lattice.SLOTS // width, 1)))
    send(task, peer, "margins/operands", Ciphertexts([key.encrypt(tiles)]))
    answer = receive(task, peer, "margins/products", Margins)
    require_residues(peer, "margins/products", answer.masks, (people,), (prime,))
    try:
        slots = key.decrypt(answer.items, lattice.block_count(people, width))
    except CipherError as exc:
        raise ProtocolError(f"{peer!r} sent what cannot be read: {exc.message}", cure=exc.cure) from exc
    sums = (lattice.rows(slots, people, width).sum(axis=1) - answer.masks) % prime
    return np.asarray(np.ldexp((sums - prime * (sums > prime // 2)).astype(np.float64), -2 * FRACTION))


def answer(task: Task, public: LatticePublic, hidden: NDArray[np.float64]) -> None:
    """Passive party: let the active one learn the margins of people, and nothing else of them.

    Args:
        task: this party's.
        public: the active party's key.
        hidden: u^B, shape (people, d).
    """
    items = receive(task, task.active, "margins/operands", Ciphertexts).items
    try:
        operands = public.operands(items[0] if items else [], 1)
    except CipherError as exc:
        raise ProtocolError(f"{task.active!r} sent what cannot be read: {exc.message}", cure=exc.cure) from exc
    blocks = lattice.blocks(np.rint(np.ldexp(hidden, FRACTION)).astype(np.int64))
    masks = lattice.masks(public.prime, len(blocks))
    results = [
        public.sum_of_products(operands, [0], [public.factor(slots)], mask)
        for slots, mask in zip(blocks, masks, strict=True)
    ]
    taken = lattice.rows(masks, len(hidden), hidden.shape[1]).sum(axis=1) % public.prime
    send(task, task.active, "margins/products", Margins(results, taken))
