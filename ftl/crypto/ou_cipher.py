"""Okamoto–Uchiyama in GMP's numbers, laid out for encrypted histograms.

What it is believed to be worth, and what n, p, q, t, g and h are, stands in :mod:`ftl.crypto.ou_key`. A ciphertext of m
is c = g^m h^r mod n. Three things make it fast:

*The key holder encrypts modulo p² and q apart.* Modulo p² only h's 224 bits are needed: h^r is a product of entries of
a table. And g^m is one multiplication: c^t is what decryption reads, and (1 + κ m p)^t = g^(t m) mod p² for a constant
κ that follows from the key. Modulo q, where the plaintext leaves no trace, c is drawn evenly, which is what h^r is for
the r of the original scheme.

*Randomness ahead.* h^r knows no plaintext, so it is drawn beforehand: by another core, or while the key holder waits
for others (:mod:`ftl.crypto.ahead`).

*Columns together.* Rows are first multiplied by the cells that several columns form together, then the few cells by
each column's buckets. Two columns of 32 buckets cost little more than one.

Nothing here takes constant time: whoever can measure the processor at work must be kept away from it.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from ftl.crypto.ahead import Ahead
from ftl.crypto.cipher import Ciphertexts, check_buckets, expand, slots
from ftl.crypto.drawing import EXPONENT_BITS, Drawing, random_powers, table
from ftl.crypto.groups import column_groups
from ftl.crypto.ou_key import LEAST_BITS, MOST_BITS, OuKey, capacity, read_public
from ftl.crypto.packing import Plaintexts
from ftl.errors import CipherError

PUBLIC_WINDOW = 8
"""Bits of an exponent that one entry of a public key's table stands for; the key holder's is larger."""


@dataclass(frozen=True)
class OuScheme:
    """Where these ciphers come from.

    Attributes:
        bits: length of the modulus, 2048 to 8192.

    Raises:
        CipherError: a modulus too short to be safe.
    """

    bits: int = 2048

    def __post_init__(self) -> None:
        if not LEAST_BITS <= self.bits <= MOST_BITS:
            raise CipherError(f"A modulus of {self.bits} bits.", cure=f"Use {LEAST_BITS} to {MOST_BITS} bits.")

    def generate(self) -> "OuSecretCipher":
        """A fresh key pair; some 0.2 s for 2048 bits."""
        return OuSecretCipher(OuKey.draw(self.bits))

    def load_public(self, public: bytes) -> "OuPublicCipher":
        """The cipher of a public key that a peer sent.

        Raises:
            CipherError: it is no public key of this scheme, or a shorter one.
        """
        read_public(public, self.bits)
        return OuPublicCipher(public)


class OuPublicCipher:
    """What everybody may do with a public key; see :class:`~ftl.crypto.PublicCipher`.

    Args:
        public: the key.
    """

    def __init__(self, public: bytes) -> None:
        self._public = public
        self._n, self._g, self._h = read_public(public, LEAST_BITS)
        self._capacity = capacity(self._n)
        self._width = (self._n.bit_length() + 7) // 8
        self._powers: list[list[mpz]] = []

    @property
    def capacity(self) -> int:
        """Bits of a plaintext; 682 of 2048."""
        return self._capacity

    def public(self) -> bytes:
        """The public key, to be sent to those who add."""
        return self._public

    def encrypt(self, plaintexts: Plaintexts) -> Ciphertexts:
        """Encrypt; see the seam."""
        values = self._checked(plaintexts)
        powers = gmpy2.powmod_exp_list(self._g, values, self._n)
        return self._times(powers, self._zeros(len(values)))

    def bucket_sums(
        self,
        ciphertexts: Ciphertexts,
        masks: Sequence[NDArray[np.bool_]],
        bins: NDArray[np.int8],
        buckets: Sequence[int],
    ) -> list[Ciphertexts]:
        """Sum by feature and bucket; see the seam. Takes some 1 µs for each row of a mask and feature."""
        check_buckets(len(ciphertexts), masks, bins, buckets)
        return [self._masked_sums(ciphertexts.values, np.flatnonzero(mask), bins, buckets) for mask in masks]

    def add(self, left: Ciphertexts, right: Ciphertexts) -> Ciphertexts:
        """Left + right; see the seam."""
        _require_same_length(left, right)
        return self._times(left.values, right.values)

    def subtract(self, left: Ciphertexts, right: Ciphertexts) -> Ciphertexts:
        """Left - right; see the seam."""
        _require_same_length(left, right)
        return self._times(left.values, [gmpy2.invert(value, self._n) for value in right.values])

    def take(self, ciphertexts: Ciphertexts, places: NDArray[np.int64]) -> Ciphertexts:
        """Those at `places`; see the seam."""
        if not len(places) or places.min() < 0 or places.max() >= len(ciphertexts):
            raise CipherError(f"{len(places)} places, not all of them among {len(ciphertexts)} ciphertexts.")
        return Ciphertexts([ciphertexts.values[place] for place in places.tolist()], len(places))

    def refresh(self, ciphertexts: Ciphertexts) -> Ciphertexts:
        """Fresh randomness; see the seam."""
        return self._times(ciphertexts.values, self._zeros(len(ciphertexts)))

    def compress(self, ciphertexts: Ciphertexts, bits: int) -> Ciphertexts:
        """Several plaintexts in each ciphertext; see the seam.

        By Horner's rule over the slots: shift by `bits`, add the next slot's ciphertexts. Shifting takes about 1 µs for
        each bit and ciphertext; what it saves in refreshing and decryption is more, and many bytes.
        """
        length = len(ciphertexts)
        groups = -(-length // slots(self.capacity, bits))
        last = (-(-length // groups) - 1) * groups
        packed = [*ciphertexts.values[last:], *[mpz(1)] * (groups - (length - last))]
        for start in range(last - groups, -1, -groups):
            shifted = gmpy2.powmod_base_list(packed, mpz(1) << bits, self._n)
            packed = self._times(shifted, ciphertexts.values[start : start + groups]).values
        return self.refresh(Ciphertexts(packed, groups))

    def dump(self, ciphertexts: Ciphertexts) -> bytes:
        """As bytes, some 257 each."""
        return b"".join([value.to_bytes(self._width, "big") for value in ciphertexts.values])

    def load(self, data: bytes, length: int) -> Ciphertexts:
        """Ciphertexts that a peer sent; see the seam."""
        width = self._width
        if len(data) != length * width:
            raise CipherError(
                f"These {len(data)} bytes are no ciphertexts: {length} of {width} bytes each were due.",
                cure="See that both parties run the same version and key.",
            )
        values = [mpz.from_bytes(data[at : at + width], "big") for at in range(0, len(data), width)]
        if values and not (min(values) > 0 and max(values) < self._n):
            raise CipherError(f"These {len(data)} bytes are no ciphertexts of this key.")
        return Ciphertexts(values, length)

    def _checked(self, plaintexts: Plaintexts) -> list[int]:
        values = [int(value) for value in plaintexts]
        if not values or min(values) < 0 or max(values) >> self.capacity:
            raise CipherError(f"{len(values)} plaintexts, not all of them from 0 to 2^{self.capacity} - 1.")
        return values

    def _masked_sums(
        self, values: list[mpz], rows: NDArray[np.int64], bins: NDArray[np.int8], buckets: Sequence[int]
    ) -> Ciphertexts:
        starts = np.cumsum([0, *buckets]).tolist()
        sums = [mpz(1)] * starts[-1]
        taken = [values[row] for row in rows.tolist()]
        for group in column_groups(len(rows), buckets) if taken else ():
            codes = bins[rows][:, group].astype(np.int64)
            cells, place = np.unique(codes @ _strides([buckets[column] for column in group]), return_inverse=True)
            products = _products(taken, place.tolist(), len(cells), self._n)
            first = np.empty(len(cells), dtype=np.int64)
            first[place] = np.arange(len(rows))
            for column, of_cell in zip(group, codes[first].T, strict=True):
                by_bucket = _products(products, of_cell.tolist(), buckets[column], self._n)
                sums[starts[column] : starts[column + 1]] = by_bucket
        return Ciphertexts(sums, len(sums))

    def _zeros(self, count: int) -> list[mpz]:
        """Encryptions of 0: h^r, by a table of h's powers."""
        if not self._powers:
            self._powers = table(self._h, self._n, PUBLIC_WINDOW, EXPONENT_BITS)
        return random_powers(self._powers, PUBLIC_WINDOW, self._n, count)

    def _times(self, left: Sequence[mpz], right: Sequence[mpz]) -> Ciphertexts:
        n = self._n
        return Ciphertexts([a * b % n for a, b in zip(left, right, strict=True)], len(left))


