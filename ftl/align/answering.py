"""The answering end of a pair: multiply the other's points by the own secret, and offer one's own people.

Of each own person it computes b·H(y) once, however long the list: its digest is what the asking side gets to compare
(two parties), or the key under which a share is hidden in a table (three and more; see :mod:`ftl.align.joint`).
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.align.asking import words
from ftl.align.deck import NOBODY, Deck
from ftl.align.identifiers import Rows
from ftl.align.joint import masked_shares
from ftl.align.matching import TABLED_BYTES, Tags, cut, equal_places, narrowed, repeats, tag_bytes, widened
from ftl.align.messages import Batch, Done, Have, Shared, Table
from ftl.align.opening import Run
from ftl.align.post import BATCH
from ftl.align.store import Store
from ftl.align.table import fill, slots_for
from ftl.crypto import Digests, digests, multiply, random_scalar, spread

RECORD = "answering"
TABLE_RECORD = "table"


class Progress(msgspec.Struct, frozen=True):
    """What is kept of an answering end: its secret, how many points it answered and own people it digested."""

    secret: bytes
    answered: int = 0
    digested: int = 0


class Attempt(msgspec.Struct, frozen=True):
    """Which hash functions the kept table goes by."""

    number: int


class Answering:
    """Answers `peer` about the people of `deck`.

    Args:
        run: the opened run.
        peer: the asking party.
        deck: this party's people.
        people: length of the peer's list.
        tabled: hide shares in a table, instead of showing tags.
        store: what is kept to resume.
    """

    def __init__(self, run: Run, peer: str, deck: Deck, people: int, *, tabled: bool, store: Store) -> None:
        self.run, self.peer, self.deck, self.people, self.tabled = run, peer, deck, people, tabled
        self.width = TABLED_BYTES if tabled else tag_bytes(people, len(deck))
        self._store = store
        self._progress = store.kept(RECORD, Progress) or Progress(random_scalar())
        self._digests: Digests = store.array("digests", (len(deck), words(tabled=tabled)), np.uint64)
        self._seen: Tags = store.array("seen", (people, 2), np.uint64)
        self._answered = self._offered = 0
        store.keep(RECORD, self._progress)

    @property
    def rounds(self) -> int:
        """Batches until all points are answered, and all own people are offered."""
        own = self._progress.digested if self.tabled else self._offered
        return -(-max(self.people - self._answered, len(self.deck) - own) // BATCH)

    def begin(self) -> None:
        """Learn what the peer has already."""
        have = self.run.post.receive(self.peer, "have", Have)
        most = slots_for(len(self.deck)) if self.tabled else self._progress.digested
        if not (0 <= have.answers <= self._progress.answered and 0 <= have.offered <= most):
            raise self.run.post.refusal(self.peer, "says that it has what it was not sent")
        self._answered, self._offered = have.answers, have.offered

    def step(self) -> None:
        """Answer a batch of points, and offer a batch of own people."""
        if self._answered < self.people:
            self._answer()
        wanted = len(self.deck) if self.tabled else min(len(self.deck), self._offered + BATCH)
        if self._progress.digested < wanted:
            self._digest()
        if not self.tabled and self._offered < len(self.deck):
            part = slice(self._offered, min(self._offered + BATCH, len(self.deck)))
            self._offer("tags", narrowed(self._digests[part, :2], self.width))

    def finish(self) -> None:
        """See that no point repeated, and send the table if there is to be one."""
        repeated = repeats(self._seen)
        if repeated:
            raise self.run.post.refusal(self.peer, f"repeated {repeated} of the {self.people} points of its people")
        if self.tabled:
            self._send_table()

    def shared(self) -> Rows:
        """int64, shape (m,): places in the deck of the people that the asking party says all know, in its order."""
        tags = self.run.post.receive(self.peer, "shared", Shared).tags
        if tags.ndim != 2 or tags.shape[1] != self.width:
            raise self.run.post.refusal(self.peer, f"named people by an array of shape {tags.shape}")
        named = widened(tags)
        if repeats(named):
            raise self.run.post.refusal(self.peer, "named a person twice in the common order")
        own, place = equal_places(self._digests[:, :2], named)
        if len(own) != len(named) or (self.deck.cards[own] == NOBODY).any():
            raise self.run.post.refusal(self.peer, "named a person outside the list in the common order")
        return own[np.argsort(place)]

    def done(self) -> None:
        """Tell the peer that the result has come."""
        self.run.post.send(self.peer, "done", Done)

    def _answer(self) -> None:
        first, secret = self._answered, self._progress.secret
        points = self.run.post.points(self.peer, "points", first, self.people)
        self._see(first, points.view("<u8")[:, :2])
        doubled = spread(self.run.pool, len(points), lambda some: multiply(secret, points[some]))
        self._answered = first + len(points)
        self._note(answered=max(self._answered, self._progress.answered))
        self.run.post.send(self.peer, "doubled", Batch, first=first, rows=doubled)

    def _see(self, first: int, points: Tags) -> None:
        """Remember the points; those answered before the connection was lost must be the same ones again."""
        before = max(min(self._progress.answered - first, len(points)), 0)
        if (self._seen[first : first + before] != points[:before]).any():
            raise self.run.post.refusal(self.peer, "sent other points than before the connection was lost")
        self._seen[first : first + len(points)] = points

    def _digest(self) -> None:
        first, secret, wide = self._progress.digested, self._progress.secret, self._digests.shape[1]
        last, deck = min(first + BATCH, len(self.deck)), self.deck
        found = spread(
            self.run.pool, last - first, lambda some: digests(deck.multiplied(secret, first, some), deck.salt, wide)
        )
        self._digests[first:last] = cut(found, self.width)
        self._note(digested=last)

    def _note(self, **changed: int) -> None:
        """Kept before it is told: what the peer can say it has, this party knows that it sent."""
        self._progress = msgspec.structs.replace(self._progress, **changed)
        self._store.keep(RECORD, self._progress)

    def _offer(self, topic: str, rows: NDArray[np.uint8]) -> None:
        self.run.post.send(self.peer, topic, Batch, first=self._offered, rows=rows)
        self._offered += len(rows)

    def _send_table(self) -> None:
        slots = slots_for(len(self.deck))
        table: NDArray[np.uint8] = self._store.array("table", (slots, self.width), np.uint8)
        kept = self._store.kept(TABLE_RECORD, Attempt)
        if kept is None:
            filled = fill(self._digests[:, 4], masked_shares(self.run, self.peer, self.deck, self._digests, self.width))
            table[:], kept = filled.rows, Attempt(filled.attempt)
            self._store.keep(TABLE_RECORD, kept)
        self.run.post.send(self.peer, "table", Table, slots=slots, attempt=kept.number)
        while self._offered < slots:
            self._offer("places", table[self._offered : self._offered + BATCH])
