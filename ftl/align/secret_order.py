"""Two parties in one order without either learning who is shared: whom at least one of them knows has a place.

A union of the two lists, after the idea of Sun, Yang, Yao, Zhang, Gao, Xie and Wang (2021, arXiv 2106.05508). A is the
active party, B the other; each has a secret a, b, and a second one a', b' for the union's places; x are A's people, y
are B's.

1. B gets a·H(x) and returns b·a·H(x), shuffled; A gets b·H(y) and makes a·b·H(y). A has both lists multiplied
   alike, but knows of no element to whom it belongs.
2. A takes the union, multiplies it by a' and shuffles; B multiplies by b' and shuffles. Both have the union's points
   a'b'ab·H and neither can tell from where in the lists a point came.
3. Each learns the points of its own people: A sends r·H(x) for an r that only it knows, B multiplies by bb', A by what
   makes aa' of r. And the other way round. The place of a point in the sorted union is the place of the person.
"""

from collections.abc import Callable

import numpy as np

from ftl.align.deck import NOBODY, Deck, deal
from ftl.align.identifiers import Identifiers, Rows
from ftl.align.matching import Tags, equal_places, repeats
from ftl.align.messages import Batch, Size
from ftl.align.opening import MOST_PEOPLE, Run
from ftl.align.post import BATCH
from ftl.align.store import Store
from ftl.crypto import POINT_BYTES, Points, as_keys, multiply, random_factors, random_scalar, spread

Report = Callable[[int, int], None]

STEPS = 8
"""Lists of points that a party sends or receives."""


def find_order(run: Run, identifiers: Identifiers, report: Report | None) -> tuple[Rows, dict[str, int]]:
    """The union's order as this party may know it; not resumed when the connection is lost.

    Returns:
        rows: int64, shape (u,): own row of each person of the union, -1 for one whom this party does not know.
        people: the peer, and the length of its list.
    """
    rows = identifiers.rows()
    cards, seed = deal(Store(), rows, run.settings.padded(len(rows)))
    side = _Side(run, run.peers[0], Deck(identifiers, cards, run.kept.root, seed), report)
    union, own = side.active() if run.me == run.active else side.passive()
    order = np.full(len(union), NOBODY, dtype=np.int64)
    order[side.places(union, own)] = cards
    return order, {side.peer: side.people}


class _Side:
    """One party's end. Of `whole`, `secret` (a) and `second` (a') are two factors; so are `blind` (r) and `rest`."""

    def __init__(self, run: Run, peer: str, deck: Deck, report: Report | None) -> None:
        self.run, self.peer, self.deck = run, peer, deck
        self.whole = random_scalar()
        self.secret, self.second = random_factors(self.whole)
        self.blind, self.rest = random_factors(self.whole)
        self.people = 0
        self._report = report
        self._steps = 0

    def active(self) -> tuple[Points, Points]:
        """A's way: the union's points, and those of the own people."""
        self._begin()
        theirs = self._times(self.secret, self._receive("own", self.people))
        mine = self._receive("returned", len(self.deck))
        union = _sorted(np.concatenate([mine, theirs]))
        self.run.post.send(self.peer, "union-size", Size, people=len(union))
        self._send("union", _sorted(self._times(self.second, union)))
        union = self._receive("order", len(union))
        return union, self._own_points()

    def passive(self) -> tuple[Points, Points]:
        """B's way."""
        self._begin()
        self._send("returned", _sorted(self._times(self.secret, self._receive("own", self.people))))
        size = self.run.post.receive(self.peer, "union-size", Size).people
        if not max(len(self.deck), self.people) <= size <= len(self.deck) + self.people:
            raise self.run.post.refusal(self.peer, f"says that {len(self.deck)} and {self.people} people are {size}")
        union = _sorted(self._times(self.second, self._receive("union", size)))
        self._send("order", union)
        return union, self._own_points()

    def places(self, union: Points, own: Points) -> Rows:
        """int64, shape (n,): where in the union each card of the own deck is."""
        card, place = equal_places(_tags(own), _tags(union))
        if len(card) != len(own):
            raise self.run.post.refusal(self.peer, "left people out of the union")
        return place[np.argsort(card)]

    def _begin(self) -> None:
        """Show the lengths, and send the own people's points."""
        self.run.post.send(self.peer, "size", Size, people=len(self.deck))
        self.people = self.run.post.receive(self.peer, "size", Size).people
        if not 0 <= self.people <= MOST_PEOPLE:
            raise self.run.post.refusal(self.peer, "has an impossible number of people")
        self._send_own("own", self.secret)

    def _own_points(self) -> Points:
        """Points of the own people multiplied as the union's are; the peer multiplies them without seeing them."""
        self._send_own("blinded", self.blind)
        blinded = self._receive("blinded", self.people)
        self._send("unblinded", self._times(self.whole, blinded))
        return self._times(self.rest, self._receive("unblinded", len(self.deck)))

    def _send_own(self, topic: str, secret: bytes) -> None:
        self._send(topic, spread(self.run.pool, len(self.deck), lambda some: self.deck.multiplied(secret, 0, some)))

    def _times(self, factor: bytes, points: Points) -> Points:
        return spread(self.run.pool, len(points), lambda some: multiply(factor, points[some]))

    def _send(self, topic: str, points: Points) -> None:
        for first in range(0, len(points), BATCH):
            self.run.post.send(self.peer, topic, Batch, first=first, rows=points[first : first + BATCH])
        self._tell()

    def _receive(self, topic: str, length: int) -> Points:
        points = np.empty((length, POINT_BYTES), dtype=np.uint8)
        for first in range(0, length, BATCH):
            points[first : first + BATCH] = self.run.post.points(self.peer, topic, first, length)
        repeated = repeats(_tags(points))
        if repeated:
            raise self.run.post.refusal(self.peer, f"repeated {repeated} of {length} points (align/{topic})")
        self._tell()
        return points

    def _tell(self) -> None:
        self._steps += 1
        if self._report:
            self._report(self._steps, STEPS)


def _sorted(points: Points) -> Points:
    """Each point once, in an order that tells nothing but the points."""
    return np.unique(as_keys(points)).view(np.uint8).reshape(-1, POINT_BYTES)


def _tags(points: Points) -> Tags:
    """The first 16 bytes: enough to tell any two of 2^28 people's points apart but with 2^-73."""
    return points.view("<u8")[:, :2]
