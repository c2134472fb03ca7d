"""Gradient, hessian and a count of one in a single plaintext, such that sums over rows never run into each other."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftl.errors import CipherError

Plaintexts = NDArray[np.object_]
"""Python integers, shape (n,), not negative."""


@dataclass(frozen=True)
class Sums:
    """Exact sums over the rows of m buckets, in fixed point; see :meth:`Packing.real`."""

    gradient: NDArray[np.int64]
    hessian: NDArray[np.int64]
    count: NDArray[np.int64]


@dataclass(frozen=True)
class Packing:
    """Fixed-point layout ``gradient | hessian | count``, from the highest bits down, for sums over at most `rows` rows.

    A gradient g is held as round(g × 2^fraction) plus a bias that makes it non-negative; the count of a sum tells how
    many biases to take off again. Every field is as wide as `rows` times its largest value needs.

    Attributes:
        rows: most rows that one sum may hold.
        gradient: largest absolute gradient; 1 for the logistic loss.
        hessian: largest hessian, none is negative; 1/4 for the logistic loss.
        fraction: bits after the binary point. 24 round a row's gradient by at most 2^-25 = 3e-8.

    Raises:
        CipherError: a bound makes no sense, or a sum would not fit into int64.
    """

    rows: int
    gradient: float = 1.0
    hessian: float = 0.25
    fraction: int = 24

    def __post_init__(self) -> None:
        limits = (self.gradient, self.hessian)
        if self.rows < 1 or not 1 <= self.fraction <= 52 or not all(0 < limit < 2**32 for limit in limits):
            raise CipherError(
                f"Impossible packing: {self.rows} rows, gradient up to {self.gradient}, hessian up to {self.hessian}, "
                f"{self.fraction} fraction bits.",
                cure="Give at least one row, positive limits and 1 to 52 fraction bits.",
            )
        if max(self.gradient_bits, self.hessian_bits, self.count_bits) > 62:
            raise CipherError(
                f"Sums of {self.rows} rows with {self.fraction} fraction bits do not fit into 62 bits.",
                cure="Use fewer fraction bits.",
            )

    @property
    def bias(self) -> int:
        """Added to every row's fixed-point gradient."""
        return self._fixed_limit(self.gradient)

    @property
    def gradient_bits(self) -> int:
        """Width of the gradient's field."""
        return (2 * self.bias * self.rows).bit_length()

    @property
    def hessian_bits(self) -> int:
        """Width of the hessian's field."""
        return (self._fixed_limit(self.hessian) * self.rows).bit_length()

    @property
    def count_bits(self) -> int:
        """Width of the count's field."""
        return self.rows.bit_length()

    @property
    def bits(self) -> int:
        """Width of a packed sum."""
        return self.gradient_bits + self.hessian_bits + self.count_bits

    def fixed(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """`values` × 2^fraction, rounded to the nearest; the same shape."""
        return np.rint(np.ldexp(values, self.fraction)).astype(np.int64)

    def real(self, sums: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sums of :meth:`fixed` values as real numbers; the same shape."""
        return np.ldexp(sums.astype(np.float64), -self.fraction)

    def pack(self, gradient: NDArray[np.float64], hessian: NDArray[np.float64]) -> Plaintexts:
        """One plaintext per row.

        Args:
            gradient: float64, shape (n,).
            hessian: float64, shape (n,).

        Raises:
            CipherError: more than `rows` rows, or a value beyond its limit or not finite.
        """
        if gradient.ndim != 1 or gradient.shape != hessian.shape or len(gradient) > self.rows:
            raise CipherError(
                f"Cannot pack gradients of shape {gradient.shape} and hessians of {hessian.shape} for {self.rows} rows."
            )
        inside = (np.abs(gradient) <= self.gradient) & (hessian >= 0) & (hessian <= self.hessian)
        if not inside.all():
            raise CipherError(
                f"{int((~inside).sum())} of {len(gradient)} rows have a gradient beyond ±{self.gradient}, a hessian "
                f"outside 0 to {self.hessian}, or one that is not a number.",
                cure="See that labels and sample weights are in the range that the loss was packed for.",
            )
        high = (self.fixed(gradient) + self.bias).astype(object) << (self.hessian_bits + self.count_bits)
        low = (self.fixed(hessian).astype(object) << self.count_bits) + 1
        packed: Plaintexts = high + low
        return packed

    def unpack(self, sums: NDArray[Any]) -> Sums:
        """Sums of packed rows, taken apart.

        Args:
            sums: Python integers, shape (m,); 0 is the sum of no rows.

        Raises:
            CipherError: a number cannot be a sum of at most `rows` packed rows.
        """
        whole = np.asarray(sums, dtype=object)
        if len(whole) and not (min(whole) >= 0 and max(whole) < 1 << self.bits):
            raise CipherError(f"A decrypted sum does not fit into the {self.bits} bits of its packing.")
        count = _field(whole, 0, self.count_bits)
        hessian = _field(whole, self.count_bits, self.hessian_bits)
        biased = _field(whole, self.count_bits + self.hessian_bits, self.gradient_bits)
        possible = (count <= self.rows) & (hessian <= count * self._fixed_limit(self.hessian))
        if not (possible & (biased <= 2 * count * self.bias)).all():
            raise CipherError(f"A decrypted number is not a sum of at most {self.rows} packed rows.")
        return Sums(biased - count * self.bias, hessian, count)

    def _fixed_limit(self, limit: float) -> int:
        return round(limit * float(1 << self.fraction))


def _field(whole: NDArray[Any], shift: int, bits: int) -> NDArray[np.int64]:
    return ((whole >> shift) & ((1 << bits) - 1)).astype(np.int64)
