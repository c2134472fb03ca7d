"""The asking end of a pair: have one's people's points multiplied by the other's secret, without showing them.

With a the own secret, b the other's and H the hash to the curve, it sends a·H(x), gets b·a·H(x) and multiplies by the
inverse of a: b·H(x), which the other side computes of its own people. An oblivious pseudorandom function (Jarecki and
Liu 2010; used for intersection so that the long list costs one multiplication a person by Kales, Rechberger, Schneider,
Senker and Weinert 2019).
"""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.align.deck import Deck
from ftl.align.identifiers import Rows
from ftl.align.matching import TABLED_BYTES, Tags, cut, narrowed, repeats, tag_bytes, widened
from ftl.align.messages import Batch, Done, Have, Shared, Table
from ftl.align.opening import Run
from ftl.align.post import BATCH
from ftl.align.store import Store
from ftl.align.table import MOST_ATTEMPTS, look_up, slots_for
from ftl.crypto import Digests, digests, multiply, random_pair, spread

WINDOW = 4
"""Batches under way to a peer: enough to hide 100 ms of network behind work, 1 MB each."""

RECORD = "asking"


class Progress(msgspec.Struct, frozen=True):
    """What is kept of an asking end: its secret and its inverse, doubled points and offered entries that came."""

    secret: bytes
    inverse: bytes
    answers: int = 0
    offered: int = 0


def words(*, tabled: bool) -> int:
    """Words of a person's digest: two for the tag; with tables, two for the mask and one for the place too."""
    return 5 if tabled else 2


class Asking:
    """One peer asked for all people of `deck`.

    Args:
        run: the opened run.
        peer: who is asked.
        deck: this party's people.
        people: length of the peer's list.
        tabled: the peer hides shares in a table, instead of showing tags: with three parties and more.
        store: what is kept to resume.

    Attributes:
        digests_: uint64, shape (n, words): of the doubled points, once all have come.
    """

    def __init__(self, run: Run, peer: str, deck: Deck, people: int, *, tabled: bool, store: Store) -> None:
        self.run, self.peer, self.deck, self.tabled = run, peer, deck, tabled
        self.width = TABLED_BYTES if tabled else tag_bytes(len(deck), people)
        self._due = slots_for(people) if tabled else people
        self._store = store
        self._progress = store.kept(RECORD, Progress) or Progress(*random_pair())
        self._sent = self._progress.answers
        self.digests_: Digests = store.array("digests", (len(deck), words(tabled=tabled)), np.uint64)
        self._offered: NDArray[np.uint8] = store.array("offered", (self._due, self.width), np.uint8)
        store.keep(RECORD, self._progress)

    @property
    def rounds(self) -> int:
        """Batches until all points are answered, and all tags are here if there are any."""
        answers = len(self.deck) - self._progress.answers
        return -(-max(answers, 0 if self.tabled else self._due - self._progress.offered) // BATCH)

    def begin(self) -> None:
        """Say what is here already, and send so many points that the peer has always work."""
        done = self._progress
        self.run.post.send(self.peer, "have", Have, answers=done.answers, offered=done.offered)
        for _ in range(WINDOW):
            self._send_points()

    def step(self) -> None:
        """Send a batch and take one of each kind."""
        self._send_points()
        if self._progress.answers < len(self.deck):
            self._take_answer()
        if not self.tabled and self._progress.offered < self._due:
            self._take_offered("tags")

    def shares(self) -> NDArray[np.uint8]:
        """uint8, shape (n, width): what the peer's table says of each person, unmasked; see :mod:`ftl.align.joint`."""
        table = self.run.post.receive(self.peer, "table", Table)
        if table.slots != self._due or not 0 <= table.attempt < MOST_ATTEMPTS:
            raise self.run.post.refusal(self.peer, "announced an impossible table")
        while self._progress.offered < self._due:
            self._take_offered("places")
        self._require_different(self.digests_, "points it was asked to multiply")
        found = look_up(self._offered, self.digests_[:, 4], table.attempt)
        return found ^ narrowed(self.digests_[:, 2:4], self.width)

    def tags(self) -> tuple[Tags, Tags]:
        """The own people's tags and the peer's."""
        self._require_different(self.digests_, "points it was asked to multiply")
        theirs = widened(self._offered)
        self._require_different(theirs, "tags of its people")
        return self.digests_[:, :2], theirs

    def tell(self, places: Rows) -> None:
        """Tell the peer which of its people all know: those at these places of the own deck, in this order."""
        tags = narrowed(self.digests_[places, :2], self.width)
        self.run.post.send(self.peer, "shared", Shared, tags=tags)

    def await_done(self) -> None:
        """Wait until the peer has the result."""
        self.run.post.receive(self.peer, "done", Done)

    def _send_points(self) -> None:
        first, secret = self._sent, self._progress.secret
        length = min(BATCH, len(self.deck) - first)
        if not length:
            return
        points = spread(self.run.pool, length, lambda some: self.deck.multiplied(secret, first, some))
        self.run.post.send(self.peer, "points", Batch, first=first, rows=points)
        self._sent = first + length

    def _take_answer(self) -> None:
        first, inverse = self._progress.answers, self._progress.inverse
        doubled = self.run.post.points(self.peer, "doubled", first, len(self.deck))
        salt, wide = self.deck.salt, self.digests_.shape[1]
        found = spread(self.run.pool, len(doubled), lambda some: digests(multiply(inverse, doubled[some]), salt, wide))
        self.digests_[first : first + len(doubled)] = cut(found, self.width)
        self._note(answers=first + len(doubled))

    def _take_offered(self, topic: str) -> None:
        first = self._progress.offered
        rows = self.run.post.batch(self.peer, topic, first, self._due, self.width)
        self._offered[first : first + len(rows)] = rows
        self._note(offered=first + len(rows))

    def _note(self, **changed: int) -> None:
        self._progress = msgspec.structs.replace(self._progress, **changed)
        self._store.keep(RECORD, self._progress)

    def _require_different(self, tags: NDArray[Any], what: str) -> None:
        repeated = repeats(tags)
        if repeated:
            raise self.run.post.refusal(self.peer, f"repeated {repeated} of the {len(tags)} {what}")
