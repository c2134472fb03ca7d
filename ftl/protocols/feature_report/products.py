"""Dot products of one party's encrypted vectors with another's, by additions of ciphertexts only.

The holder encrypts, for every person, several of its standardised vectors in one plaintext, in fixed point. The other
party writes each of its own values as DIGITS digits of DIGIT_BITS bits. Σ x·z is then Σ over digits and digit values of
value · (sum of the ciphertexts of people with that digit), which is a bucket sum followed by a few additions.

A value x of the holder is round(x · 2^FRACTION); a value z of the other party is the integer
round(z / cap · HALF) + HALF. Both are exact sums of integers from there on; rounding moves a correlation by less
than 1e-6. `cap` = sqrt(people · MOST_WEIGHT) bounds all vectors, so scale and width follow from the number of people.
"""

import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftl.crypto import Ciphertexts, Plaintexts, PublicCipher, SecretCipher, slots
from ftl.features.dependence import MOST_WEIGHT

FRACTION = 16
"""Bits after the binary point of the holder's values."""
DIGITS, DIGIT_BITS = 3, 7
HALF = 1 << (DIGITS * DIGIT_BITS - 1)
"""Stands for 0 among the other party's values."""
MASK_BITS = 40
"""By which a mask is wider than what it hides: whoever sees the sum can tell it from noise with chance 2^-40."""


