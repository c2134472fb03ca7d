"""Per-person gradients in plaintexts that add up, and blinded sums that only their asker can read.

A plaintext holds a count of one and several coordinates side by side, each in fixed point and made non-negative by a
bias. Every coordinate's slot leaves room for a sum over all people of a batch and, above it, for a blind that is 2^40
times as large as any sum: a blinded sum is then within 2^-40 of the same distribution whatever the sum is. The count is
not blinded, so the key holder sees of every sum over how many people it goes before it answers.
"""

import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftl.crypto import Ciphertexts, Plaintexts, PublicCipher
from ftl.errors import CipherError

FRACTION = 20
"""Bits after the binary point; gradients are rounded by at most 2^-21."""
BLIND_BITS = 40
"""How much larger than a sum its blind is, in bits: the statistical security parameter."""
WORD = 62
"""Answers are given modulo 2^62; sums are far smaller."""


@dataclass(frozen=True)
class Sealing:
    """The layout for one batch.

    Attributes:
        people: in the batch.
        width: coordinates of a gradient, each within ±1.
        capacity: bits of a plaintext.

    Raises:
        CipherError: not even one coordinate fits.
    """

    people: int
    width: int
    capacity: int

    def __post_init__(self) -> None:
        if self.sum_bits > WORD - 2 or self.slots < 1:
            raise CipherError(
                f"Gradients of {self.people} people do not fit into {self.capacity} bits.", cure="Use more batches."
            )

    @property
    def bias(self) -> int:
        """Added to every coordinate."""
        return 1 << FRACTION

    @property
    def count_bits(self) -> int:
        """Width of the count, in the lowest bits."""
        return self.people.bit_length()

    @property
    def sum_bits(self) -> int:
        """Width of a coordinate's sum."""
        return (2 * self.bias * self.people).bit_length()

    @property
    def slot_bits(self) -> int:
        """Width of a coordinate's slot: its sum and its blind together."""
        return self.sum_bits + BLIND_BITS + 1

    @property
    def slots(self) -> int:
        """Most coordinates in one plaintext."""
        return (self.capacity - self.count_bits) // self.slot_bits

    @property
    def groups(self) -> list[range]:
        """Coordinates of each plaintext of a person."""
        return [range(start, min(start + self.slots, self.width)) for start in range(0, self.width, self.slots)]

    def seal(self, gradients: NDArray[np.float64]) -> list[Plaintexts]:
        """One row of plaintexts per group of coordinates.

        Args:
            gradients: float64, shape (people, width), each within ±1.

        Raises:
            CipherError: another shape, or a number beyond ±1.
        """
        if gradients.shape != (self.people, self.width) or not (np.abs(gradients) <= 1).all():
            raise CipherError(f"Gradients of shape {gradients.shape} are not {self.people} × {self.width} within ±1.")
        fixed = np.rint(np.ldexp(gradients, FRACTION)).astype(np.int64) + self.bias
        return [self._packed(fixed[:, list(group)], 1) for group in self.groups]

    def blinds(self, sums: int) -> list[list[list[int]]]:
        """Per group and sum one fresh blind for each coordinate, from the operating system's generator."""
        bits = self.sum_bits + BLIND_BITS
        return [[[secrets.randbits(bits) for _ in group] for _ in range(sums)] for group in self.groups]

    def blinded(self, cipher: PublicCipher, sums: Ciphertexts, blinds: list[list[int]]) -> Ciphertexts:
        """Encrypted sums plus blinds; encrypting the blinds refreshes the sums."""
        return cipher.add(sums, cipher.encrypt(self._packed(np.array(blinds, dtype=object), 0)))

    def opened(self, plaintexts: list[Plaintexts]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What decrypted blinded sums hold.

        Args:
            plaintexts: per group one number for each sum.

        Returns:
            counts, int64, shape (sums,), and blinded sums modulo 2^62, int64, shape (sums, width).

        Raises:
            CipherError: the groups count different people.
        """
        low = (1 << self.count_bits) - 1
        counts = np.array([[int(value) & low for value in group] for group in plaintexts], dtype=np.int64)
        if (counts != counts[0]).any():
            raise CipherError("Sums of one bucket go over different people.")
        columns = [
            [(int(value) >> (self.count_bits + slot * self.slot_bits)) % (1 << WORD) for value in group]
            for coordinates, group in zip(self.groups, plaintexts, strict=True)
            for slot in range(len(coordinates))
        ]
        return counts[0], np.array(columns, dtype=np.int64).T

    def answered(
        self, sums: NDArray[np.int64], blinds: list[list[list[int]]], counts: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Real sums from an answer.

        Args:
            sums: int64, shape (sums, width), modulo 2^62.
            blinds: as drawn.
            counts: int64, shape (sums,): people behind each sum.

        Returns:
            float64, shape (sums, width).
        """
        drawn = np.concatenate([np.array(group, dtype=object).reshape(len(sums), -1) for group in blinds], axis=1)
        turned = (sums.astype(object) - drawn - counts[:, None].astype(object) * self.bias) % (1 << WORD)
        signed = np.where(turned >= 1 << (WORD - 1), turned - (1 << WORD), turned)
        return np.asarray(np.ldexp(signed.astype(np.float64), -FRACTION))

    @property
    def bits(self) -> int:
        """Width of a blinded sum as a whole; anything wider is refused when it is decrypted."""
        return self.count_bits + min(self.slots, self.width) * self.slot_bits

    def _packed(self, rows: NDArray[np.int64] | NDArray[np.object_], count: int) -> Plaintexts:
        packed = np.full(len(rows), count, dtype=object)
        for slot in range(rows.shape[1]):
            packed = packed + (rows[:, slot].astype(object) << (self.count_bits + slot * self.slot_bits))
        return packed
