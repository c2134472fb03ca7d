"""The cipher seam: keys, encrypt, add, sum by bucket, decrypt. Additively homomorphic, over non-negative integers."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ftl.crypto.packing import Plaintexts
from ftl.errors import CipherError

MOST_BUCKETS = 128
"""Buckets per feature; their numbers are int8."""


@dataclass(frozen=True)
class Ciphertexts:
    """A row of ciphertexts of one key; what is in `values` is the cipher's own business.

    Attributes:
        values: in the cipher's own form.
        length: how many.
    """

    values: Any = field(repr=False)
    length: int

    def __len__(self) -> int:
        return self.length


class PublicCipher(Protocol):
    """What everybody may do with a public key."""

    @property
    def capacity(self) -> int:
        """Bits of a plaintext."""
        ...

    def public(self) -> bytes:
        """The public key, to be sent to those who add."""
        ...

    def encrypt(self, plaintexts: Plaintexts) -> Ciphertexts:
        """Encrypt n integers of 0 ≤ x < 2^capacity, each under fresh randomness.

        Raises:
            CipherError: a plaintext is out of bounds.
        """
        ...

    def bucket_sums(
        self,
        ciphertexts: Ciphertexts,
        masks: Sequence[NDArray[np.bool_]],
        bins: NDArray[np.int8],
        buckets: Sequence[int],
    ) -> list[Ciphertexts]:
        """Sum rows by feature and bucket, once per mask. Not fit to be sent: :meth:`compress` or :meth:`refresh` first.

        Args:
            ciphertexts: of n rows.
            masks: bool, shape (n,) each: which rows take part.
            bins: int8, shape (n, p): bucket of each row in each feature.
            buckets: number of buckets of each of the p features, at most 128.

        Returns:
            per mask sum(buckets) sums, feature by feature; an empty bucket holds 0.

        Raises:
            CipherError: shapes do not fit, or a bucket is out of bounds.
        """
        ...

    def add(self, left: Ciphertexts, right: Ciphertexts) -> Ciphertexts:
        """Element by element left + right. Not fit to be sent: :meth:`refresh` first."""
        ...

    def subtract(self, left: Ciphertexts, right: Ciphertexts) -> Ciphertexts:
        """Element by element left - right. Not fit to be sent: :meth:`refresh` first.

        Dear (an inversion each); where the key holder has decrypted both anyway, it is cheaper to subtract there.
        """
        ...

    def take(self, ciphertexts: Ciphertexts, places: NDArray[np.int64]) -> Ciphertexts:
        """The ciphertexts at `places`, in that order; one may be taken several times. :meth:`refresh` before sending.

        Args:
            ciphertexts: n ciphertexts.
            places: int64, shape (m,), m at least 1.

        Raises:
            CipherError: a place is not one of 0 to n - 1.
        """
        ...

    def refresh(self, ciphertexts: Ciphertexts) -> Ciphertexts:
        """The same plaintexts under fresh randomness, by adding fresh encryptions of 0.

        Without it the sum of an empty bucket would show as such, equal sums of equal rows would be equal bytes, and
        the key holder, who chose the rows' randomness, could tell which rows a sum was made of.
        """
        ...

    def compress(self, ciphertexts: Ciphertexts, bits: int) -> Ciphertexts:
        """Several plaintexts below 2^bits in each ciphertext, refreshed; :meth:`SecretCipher.decrypt` takes them apart.

        Args:
            ciphertexts: n ciphertexts.
            bits: width of a slot.

        Returns:
            :func:`compressed_length` ciphertexts.

        Raises:
            CipherError: a slot is wider than a plaintext.
        """
        ...

    def dump(self, ciphertexts: Ciphertexts) -> bytes:
        """As bytes, to be sent."""
        ...

    def load(self, data: bytes, length: int) -> Ciphertexts:
        """Ciphertexts as :meth:`dump` wrote them.

        Args:
            data: as received.
            length: how many there must be.

        Raises:
            CipherError: they are no ciphertexts of this cipher, or not so many.
        """
        ...


class SecretCipher(PublicCipher, Protocol):
    """What the key holder may do; the secret key has no bytes and so never leaves the process."""

    def ahead(self, count: int) -> None:
        """Wish that the randomness of the next `count` encryptions is drawn while :meth:`idle`. Returns at once."""
        ...

    def idle(self) -> AbstractContextManager[None]:
        """Work ahead as long as the block lasts: the caller waits for others."""
        ...

    def decrypt(self, ciphertexts: Ciphertexts, bits: int, compressed: int | None = None) -> Plaintexts:
        """Plaintexts below 2^bits; anything wider is refused, because answers to it would give the key away.

        Args:
            ciphertexts: ciphertexts of this key.
            bits: width that a plaintext, or a slot, may have.
            compressed: how many plaintexts :meth:`PublicCipher.compress` put into them; None when it was not used.

        Raises:
            CipherError: a plaintext is wider.
        """
        ...


class AdditiveScheme(Protocol):
    """Where ciphers come from; a party program is given one, so that a test can run it in the clear."""

    def generate(self) -> SecretCipher:
        """A fresh key pair."""
        ...

    def load_public(self, public: bytes) -> PublicCipher:
        """The cipher of a public key that a peer sent.

        Raises:
            CipherError: it is no public key of this scheme and size.
        """
        ...


def slots(capacity: int, bits: int) -> int:
    """How many plaintexts below 2^bits fit into one of `capacity` bits.

    Raises:
        CipherError: none does.
    """
    if not 1 <= bits <= capacity:
        raise CipherError(
            f"A plaintext of {bits} bits does not fit into the {capacity} bits of this key.",
            cure="Use fewer fraction bits, fewer rows or a longer key.",
        )
    return capacity // bits


def compressed_length(length: int, capacity: int, bits: int) -> int:
    """How many ciphertexts :meth:`PublicCipher.compress` makes of `length`."""
    return -(-length // slots(capacity, bits))


def expand(plaintexts: Plaintexts, length: int, capacity: int, bits: int) -> Plaintexts:
    """What compressed plaintexts hold: slot s of plaintext i of g is value s × g + i.

    Raises:
        CipherError: there are not as many as `length` values need, or bits are set beyond the last value.
    """
    groups = len(plaintexts)
    if groups != compressed_length(length, capacity, bits):
        raise CipherError(f"{groups} compressed plaintexts cannot hold {length} values of {bits} bits.")
    low = (1 << bits) - 1
    used = -(-length // groups) if groups else 0
    values = [int(value) >> (slot * bits) & low for slot in range(used) for value in plaintexts]
    if any(values[length:]) or any(int(value) >> (used * bits) for value in plaintexts):
        raise CipherError("A compressed plaintext holds more than the values it was made of.")
    return np.array([*values[:length], None], dtype=object)[:-1]


def check_buckets(
    length: int, masks: Sequence[NDArray[np.bool_]], bins: NDArray[np.int8], buckets: Sequence[int]
) -> None:
    """See that what :meth:`PublicCipher.bucket_sums` was given fits together.

    Raises:
        CipherError: says what does not.
    """
    if bins.dtype != np.int8 or bins.ndim != 2 or bins.shape != (length, len(buckets)):
        raise CipherError(
            f"Bins must be int8 of shape ({length}, {len(buckets)}), not {bins.dtype} of shape {bins.shape}."
        )
    if any(mask.dtype != np.bool_ or mask.shape != (length,) for mask in masks):
        raise CipherError(f"Every mask must be bool of shape ({length},).")
    if not buckets or not all(1 <= number <= MOST_BUCKETS for number in buckets):
        raise CipherError(f"There must be at least one feature, and 1 to {MOST_BUCKETS} buckets in each.")
    if length and ((bins < 0).any() or (bins.max(axis=0) >= np.asarray(buckets)).any()):
        raise CipherError("A row is in a bucket that its feature does not have.")
