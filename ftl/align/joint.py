"""Three parties and more: the asking one sees who is known to *all* others, and of nobody else to whom.

Every two of the answering parties hold a common secret, unknown to the asking one, and derive from it a share for each
person. Each answering party adds up its shares of a person: over all answering parties they cancel, since every secret
comes in twice. It hides the sum in its table under what only that person's holder can compute. The asking party adds
what the tables say. Where all know the person that is zero; where one does not, its table answers at random, and what
the others answered looks random too. (Conditional zero-sharing: Kolesnikov, Matania, Pinkas, Rosulek and Trieu 2017.)
"""

import hashlib
from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from ftl.align.asking import Asking
from ftl.align.deck import Deck
from ftl.align.identifiers import Rows
from ftl.align.matching import narrowed
from ftl.align.opening import Run
from ftl.crypto import Digests

PIECE = 1 << 16


def masked_shares(run: Run, asking: str, deck: Deck, digests: Digests, width: int) -> NDArray[np.uint8]:
    """uint8, shape (n, width): this party's sum of shares of each person, masked by the person's digest."""
    keys = [_key(run, peer, deck.salt) for peer in run.peers if peer != asking]
    values = narrowed(digests[:, 2:4], width).copy()
    for first in range(0, len(deck), PIECE):
        texts = deck.texts(first, first + PIECE)
        for key in keys:
            values[first : first + PIECE] ^= _shares(key, texts, width)
    return values


def known_to_all(askings: Sequence[Asking]) -> Rows:
    """int64: places of the deck whose people all the asked parties know."""
    total = reduce(np.bitwise_xor, [asking.shares() for asking in askings])
    return np.flatnonzero(~total.any(axis=1))


def _key(run: Run, peer: str, salt: bytes) -> bytes:
    """The same at both parties: they have the same secret in common, and the run's salt."""
    return hashlib.sha256(b"ftl/align/shares/1" + run.common[peer] + salt).digest()


def _shares(key: bytes, texts: Sequence[bytes], width: int) -> NDArray[np.uint8]:
    raw = b"".join([hashlib.blake2b(text, key=key, digest_size=width).digest() for text in texts])
    return np.frombuffer(raw, dtype=np.uint8).reshape(-1, width)
