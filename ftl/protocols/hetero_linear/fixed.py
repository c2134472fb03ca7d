"""Fixed-point numbers modulo a prime of 46 bits, how they lie in plaintexts, and how many bits there are to spend."""

import math

import numpy as np
from numpy.typing import NDArray

from ftl.crypto import lattice, shares
from ftl.protocols.hetero_linear.messages import MODULUS

Floats = NDArray[np.float64]
Residues = NDArray[np.int64]
"""int64, integers modulo MODULUS; here without an axis for primes, since there is only one."""

WIDE = 3
"""Columns whose inner products with one vector share a plaintext."""
_EXACT, _LIMB = 53, 16
_LEAST_SPREAD = 1e-9
_MOST = math.log2(MODULUS / 2)
"""Bits of a number, without its sign."""


def bits_left(people: int, size: float) -> int:
    """Bits after the point of a sum over people of products whose mean is at most `size`."""
    return math.floor(_MOST - math.log2(people * size))


def orthonormal(columns: Floats) -> Floats:
    """Matrix T, shape (p, p), such that columns @ T have mean squares 1 and mean products 0.

    Rounding of columns that nearly determine each other would be felt by their variance inflation; of these it is not.
    """
    values, vectors = np.linalg.eigh(columns.T @ columns / len(columns))
    return np.asarray(vectors / np.sqrt(np.maximum(values, _LEAST_SPREAD * values.max(initial=0.0))))


def rounded(values: Floats, bits: int, random: np.random.Generator) -> Residues:
    """Real numbers as residues, rounded up or down at random so that the mean is exact.

    Rounding to the nearest would give all people with the same value the same error, which does not average out.
    """
    return np.asarray(np.floor(np.ldexp(values, bits) + random.random(values.shape)).astype(np.int64) % MODULUS)


def real(residues: Residues, bits: int) -> Floats:
    """Back to real numbers."""
    centred = residues - MODULUS * (residues > MODULUS // 2)
    return np.asarray(np.ldexp(centred.astype(np.float64), -bits))


def inner_products(left: Residues, right: Residues) -> Residues:
    """left.T @ right modulo MODULUS for shapes (n, c) and (n, d)."""
    centred = left - MODULUS * (left > MODULUS // 2)
    total = np.zeros((left.shape[1], right.shape[1]), dtype=np.int64)
    # Columns are short numbers, so that products with limbs of 16 bits add up to less than 2^53: exact in float64.
    widest = int(np.abs(centred).max(initial=1))
    rows = (1 << (_EXACT - _LIMB)) // widest
    for start in range(0, len(right), max(rows, 1)):
        part, columns = right[start : start + rows], centred[start : start + rows].astype(np.float64)
        for limb in range(-(-shares.PRIME_BITS // _LIMB)):
            low = (part >> (_LIMB * limb) & ((1 << _LIMB) - 1)).astype(np.float64)
            sums = (columns.T @ low).astype(np.int64) % MODULUS
            total = (total + multiplied(sums, np.array(1 << (_LIMB * limb)))) % MODULUS
    return total


def multiplied(left: Residues, right: Residues) -> Residues:
    """Left × right, element by element; shapes broadcast."""
    pair = [np.stack([part, np.zeros_like(part)]) for part in np.broadcast_arrays(left, right)]
    return np.asarray(shares.multiply(pair[0], pair[1])[0])


class Layout:
    """How d vectors of n people lie in plaintexts such that `WIDE` or fewer columns are multiplied with all at once.

    Args:
        people: n.
        vectors: d.
    """

    def __init__(self, people: int, vectors: int) -> None:
        self.people, self.vectors = people, vectors
        self.columns = max(WIDE // vectors, 1)
        self.width = self.columns * vectors
        self.plaintexts = lattice.block_count(people, self.width)

    def of_vectors(self, vectors: Residues) -> lattice.Slots:
        """Plaintexts of the vectors, shape (n, d)."""
        return lattice.blocks(np.tile(vectors, (1, self.columns)))

    def groups(self, columns: int) -> int:
        """Results for so many columns."""
        return -(-columns // self.columns)

    def of_columns(self, columns: Residues, group: int) -> lattice.Slots:
        """Plaintexts of a group of columns, shape (n, c)."""
        part = columns[:, group * self.columns : (group + 1) * self.columns]
        padded = np.pad(part, ((0, 0), (0, self.columns - part.shape[1])))
        return lattice.blocks(np.repeat(padded, self.vectors, axis=1))

    def summed(self, slots: lattice.Slots) -> Residues:
        """Per plaintext the sums over all people, int64, shape (groups, width)."""
        return lattice.folded(slots, self.width, MODULUS).reshape(len(slots), self.width)

    def unfolded(self, sums: Residues, columns: int) -> Residues:
        """Sums of the groups, shape (groups, width), as (c, d)."""
        return sums.reshape(-1, self.vectors)[:columns]
