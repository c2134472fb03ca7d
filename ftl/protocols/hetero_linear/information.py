"""Standard errors from the information matrix of all parties' columns, which nobody sees in the columns' own terms.

Every party learns its own block H_kk = X_k' W X_k, makes its columns orthonormal in it and turns them by a random
rotation O_k that it keeps to itself. What is opened to all are the moments between these turned columns,
Z_jk = O_j' L_j^-1 H_jk L_k^-T O_k: of what is common to two parties' columns they tell how strong it is (the canonical
correlations), and each party how it lies in its *own* columns, which its standard errors need; not how it lies in the
other's. With M the matrix of the Z_jk and 1 on the diagonal, the covariance of party k's coefficients is
L_k^-T O_k (M^-1)_kk O_k' L_k^-1, in which the others' rotations cancel.

The weights W are shared between the active party and the second. A passive party's weighted columns become shares first
(product of encrypted weights with its own columns under uniform masks), then inner products with the others' columns.
"""

import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftl.crypto import lattice
from ftl.errors import ProtocolError
from ftl.protocols.hetero_linear.exchange import Columns, Exchange
from ftl.protocols.hetero_linear.fixed import Floats, Layout, Residues, multiplied, orthonormal, real, rounded
from ftl.protocols.hetero_linear.messages import MODULUS, Ciphertexts, Free, Matrix, receive, require_shape, send

TOPIC = "information"
LARGEST_MOMENT = 1.05
"""Of two parties' turned columns; correlations are at most 1, up to rounding."""
LEAST_LEFT = 1e-4
"""Share of a direction that other parties' columns must leave unexplained."""


@dataclass(frozen=True)
class Weights:
    """What this party holds of everybody's weight in the information matrix.

    Attributes:
        held: int64, shape (n,): its summand; None if it holds none.
        holders: who holds summands.
        bits: after the point.
    """

    held: Residues | None
    holders: list[str]
    bits: int


def tell_free(exchange: Exchange, free: NDArray[np.bool_], along: float) -> dict[str, Free]:
    """Everybody tells how many of its coefficients move; party to what it said, in the common order."""
    mine = Free(int(free.sum()), along)
    for party in exchange.others:
        send(exchange.task, party, f"{TOPIC}/free", mine)
    said = {
        party: mine if party == exchange.me else receive(exchange.task, party, f"{TOPIC}/free", Free)
        for party in exchange.parties
    }
    for party, one in said.items():
        if not 0 <= one.columns <= exchange.columns[party] or not np.isfinite(one.along):
            raise ProtocolError(f"{party!r} has {exchange.columns[party]} columns, of which {one.columns} move.")
    return said


def covariance(
    exchange: Exchange,
    columns: Floats,
    penalty: Floats,
    weights: Weights,
    free: list[int],
    random: np.random.Generator,
) -> Floats | None:
    """Inverse of the information matrix (and penalty) over all parties, its own block, shape (p, p).

    Args:
        exchange: of the run.
        columns: float64, shape (n, p): own columns whose coefficients move.
        penalty: float64, shape (p,): l2 of each.
        weights: shares of everybody's weight.
        free: number of such columns of each party, in the common order.
        random: of rounding.

    Returns:
        None where columns of different parties determine each other.
    """
    basis = orthonormal(columns)
    root = _root(exchange, columns @ basis, basis.T @ np.diag(penalty) @ basis, weights, free, random)
    back = basis @ np.linalg.inv(root).T @ _rotation(columns.shape[1])  # L^-T O
    turned = columns @ back
    moments = _moments(exchange, turned, weights, free, random)
    if np.linalg.eigvalsh(moments)[0] < LEAST_LEFT:
        return None
    place = exchange.parties.index(exchange.me)
    start = sum(free[:place])
    own = slice(start, start + free[place])
    return np.asarray(back @ np.linalg.inv(moments)[own, own] @ back.T)


