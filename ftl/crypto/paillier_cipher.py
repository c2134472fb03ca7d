"""Paillier's cipher by sf-heu, behind the cipher seam.

What it is believed to be worth: n = pq of two 1024-bit primes; it rests on composite residuosity, about 112 bits of
work at 2048 bits, as Okamoto–Uchiyama, and has been studied for longer and by more people. Encryption and decryption
are some ten times as slow. Exponents of the randomness are half as long as n, which is enough. It does not resist a
quantum computer.

sf-heu holds the interpreter's lock and computes on one core: two parties use two cores when they are two processes.
"""

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from heu import numpy as hnp
from heu import phe
from numpy.typing import NDArray

from ftl.crypto.cipher import Ciphertexts, check_buckets, expand, slots
from ftl.crypto.packing import Plaintexts
from ftl.errors import CipherError

SCHEMA = phe.SchemaType.ZPaillier
LEAST_BITS = 2048
MOST_BITS = 8192

_STDOUT = threading.Lock()


@dataclass(frozen=True)
class PaillierScheme:
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

    def generate(self) -> "PaillierSecretCipher":
        """A fresh key pair; 0.2 to 10 s, because primes are drawn until they fit."""
        return PaillierSecretCipher(_started(hnp.setup(SCHEMA, self.bits)))

    def load_public(self, public: bytes) -> "PaillierPublicCipher":
        """The cipher of a public key that a peer sent.

        Raises:
            CipherError: it is no public key of this scheme, or a shorter one.
        """
        with _refusing("This is no public key."):
            kit = hnp.setup(phe.PublicKey.load_from(public))
        cipher = PaillierPublicCipher(_started(kit))
        if kit.get_schema() != SCHEMA or cipher.capacity < self.bits - 2:
            raise CipherError(
                f"The public key is none of paillier with {self.bits} bits or more.",
                cure="Let all parties run with the same cipher settings.",
            )
        return cipher


