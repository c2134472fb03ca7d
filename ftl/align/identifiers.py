"""A party's identifiers as one block of bytes."""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ftl.align.matching import Tags, repeats
from ftl.errors import AlignmentError

Rows = NDArray[np.int64]

PIECE = 1 << 16
"""Identifiers that are Python objects at the same time, besides the caller's own."""


@dataclass(frozen=True)
class Identifiers:
    """n identifiers in UTF-8, one after the other: some 16 bytes a person instead of a text's 70.

    Attributes:
        party: the owner; named in errors.
        packed: the bytes of all; not copied into an immutable object, to hold them once.
        ends: int64, shape (n + 1,): identifier i is ``packed[ends[i]:ends[i + 1]]``.
        present: bool, shape (n,): False for a person without this identifier.
    """

    party: str
    packed: bytearray
    ends: Rows
    present: NDArray[np.bool_]

    @classmethod
    def of(cls, party: str, texts: Iterable[str | None]) -> "Identifiers":
        """Pack `texts`, None for a person without.

        Raises:
            AlignmentError: a text is not Unicode (holds half of a surrogate pair).
        """
        source, packed, lengths = iter(texts), bytearray(), [np.zeros(1, dtype=np.int64)]
        present: list[NDArray[np.bool_]] = [np.empty(0, dtype=bool)]
        while piece := list(islice(source, PIECE)):
            encoded = [_encoded(party, text) for text in piece]
            packed += b"".join(encoded)
            lengths.append(np.fromiter(map(len, encoded), dtype=np.int64, count=len(piece)))
            present.append(np.fromiter((text is not None for text in piece), dtype=bool, count=len(piece)))
        return cls(party, packed, np.cumsum(np.concatenate(lengths)), np.concatenate(present))

    def __len__(self) -> int:
        return len(self.present)

    def texts(self, rows: Rows) -> list[bytes]:
        """Identifiers of `rows`."""
        firsts, lasts, packed = self.ends[rows].tolist(), self.ends[rows + 1].tolist(), memoryview(self.packed)
        return [bytes(packed[first:last]) for first, last in zip(firsts, lasts, strict=True)]

    def rows(self) -> Rows:
        """int64: rows that have this identifier."""
        return np.flatnonzero(self.present)

    def require_unique(self, name: str = "an identifier") -> None:
        """Refuse a list in which two people have the same identifier.

        Raises:
            AlignmentError: says how many rows have one that another row has too.
        """
        rows, key = self.rows(), secrets.token_bytes(16)
        hashes = np.empty((len(rows), 2), dtype=np.uint64)
        for first in range(0, len(rows), PIECE):
            hashes[first : first + PIECE] = _hashed(self.texts(rows[first : first + PIECE]), key)
        repeated = repeats(hashes)
        if repeated:
            raise AlignmentError(
                f"{self.party}: {repeated} of {len(rows)} rows have {name} that another row has too.",
                cure="Choose identifier columns that name a person once, or keep one row per person in the mapping.",
            )

    def common_order(self, rows: Rows) -> Rows:
        """Places of `rows` by a hash of their identifiers: whoever knows these people could compute it."""
        hashes = [hashlib.sha256(b"ftl/align/order/1" + text).digest() for text in self.texts(rows)]
        return np.array(sorted(range(len(rows)), key=hashes.__getitem__), dtype=np.int64)

    def fingerprint(self, key: bytes) -> bytes:
        """32 bytes by which a party knows its own list again; they stay in it."""
        state = hashlib.blake2b(self.packed, key=key, digest_size=32)
        state.update(self.ends.data)
        state.update(self.present.data)
        return state.digest()


def _encoded(party: str, text: str | None) -> bytes:
    try:
        return b"" if text is None else text.encode()
    except UnicodeEncodeError:
        # Without its cause, which would show the text.
        raise AlignmentError(
            f"{party} has an identifier that is not Unicode.", cure="Look for broken encodings in the mapped columns."
        ) from None


def _hashed(texts: list[bytes], key: bytes) -> Tags:
    raw = b"".join([hashlib.blake2b(text, key=key, digest_size=16).digest() for text in texts])
    return np.frombuffer(raw, dtype="<u8").reshape(-1, 2)
