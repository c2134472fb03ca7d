"""Gradients on secret shares: four messages each way per epoch, each of numbers under uniform masks.

In the notation of :mod:`~ftl.protocols.neural_transfer.gradients`, all in shares of A and B and scaled by 4:
    W = U^B phi - 2 y (four times w)                 shares of n numbers
    C = W_A phi^T - 4 a U^A (A's own), Q = X^T (S^B * W_B) (B's own)
    4 dL/dW^B / alpha = phi * Q + X^T H,  H = S^B * C
    4 dL/dW^A / alpha = V * g - X^T K,    g = W^T U^B,  K = 4 a S^A * U^B
A product of what is A's and what is B's takes one opened message each way (:mod:`ftl.crypto.shares`); a share of a
product is again its holder's own number in the next. Nothing is rounded in between: the residues have 91 bits.
"""

import numpy as np

from ftl.crypto.lattice import LatticeKey, LatticePublic
from ftl.crypto.shares import (
    Residues,
    add,
    decode,
    encode,
    left_share,
    matmul,
    multiply,
    random_residues,
    right_share,
    shift,
    subtract,
)
from ftl.protocols.neural_transfer.gradients import ActiveTerms, Floats, PassiveTerms
from ftl.protocols.neural_transfer.messages import Opened, opened, send
from ftl.protocols.neural_transfer.noise import Noise
from ftl.protocols.neural_transfer.preparation import ActiveMasks, PassiveMasks, Preparation, Shares, Sizes
from ftl.protocols.recipe import Task

HIDDEN, CENTRE, SLOPE, INPUTS, SPREAD = 14, 18, 12, 12, 24
"""Bits after the point of U, phi, S^B, X and V."""

MARGIN = HIDDEN + CENTRE
GAP = MARGIN + CENTRE
TOTAL = MARGIN + HIDDEN
OF_PASSIVE = GAP + SLOPE + INPUTS
OF_ACTIVE = SPREAD + TOTAL
DAMPED = OF_ACTIVE - INPUTS - HIDDEN
"""Bits of W, C, g, the gradients of B and of A, and 4 a S^A, so that both terms of A's gradient have the same."""

NOISE = 30
"""Bits of the noise."""


class _Side:
    """What both sides do.

    Args:
        task: this party's.
        peer: the other party.
        keys: this party's, one per prime.
        publics: the other's.
        sizes: of the run.
        inputs: columns of this party's network.
        noise: added to what the other learns.
    """

    def __init__(
        self,
        task: Task,
        peer: str,
        keys: list[LatticeKey],
        publics: list[LatticePublic],
        sizes: Sizes,
        inputs: int,
        noise: Noise,
    ) -> None:
        self.task, self.peer, self.sizes, self.noise = task, peer, sizes, noise
        self.mask = random_residues((inputs, sizes.people))
        self.preparation = Preparation(task, peer, keys, publics, sizes, self.mask)
        self._inputs: tuple[Residues, Residues] | None = None

    def inputs(self, x: Floats) -> tuple[Residues, Residues]:
        """X^T of this party, and of the other less its mask; opened once a run, since they stay the same."""
        if self._inputs is None:
            own, others = encode(x.T, INPUTS), self.sizes.active + self.sizes.passive - x.shape[1]
            send(self.task, self.peer, "inputs", Opened([subtract(own, self.mask)]))
            (other,) = opened(self.task, self.peer, "inputs", [(others, self.sizes.people)])
            self._inputs = own, other
        return self._inputs

    def swap(self, epoch: int, number: int, mine: list[Residues], *shapes: tuple[int, ...]) -> list[Residues]:
        """Open numbers under masks, and receive the other's."""
        topic = f"epoch/{epoch}/opened/{number}"
        send(self.task, self.peer, topic, Opened(mine))
        return opened(self.task, self.peer, topic, list(shapes))

    def release(self, epoch: int, share: Residues, bits: int, *shape: int) -> Residues:
        """Give the other party this one's share of its gradient; returns the other's share of this one's."""
        if self.noise.deviation:
            share = add(share, shift(encode(4 * self.noise.draw(share.shape[1:]), NOISE), bits - NOISE))
        (other,) = self.swap(epoch, 4, [share], shape)
        return other