class OuSecretCipher(OuPublicCipher):
    """What the key holder may do; see :class:`~ftl.crypto.SecretCipher`.

    Args:
        key: the pair.
    """

    def __init__(self, key: OuKey) -> None:
        super().__init__(key.public())
        p, q, t = key.p, key.q, key.t
        self._p, self._q, self._t, self._square = p, q, t, p * p
        slope = (gmpy2.powmod(self._g, t, self._square) - 1) // p
        self._inverse_slope = gmpy2.invert(slope, p)
        kappa = slope * gmpy2.invert(t, p) % p
        self._ahead = Ahead(Drawing(p, q, self._h % self._square, kappa * gmpy2.invert(q, p) % p))

    def encrypt(self, plaintexts: Plaintexts) -> Ciphertexts:
        """Encrypt; see the seam. 1 µs each where randomness was drawn ahead, else some 30 µs."""
        values = self._checked(plaintexts)
        p, n, pq, drawn = self._p, self._n, self._p * self._q, self._ahead.take(len(values))
        encrypted = [(zero + pq * (slope * value % p)) % n for value, (zero, slope) in zip(values, drawn, strict=True)]
        return Ciphertexts(encrypted, len(encrypted))

    def ahead(self, count: int) -> None:
        """Have the randomness of the next `count` encryptions drawn ahead."""
        self._ahead.want(count)

    def idle(self) -> AbstractContextManager[None]:
        """Draw randomness ahead until the block ends."""
        return self._ahead.idle()

    def decrypt(self, ciphertexts: Ciphertexts, bits: int, compressed: int | None = None) -> Plaintexts:
        """Plaintexts below 2^bits; see the seam. Takes 0.13 ms each."""
        fit = slots(self.capacity, bits)
        width = bits if compressed is None else min(fit * bits, self.capacity)
        reduced = [value % self._square for value in ciphertexts.values]
        p, inverse = self._p, self._inverse_slope
        powers = gmpy2.powmod_base_list(reduced, self._t, self._square)
        plain = [int((power - 1) // p * inverse % p) for power in powers]
        if any(value >> width for value in plain) or any((power - 1) % p for power in powers):
            raise CipherError(
                f"A decrypted number is wider than {width} bits: it was encrypted for another key, or is an attack.",
                cure="See that both parties run the same version and key.",
            )
        values: Plaintexts = np.array([*plain, None], dtype=object)[:-1]
        return values if compressed is None else expand(values, compressed, self.capacity, bits)

    def _zeros(self, count: int) -> list[mpz]:
        return [zero for zero, _ in self._ahead.take(count)]


def _products(values: list[mpz], places: list[int], count: int, modulus: mpz) -> list[mpz]:
    """Product of the values at each of `count` places; 1 where there are none."""
    products: list[mpz | None] = [None] * count
    for value, place in zip(values, places, strict=True):
        before = products[place]
        products[place] = value if before is None else before * value % modulus
    return [mpz(1) if product is None else product for product in products]


def _strides(lengths: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[1], np.cumprod(lengths)[:-1]]).astype(np.int64)


def _require_same_length(left: Ciphertexts, right: Ciphertexts) -> None:
    if len(left) != len(right):
        raise CipherError(f"{len(left)} and {len(right)} ciphertexts cannot be taken together.")