class PaillierPublicCipher:
    """What everybody may do with a public key; see :class:`~ftl.crypto.PublicCipher`."""

    def __init__(self, kit: Any) -> None:
        self._kit = kit
        self._encoder = kit.bigint_encoder()
        self._encryptor = kit.encryptor()
        self._evaluator = kit.evaluator()
        self._capacity = int(kit.public_key().plaintext_bound()).bit_length() - 1

    @property
    def capacity(self) -> int:
        """Bits of a plaintext; 2046 of 2048."""
        return self._capacity

    def public(self) -> bytes:
        """The public key, to be sent to those who add."""
        key: bytes = self._kit.public_key().serialize()
        return key

    def encrypt(self, plaintexts: Plaintexts) -> Ciphertexts:
        """Encrypt; see the seam."""
        values = [int(value) for value in plaintexts]
        if not values or min(values) < 0 or max(values) >> self.capacity:
            raise CipherError(f"{len(values)} plaintexts, not all of them from 0 to 2^{self.capacity} - 1.")
        return self._encrypt(values)

    def bucket_sums(
        self,
        ciphertexts: Ciphertexts,
        masks: Sequence[NDArray[np.bool_]],
        bins: NDArray[np.int8],
        buckets: Sequence[int],
    ) -> list[Ciphertexts]:
        """Sum by feature and bucket; see the seam. Takes 1.7 µs for each row of a mask and feature."""
        check_buckets(len(ciphertexts), masks, bins, buckets)
        most = max(buckets)
        kept = [feature * most + bucket for feature, number in enumerate(buckets) for bucket in range(number)]
        contiguous = np.ascontiguousarray(bins)
        return [self._masked_sums(ciphertexts, mask, contiguous, most, kept) for mask in masks]

    def add(self, left: Ciphertexts, right: Ciphertexts) -> Ciphertexts:
        """Left + right; see the seam."""
        _require_same_length(left, right)
        return self._wrap(self._evaluator.add(left.values, right.values))

    def subtract(self, left: Ciphertexts, right: Ciphertexts) -> Ciphertexts:
        """Left - right; see the seam. Takes 0.3 ms each."""
        _require_same_length(left, right)
        return self._wrap(self._evaluator.sub(left.values, right.values))

    def take(self, ciphertexts: Ciphertexts, places: NDArray[np.int64]) -> Ciphertexts:
        """Those at `places`; see the seam."""
        if not len(places) or places.min() < 0 or places.max() >= len(ciphertexts):
            raise CipherError(f"{len(places)} places, not all of them among {len(ciphertexts)} ciphertexts.")
        return self._wrap(ciphertexts.values[places.tolist(), :])

    def refresh(self, ciphertexts: Ciphertexts) -> Ciphertexts:
        """Fresh randomness; see the seam. Takes 50 µs each."""
        return self.add(ciphertexts, self._zeros(len(ciphertexts)))

    def compress(self, ciphertexts: Ciphertexts, bits: int) -> Ciphertexts:
        """Several plaintexts in each ciphertext; see the seam.

        By Horner's rule over the slots: shift by `bits`, add the next slot's ciphertexts. Shifting takes about 1.2 µs
        for each bit and ciphertext; what it saves in refreshing and decryption is more, and 8 times as many bytes.
        """
        length = len(ciphertexts)
        groups = -(-length // slots(self.capacity, bits))
        used = -(-length // groups)
        shift = self._plain([1 << bits] * groups)
        packed = self._zeros(groups).values
        last = (used - 1) * groups
        packed[0 : length - last] = ciphertexts.values[last:length]
        for start in range(last - groups, -1, -groups):
            shifted = self._evaluator.mul(packed, shift)
            packed = self._evaluator.add(shifted, ciphertexts.values[start : start + groups])
        return self.refresh(self._wrap(packed))

    def dump(self, ciphertexts: Ciphertexts) -> bytes:
        """As bytes; 527 each."""
        data: bytes = ciphertexts.values.serialize()
        return data

    def load(self, data: bytes, length: int) -> Ciphertexts:
        """Ciphertexts that a peer sent; see the seam."""
        with _refusing(f"These {len(data)} bytes are no ciphertexts."):
            values = hnp.CiphertextArray.load_from(data)
        if values.ndim != 2 or (values.rows, values.cols) != (length, 1):
            raise CipherError(f"{values.rows} × {values.cols} ciphertexts where {length} × 1 were due.")
        return Ciphertexts(values, length)

    def _masked_sums(
        self, ciphertexts: Ciphertexts, mask: NDArray[np.bool_], bins: NDArray[np.int8], most: int, kept: list[int]
    ) -> Ciphertexts:
        if not mask.any():
            return self._zeros(len(kept))
        sums = self._evaluator.feature_wise_bucket_sum(ciphertexts.values, mask.astype(np.int8), bins, most, False)
        return self._wrap(sums if len(kept) == sums.rows else sums[kept, :])

    def _zeros(self, length: int) -> Ciphertexts:
        return self._encrypt([0] * length)

    def _encrypt(self, values: list[int]) -> Ciphertexts:
        return self._wrap(self._encryptor.encrypt(self._plain(values)))

    def _plain(self, values: list[int]) -> Any:
        column = np.array([*values, None], dtype=object)[:-1].reshape(-1, 1)
        return self._kit.array(column, self._encoder)

    def _wrap(self, values: Any) -> Ciphertexts:
        return Ciphertexts(values, values.rows)


class PaillierSecretCipher(PaillierPublicCipher):
    """What the key holder may do; see :class:`~ftl.crypto.SecretCipher`."""

    def __init__(self, kit: Any) -> None:
        super().__init__(kit)
        self._decryptor = kit.decryptor()

    def ahead(self, count: int) -> None:
        """Nothing: sf-heu draws randomness as it encrypts."""

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Nothing is done meanwhile."""
        yield

    def decrypt(self, ciphertexts: Ciphertexts, bits: int, compressed: int | None = None) -> Plaintexts:
        """Plaintexts below 2^bits; see the seam. Takes some 2 ms each."""
        fit = slots(self.capacity, bits)
        width = bits if compressed is None else min(fit * bits, self.capacity)
        with _refusing(
            f"A decrypted number is wider than {width} bits: it was encrypted for another key, or is an attack."
        ):
            plain = self._decryptor.decrypt_in_range(ciphertexts.values, width).to_numpy(self._encoder)
        values: Plaintexts = plain.reshape(-1)
        if min(values) < 0:
            raise CipherError("A decrypted number is negative, which no sum of packed rows is.")
        return values if compressed is None else expand(values, compressed, self.capacity, bits)


def _started(kit: Any) -> Any:
    """`kit` after its first computation, in which sf-heu announces its threads on the standard output.

    A user's program may read that, so for this moment the announcement goes to the standard error.
    """
    with _STDOUT:
        sys.stdout.flush()
        kept = os.dup(1)
        try:
            os.dup2(2, 1)
            kit.encryptor().encrypt(kit.array(np.array([[0], [0]], dtype=object), kit.bigint_encoder()))
        finally:
            os.dup2(kept, 1)
            os.close(kept)
    return kit


def _require_same_length(left: Ciphertexts, right: Ciphertexts) -> None:
    if len(left) != len(right):
        raise CipherError(f"{len(left)} and {len(right)} ciphertexts cannot be taken together.")


@contextmanager
def _refusing(message: str) -> Iterator[None]:
    """Turn what sf-heu raises into a CipherError with a text of ours; its own is a stack trace."""
    try:
        yield
    except (RuntimeError, IndexError, SystemError, ValueError, TypeError) as exc:
        raise CipherError(message, cure="See that both parties run the same version and key.") from exc
