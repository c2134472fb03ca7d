"""The deck: whom a party works on in one list of identifiers, in an order that only it can read."""

import hashlib
import secrets
from dataclasses import dataclass, field

import msgspec
import numpy as np

from ftl.align.identifiers import Identifiers, Rows
from ftl.align.store import Store
from ftl.crypto import Points, hash_to_points, multiply

NOBODY = -1
"""Stands for a person who does not exist."""


@dataclass(frozen=True)
class Deck:
    """People in a secret order, and what makes points of them.

    Attributes:
        identifiers: of all people of the party.
        cards: int64, shape (n,): rows of them, each at most once, and any number of :data:`NOBODY`.
        salt: of the points; the same at all parties.
        seed: of the points of nobody, which so match no one.
    """

    identifiers: Identifiers
    cards: Rows
    salt: bytes
    seed: bytes = field(repr=False)

    def __len__(self) -> int:
        return len(self.cards)

    def texts(self, first: int, last: int) -> list[bytes]:
        """Identifiers of the cards `first` … `last`; for nobody, random bytes that no list holds."""
        cards = self.cards[first:last]
        texts = self.identifiers.texts(np.maximum(cards, 0)) if len(self.identifiers) else [b""] * len(cards)
        for place in np.flatnonzero(cards == NOBODY):
            texts[place] = hashlib.blake2b(int(first + place).to_bytes(8, "little"), key=self.seed).digest()
        return texts

    def multiplied(self, secret: bytes, first: int, some: slice) -> Points:
        """Points of `some` of the cards, counted from `first` on, times `secret`."""
        return multiply(secret, hash_to_points(self.texts(first + some.start, first + some.stop), self.salt))


class Dealt(msgspec.Struct, frozen=True):
    """Notes that an order is drawn, with the seed of its people who do not exist."""

    seed: bytes


def deal(store: Store, rows: Rows, length: int) -> tuple[Rows, bytes]:
    """Cards and seed of a deck of `rows` and, up to `length`, :data:`NOBODY`; once drawn, `store` has them.

    Sorted by 64 random bits each from the operating system's generator: an order that no one can guess.
    """
    cards: Rows = store.array("deck", (length,), np.int64)
    dealt = store.kept("deck", Dealt)
    if dealt is None:
        cards[:] = np.argsort(np.frombuffer(secrets.token_bytes(8 * length), dtype=np.uint64), kind="stable")
        present = cards < len(rows)
        cards[present], cards[~present] = rows[cards[present]], NOBODY
        dealt = Dealt(secrets.token_bytes(32))
        store.keep("deck", dealt)
    return cards, dealt.seed