@dataclass(frozen=True)
class Layout:
    """How vectors of `people` people lie in plaintexts of `capacity` bits.

    Attributes:
        people: how many.
        capacity: bits of a plaintext.
        masked: whether the answer carries masks.
    """

    people: int
    capacity: int
    masked: bool

    @property
    def cap(self) -> float:
        """Bound of every value."""
        return float(np.sqrt(self.people * MOST_WEIGHT))

    @property
    def bias(self) -> int:
        """Added to the holder's fixed-point values to make them non-negative."""
        return int(np.ceil(np.ldexp(self.cap, FRACTION))) + 1

    @property
    def offset(self) -> int:
        """Added to every product to make it non-negative."""
        return self.bias * self.people * 2 * HALF

    @property
    def bits(self) -> int:
        """Width of a slot."""
        return (2 * self.offset).bit_length() + (MASK_BITS + 1 if self.masked else 0)

    @property
    def slots(self) -> int:
        """Vectors in one plaintext."""
        return slots(self.capacity, self.bits)

    def groups(self, vectors: int) -> int:
        """Plaintexts per person."""
        return -(-vectors // self.slots)

    def real(self, products: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean products, that is correlations, of what :func:`decrypted` gives; the same shape."""
        return np.asarray(products * (self.cap / (HALF * self.people * float(1 << FRACTION))), dtype=np.float64)

    def fixed(self, vectors: NDArray[np.float64]) -> NDArray[np.int64]:
        """The holder's values as integers."""
        return np.rint(np.ldexp(vectors, FRACTION)).astype(np.int64)

    def places(self, group: int, vectors: int) -> range:
        """Which vectors are in a group."""
        return range(group * self.slots, min((group + 1) * self.slots, vectors))


def encrypted(cipher: PublicCipher, layout: Layout, vectors: NDArray[np.float64]) -> list[bytes]:
    """The holder's vectors, float64, shape (people, v): one item per group, a ciphertext for each person."""
    whole = (layout.fixed(vectors) + layout.bias).astype(object)
    dumped = []
    for group in range(layout.groups(vectors.shape[1])):
        places = layout.places(group, vectors.shape[1])
        plain = sum(whole[:, place] << (slot * layout.bits) for slot, place in enumerate(places))
        dumped.append(cipher.dump(cipher.encrypt(np.asarray(plain, dtype=object))))
    return dumped


def multiplied(
    cipher: PublicCipher, layout: Layout, ciphertexts: Ciphertexts, own: NDArray[np.float64], masks: Plaintexts
) -> bytes:
    """Encrypted products of a group of the holder's vectors with this party's.

    Args:
        cipher: under the holder's key.
        layout: of the holder's vectors.
        ciphertexts: of the group, one for each person.
        own: float64, shape (people, w).
        masks: Python integers, shape (w, vectors in the group), to be added.

    Returns:
        w ciphertexts; fresh randomness comes with what is added.
    """
    numbers = np.clip(np.rint(own / layout.cap * HALF) + HALF, 0, 2 * HALF - 1).astype(np.int64)
    digits = [numbers >> (DIGIT_BITS * place) & ((1 << DIGIT_BITS) - 1) for place in reversed(range(DIGITS))]
    bins = np.ascontiguousarray(np.concatenate(digits, axis=1).astype(np.int8))
    everybody = [np.ones(layout.people, dtype=bool)]
    sums = cipher.bucket_sums(ciphertexts, everybody, bins, [1 << DIGIT_BITS] * bins.shape[1])[0]
    weighted = _weighted(cipher, sums, bins.shape[1])
    width = own.shape[1]
    product = cipher.take(weighted, np.arange(width))
    for digit in range(1, DIGITS):  # Horner's rule, from the highest digit
        for _ in range(DIGIT_BITS):
            product = cipher.add(product, product)
        product = cipher.add(product, cipher.take(weighted, digit * width + np.arange(width)))
    corrected = layout.offset - layout.bias * numbers.sum(axis=0).astype(object)
    slotted = [(corrected + masks[:, slot]) << (slot * layout.bits) for slot in range(masks.shape[1])]
    return cipher.dump(cipher.add(product, cipher.encrypt(np.asarray(sum(slotted), dtype=object))))


def drawn_masks(layout: Layout, shape: tuple[int, int]) -> Plaintexts:
    """Uniform integers of MASK_BITS more than a product has, or zeros where nothing is masked."""
    most = layout.bits - 1 if layout.masked else 0
    drawn = [secrets.randbits(most) if most else 0 for _ in range(shape[0] * shape[1])]
    return np.array([*drawn, None], dtype=object)[:-1].reshape(shape)


def decrypted(
    cipher: SecretCipher, layout: Layout, ciphertexts: list[Ciphertexts], vectors: NDArray[np.float64]
) -> Plaintexts:
    """The holder's reading of the answer: Python integers Σ x·z (plus the mask), shape (v, w).

    Args:
        cipher: with the secret key.
        layout: of its vectors.
        ciphertexts: w of them for each group.
        vectors: what it encrypted, float64, shape (people, v).

    Raises:
        CipherError: a number is wider than a sum of products can be.
    """
    low, rows = (1 << layout.bits) - 1, []
    for group, each in enumerate(ciphertexts):
        places = layout.places(group, vectors.shape[1])
        plain = cipher.decrypt(each, layout.bits * len(places))
        rows += [[(int(value) >> (slot * layout.bits) & low) for value in plain] for slot in range(len(places))]
    sums = layout.fixed(vectors).sum(axis=0).astype(object)
    found: Plaintexts = np.array(rows, dtype=object) - layout.offset - HALF * sums[:, None]
    return found


def _weighted(cipher: PublicCipher, sums: Ciphertexts, features: int) -> Ciphertexts:
    """Per feature Σ over bucket numbers v of v · (sum of bucket v), from the highest bit of v down."""
    width, heavy, table = 1 << DIGIT_BITS, None, sums
    while width > 1:
        width //= 2
        low, high = _halves(cipher, table, features, width)
        part = _total(cipher, high, features, width)
        heavy = part if heavy is None else cipher.add(cipher.add(heavy, heavy), part)
        table = cipher.add(low, high)
    assert heavy is not None  # noqa: S101 - a digit has at least one bit
    return heavy


def _total(cipher: PublicCipher, table: Ciphertexts, features: int, width: int) -> Ciphertexts:
    """Per feature the sum of its `width` entries, a power of two."""
    while width > 1:
        width //= 2
        table = cipher.add(*_halves(cipher, table, features, width))
    return table


def _halves(cipher: PublicCipher, table: Ciphertexts, features: int, half: int) -> tuple[Ciphertexts, Ciphertexts]:
    """Per feature the first and the second `half` of its entries."""
    first = (np.arange(features)[:, None] * 2 * half + np.arange(half)).ravel()
    return cipher.take(table, first), cipher.take(table, first + half)