class SharedActive:
    """The active party's side; see :class:`~ftl.protocols.neural_transfer.gradients.ActiveExchange`.

    Args:
        task: this party's.
        peer: the other party.
        keys: this party's, one per prime.
        publics: the other's.
        sizes: of the run.
        noise: added to what the other learns.
    """

    def __init__(
        self,
        task: Task,
        peer: str,
        keys: list[LatticeKey],
        publics: list[LatticePublic],
        sizes: Sizes,
        noise: Noise,
    ) -> None:
        self._side = _Side(task, peer, keys, publics, sizes, sizes.active, noise)
        self._ready: dict[int, tuple[ActiveMasks, Shares]] = {}

    def prepare(self, epoch: int) -> None:
        """Make an epoch's masks ahead, both parties at once; without this :meth:`gradient` makes them."""
        masks = ActiveMasks.draw(self._side.sizes)
        self._ready[epoch] = masks, self._side.preparation.active(epoch, masks)

    def gradient(self, epoch: int, terms: ActiveTerms) -> Floats:
        """dL/dW^A / alpha."""
        if epoch not in self._ready:
            self.prepare(epoch)
        side, (r, z) = self._side, self._ready.pop(epoch)
        n, d, p = side.sizes.people, side.sizes.width, side.sizes.passive
        x, other_x = side.inputs(terms.x)
        phi, spread = encode(terms.centre, CENTRE), encode(terms.spread, SPREAD)
        slope = encode(4 * terms.alignment * terms.slope, DAMPED)
        opened_by_me = [subtract(phi, r.centre), subtract(slope, r.slope), subtract(spread, r.spread)]
        hidden, other_slope = side.swap(epoch, 1, opened_by_me, (n, d), (n, d))

        w = left_share(_margins, phi, hidden, z.margin)
        w = subtract(w, encode(2 * terms.sign, MARGIN))
        c = subtract(multiply(w[:, :, None], phi[:, None, :]), encode(4 * terms.alignment * terms.hidden, GAP))
        opened_by_me = [subtract(w, r.weight), subtract(c, r.gap)]
        other_q, other_k = side.swap(epoch, 2, opened_by_me, (p, d), (n, d))

        h = left_share(multiply, c, other_slope, z.damped)
        (other_g,) = side.swap(epoch, 3, [subtract(h, r.part)], (d,))

        g = left_share(_totals, w, hidden, z.total)
        k = left_share(multiply, slope, hidden, z.aligned)
        own = left_share(_scaled, spread, add(g, other_g), z.spreading)
        own = subtract(own, add(matmul(x, add(k, other_k)), z.active_sums))
        others = left_share(_rows_scaled, phi, other_q, z.scaled)
        others = add(others, right_share(matmul, other_x, h, z.passive_sums))
        result = add(own, side.release(epoch, others, OF_PASSIVE, side.sizes.active, d))
        return decode(result, OF_ACTIVE) / 4


class SharedPassive:
    """The passive party's side; arguments as of :class:`SharedActive`."""

    def __init__(
        self,
        task: Task,
        peer: str,
        keys: list[LatticeKey],
        publics: list[LatticePublic],
        sizes: Sizes,
        noise: Noise,
    ) -> None:
        self._side = _Side(task, peer, keys, publics, sizes, sizes.passive, noise)
        self._ready: dict[int, tuple[PassiveMasks, Shares]] = {}

    def prepare(self, epoch: int) -> None:
        """As :meth:`SharedActive.prepare`."""
        masks = PassiveMasks.draw(self._side.sizes)
        self._ready[epoch] = masks, self._side.preparation.passive(epoch, masks)

    def gradient(self, epoch: int, terms: PassiveTerms) -> Floats:
        """dL/dW^B / alpha."""
        if epoch not in self._ready:
            self.prepare(epoch)
        side, (s, z) = self._side, self._ready.pop(epoch)
        n, d, p = side.sizes.people, side.sizes.width, side.sizes.active
        x, other_x = side.inputs(terms.x)
        hidden, slope = encode(terms.hidden, HIDDEN), encode(terms.slope, SLOPE)
        opened_by_me = [subtract(hidden, s.hidden), subtract(slope, s.slope)]
        phi, other_slope, spread = side.swap(epoch, 1, opened_by_me, (d,), (n, d), (p, d))

        w = right_share(_margins, phi, s.hidden, z.margin)
        q = matmul(multiply(x, w[:, None, :]), slope)
        k = right_share(multiply, other_slope, s.hidden, z.aligned)
        other_w, other_c = side.swap(epoch, 2, [subtract(q, s.sums), subtract(k, s.part)], (n,), (n, d))

        g = add(right_share(_totals, other_w, s.hidden, z.total), _totals(w, hidden))
        (other_h,) = side.swap(epoch, 3, [subtract(g, s.total)], (n, d))

        h = right_share(multiply, other_c, s.slope, z.damped)
        own = right_share(_rows_scaled, phi, s.sums, z.scaled)
        own = add(own, add(matmul(x, h), add(matmul(self._side.mask, other_h), z.passive_sums)))
        others = right_share(_scaled, spread, s.total, z.spreading)
        others = subtract(others, right_share(matmul, other_x, s.part, z.active_sums))
        result = add(own, side.release(epoch, others, OF_ACTIVE, side.sizes.passive, d))
        return decode(result, OF_PASSIVE) / 4


def _margins(centre: Residues, hidden: Residues) -> Residues:
    """U phi, shape (2, n)."""
    return matmul(hidden, centre[:, :, None])[:, :, 0]


def _totals(weight: Residues, hidden: Residues) -> Residues:
    """W^T U, shape (2, d)."""
    return matmul(weight[:, None, :], hidden)[:, 0]


def _scaled(spread: Residues, total: Residues) -> Residues:
    """V * g, shape (2, p, d)."""
    return multiply(spread, np.broadcast_to(total[:, None, :], spread.shape))


def _rows_scaled(centre: Residues, sums: Residues) -> Residues:
    """Phi * Q, shape (2, p, d)."""
    return multiply(np.broadcast_to(centre[:, None, :], sums.shape), sums)
