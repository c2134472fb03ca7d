"""A cipher that hides nothing, with the interface of the real ones: encrypted protocols must agree with it exactly."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from numpy.typing import NDArray

from ftl.crypto import Ciphertexts, Plaintexts, check_buckets, compressed_length, expand, slots
from ftl.errors import CipherError


class ClearCipher:
    """Public and secret cipher in one; `values` of its ciphertexts is a list of integers."""

    def __init__(self, capacity: int = 682) -> None:
        self.capacity = capacity

    def public(self) -> bytes:
        return json.dumps({"clear": self.capacity}).encode()

    def encrypt(self, plaintexts: Plaintexts) -> Ciphertexts:
        values = [int(value) for value in plaintexts]
        if not values or min(values) < 0 or max(values) >> self.capacity:
            raise CipherError(f"{len(values)} plaintexts, not all of them from 0 to 2^{self.capacity} - 1.")
        return Ciphertexts(values, len(values))

    def bucket_sums(
        self,
        ciphertexts: Ciphertexts,
        masks: Sequence[NDArray[np.bool_]],
        bins: NDArray[np.int8],
        buckets: Sequence[int],
    ) -> list[Ciphertexts]:
        check_buckets(len(ciphertexts), masks, bins, buckets)
        starts = np.cumsum([0, *buckets])
        results = []
        for mask in masks:
            sums = [0] * int(starts[-1])
            for row in np.flatnonzero(mask):
                for feature, start in enumerate(starts[:-1]):
                    sums[start + bins[row, feature]] += ciphertexts.values[row]
            results.append(Ciphertexts(sums, len(sums)))
        return results

    def add(self, left: Ciphertexts, right: Ciphertexts) -> Ciphertexts:
        return Ciphertexts([a + b for a, b in zip(left.values, right.values, strict=True)], len(left))

    def subtract(self, left: Ciphertexts, right: Ciphertexts) -> Ciphertexts:
        return Ciphertexts([a - b for a, b in zip(left.values, right.values, strict=True)], len(left))

    def take(self, ciphertexts: Ciphertexts, places: NDArray[np.int64]) -> Ciphertexts:
        return Ciphertexts([ciphertexts.values[place] for place in places], len(places))

    def refresh(self, ciphertexts: Ciphertexts) -> Ciphertexts:
        return ciphertexts

    def compress(self, ciphertexts: Ciphertexts, bits: int) -> Ciphertexts:
        groups = compressed_length(len(ciphertexts), self.capacity, bits)
        packed = [0] * groups
        for number, value in enumerate(ciphertexts.values):
            packed[number % groups] += value << (number // groups * bits)
        return Ciphertexts(packed, groups)

    def dump(self, ciphertexts: Ciphertexts) -> bytes:
        return json.dumps(ciphertexts.values).encode()

    def load(self, data: bytes, length: int) -> Ciphertexts:
        values = json.loads(data)
        if len(values) != length:
            raise CipherError(f"{len(values)} ciphertexts where {length} were due.")
        return Ciphertexts(values, length)

    def ahead(self, count: int) -> None:
        pass

    def idle(self) -> AbstractContextManager[None]:
        return nullcontext()

    def decrypt(self, ciphertexts: Ciphertexts, bits: int, compressed: int | None = None) -> Plaintexts:
        width = bits if compressed is None else slots(self.capacity, bits) * bits
        if any(value < 0 or value >> width for value in ciphertexts.values):
            raise CipherError(f"A decrypted number is wider than {width} bits.")
        values = np.array([*ciphertexts.values, None], dtype=object)[:-1]
        return values if compressed is None else expand(values, compressed, self.capacity, bits)


class ClearScheme:
    """Where clear ciphers come from."""

    def generate(self) -> ClearCipher:
        return ClearCipher()

    def load_public(self, public: bytes) -> ClearCipher:
        return ClearCipher(json.loads(public)["clear"])