def _root(
    exchange: Exchange,
    columns: Floats,
    penalty: Floats,
    weights: Weights,
    free: list[int],
    random: np.random.Generator,
) -> Floats:
    """A square root L (L L' is the matrix) of the own block of the mean information matrix, penalty included."""
    plan, width = exchange.plan, columns.shape[1]
    left, right = np.triu_indices(width)
    bits = plan.moment_bits - weights.bits
    pairs = rounded(columns[:, left] * columns[:, right], bits, random)
    wanted = Columns(pairs, Layout(plan.people, 1)) if width else None
    held = None if weights.held is None else weights.held[:, None]
    sums = exchange.inner(f"{TOPIC}/own", held, weights.holders, 1, wanted, [c * (c + 1) // 2 for c in free])
    matrix = np.zeros((width, width))
    if sums is not None:
        matrix[left, right] = matrix[right, left] = real(sums[:, 0], weights.bits + bits) / plan.people
    values, vectors = np.linalg.eigh(matrix + penalty)
    floor = LEAST_LEFT**2 * max(float(values.max(initial=0.0)), 1e-300)  # rounding may take a small one below 0
    return np.asarray(vectors * np.sqrt(np.maximum(values, floor)))


def _moments(
    exchange: Exchange, turned: Floats, weights: Weights, free: list[int], random: np.random.Generator
) -> Floats:
    """M, shape (all, all): 1 on the diagonal, moments of different parties' turned columns elsewhere."""
    plan, parties = exchange.plan, exchange.parties
    bits = (plan.moment_bits - weights.bits) // 2
    fixed = rounded(turned, bits, random)
    count, starts = dict(zip(parties, free, strict=True)), np.cumsum([0, *free])
    at = {party: slice(starts[i], starts[i + 1]) for i, party in enumerate(parties)}
    moments = np.eye(starts[-1])
    order = [*parties[1:], parties[0]]
    for place, owner in enumerate(order[:-1]):
        asking = [party for party in order[place + 1 :] if count[party]]
        if not count[owner] or not asking:
            continue
        topic = f"{TOPIC}/{owner}"
        held = _weighted(exchange, topic, owner, fixed, weights, count[owner])
        layout = Layout(plan.people, count[owner])
        wanted = Columns(fixed, layout) if exchange.me in asking else None
        holders = list(dict.fromkeys([*weights.holders, owner]))
        width = [count[party] if party in asking else 0 for party in parties]
        sums = exchange.inner(topic, held, holders, count[owner], wanted, width)
        if sums is not None:
            found = real(sums, weights.bits + 2 * bits) / plan.people
            moments[at[exchange.me], at[owner]] = found
            for party in exchange.others:
                send(exchange.task, party, f"{topic}/moments", Matrix(found))
        for party in asking:
            if party != exchange.me:
                moments[at[party], at[owner]] = _received(
                    exchange, party, f"{topic}/moments", count[party], count[owner]
                )
        for party in asking:
            moments[at[owner], at[party]] = moments[at[party], at[owner]].T
    return moments


def _received(exchange: Exchange, party: str, topic: str, rows: int, width: int) -> Floats:
    values = receive(exchange.task, party, topic, Matrix).values
    require_shape(party, topic, values, (rows, width))
    if np.abs(values).max() > LARGEST_MOMENT:
        raise ProtocolError(f"{party!r} sent under {topic!r} correlations beyond 1.")
    return values


def _weighted(
    exchange: Exchange, topic: str, owner: str, fixed: Residues, weights: Weights, width: int
) -> Residues | None:
    """This party's summand of W times the owner's turned columns, shape (n, width); None if it holds none."""
    people, blocks = exchange.plan.people, lattice.block_count(exchange.plan.people, width)
    task = exchange.task
    if exchange.me != owner:
        if weights.held is None:
            return None
        slots = lattice.blocks(np.repeat(weights.held[:, None], width, axis=1))
        send(task, owner, f"{topic}/weights", Ciphertexts(exchange.encrypted(slots)))
        items = receive(task, owner, f"{topic}/weighted", Ciphertexts).items
        return lattice.rows(exchange.decrypted(owner, items, blocks), people, width)
    total = np.zeros((people, width), dtype=np.int64)
    if weights.held is not None:
        total = multiplied(weights.held[:, None], fixed)
    for holder in weights.holders:
        if holder == owner:
            continue
        items = receive(task, holder, f"{topic}/weights", Ciphertexts).items
        operands = exchange.operands(holder, items, blocks)
        factors = [exchange.publics[holder].factor(slots) for slots in lattice.blocks(fixed)]
        masks = lattice.masks(MODULUS, blocks)
        send(task, holder, f"{topic}/weighted", Ciphertexts(exchange.combined(holder, operands, factors, masks)))
        total = (total + MODULUS - lattice.rows(masks, people, width)) % MODULUS
    return total


def _rotation(width: int) -> Floats:
    """Uniform among orthogonal matrices, from the operating system's randomness (Mezzadri 2007)."""
    random = np.random.default_rng(secrets.randbits(128))
    q, r = np.linalg.qr(random.normal(size=(width, width)))
    return np.asarray(q * np.sign(np.diag(r)))
