"""The alignment as one program per party; any number of passive parties, each paired with the active one.

What each party learns is in ``docs/privacy/alignment.md``.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from ftl.align.pair import BATCH, Pair
from ftl.channel import Channel
from ftl.crypto import Points, as_keys
from ftl.errors import AlignmentError

log = logging.getLogger(__name__)

Rows = NDArray[np.int64]
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Alignment:
    """What a party knows after the alignment.

    Attributes:
        rows: int64, shape (m,): own rows of the m people whom *all* parties know; position i is the same person at
            every party. Empty when there are none. The order is a hash of the identifiers: it repeats from run to
            run and tells nothing of anyone's table.
        people: how many people each peer of this party has: every passive party's at the active one, the active
            party's at a passive one.
    """

    rows: Rows
    people: dict[str, int]


def align(
    channel: Channel,
    active: str,
    ids: Sequence[str],
    *,
    timeout: float,
    report: Report | None = None,
    threads: int | None = None,
) -> Alignment:
    """Find the people all parties know; every party calls this at the same time.

    Args:
        channel: all its peers take part.
        active: name of the party that intersects; this one or one of the peers.
        ids: this party's identifiers, each once. They never leave.
        timeout: seconds to wait for any one message.
        report: called with the rounds done and the rounds expected; a round is a batch of each party. None for nobody.
        threads: for the curve; None for one per core this process may use.

    Raises:
        AlignmentError: an identifier occurs twice here, or a peer broke the protocol (named).
        ProtocolError: a peer sent what is no message of the protocol.
        ChannelTimeout: a peer did not answer.
    """
    _require_unique(channel.me, ids)
    if active not in (channel.me, *channel.peers):
        raise AlignmentError(f"{active!r}, named as the active party, takes no part in this run.")
    with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0)), "align") as pool:
        if active == channel.me:
            pairs = [Pair(channel, peer, ids, timeout, pool) for peer in channel.peers]
            return _active(channel.me, ids, pairs, report)
        return _passive(Pair(channel, active, ids, timeout, pool), report)


def _passive(pair: Pair, report: Report | None) -> Alignment:
    pair.open()
    pair.greet(active=False)
    received = []
    rounds = _rounds(len(pair.ids), pair.people)
    for number in range(rounds):
        first = number * BATCH
        if first < len(pair.ids):
            pair.send_own(first)
        if first < pair.people:
            points, doubled = pair.receive_theirs(first)
            pair.send_back(first, doubled)
            received.append(points)
        if report:
            report(number + 1, rounds)
    pair.require_different(_together(received), "points of its people")
    return Alignment(pair.receive_shared(), {pair.peer: pair.people})


def _active(me: str, ids: Sequence[str], pairs: list[Pair], report: Report | None) -> Alignment:
    for pair in pairs:
        pair.open()
    for pair in pairs:
        pair.greet(active=True)
    sides = [_ActiveSide(pair) for pair in pairs]
    rounds = max((side.rounds for side in sides), default=0)
    for number in range(rounds):
        for side in sides:
            side.round(number)
        if report:
            report(number + 1, rounds)
    matches = [side.matches() for side in sides]
    rows = _common_order(ids, reduce(np.intersect1d, [mine for mine, _ in matches], np.arange(len(ids))))
    for pair, (mine, theirs) in zip(pairs, matches, strict=True):
        position = np.full(len(ids), -1, dtype=np.int64)
        position[mine] = theirs
        pair.send_shared(position[rows])
    people = {pair.peer: pair.people for pair in pairs}
    log.info("align.finished", extra={"party": me, "rows": len(ids), "people": people, "shared": len(rows)})
    return Alignment(rows, people)


class _ActiveSide:
    """The active party's end of one pair, a round at a time so that several pairs go on together."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.rounds = _rounds(len(pair.ids), pair.people)
        self._own: list[Points] = []
        self._theirs: list[Points] = []
        self._received: list[Points] = []

    def round(self, number: int) -> None:
        """Exchange one batch each way, and take back the one sent a round ago: its answer had time to come."""
        if number >= self.rounds:
            return
        first = number * BATCH
        if first < len(self.pair.ids):
            self.pair.send_own(first)
        if first < self.pair.people:
            points, doubled = self.pair.receive_theirs(first)
            self._received.append(points)
            self._theirs.append(doubled)
        self._take_back(first - BATCH)

    def matches(self) -> tuple[Rows, Rows]:
        """Own rows of the people whom this peer knows too, and their positions in the peer's shuffled order."""
        self._take_back((self.rounds - 1) * BATCH)
        self.pair.require_different(_together(self._received), "points of its people")
        own = _together(self._own)
        self.pair.require_different(own, "points it was asked to multiply")
        _, mine, theirs = np.intersect1d(
            as_keys(own), as_keys(_together(self._theirs)), assume_unique=True, return_indices=True
        )
        return self.pair.order[mine], theirs.astype(np.int64)

    def _take_back(self, first: int) -> None:
        if 0 <= first < len(self.pair.ids):
            self._own.append(self.pair.receive_back(first))


def _rounds(own: int, theirs: int) -> int:
    return -(-max(own, theirs) // BATCH)


def _together(batches: list[Points]) -> Points:
    return np.concatenate([np.empty((0, 32), dtype=np.uint8), *batches])


def _common_order(ids: Sequence[str], rows: Rows) -> Rows:
    """Rows by a hash of their identifiers: every party could compute it from what it knows, so it tells nothing."""
    digests = [hashlib.sha256(b"ftl/align/order/1" + ids[row].encode()).digest() for row in rows]
    return rows[np.array(sorted(range(len(rows)), key=digests.__getitem__), dtype=np.int64)]


def _require_unique(party: str, ids: Sequence[str]) -> None:
    repeated = len(ids) - len(set(ids))
    if repeated:
        raise AlignmentError(
            f"{party}: {repeated} of {len(ids)} rows have an identifier that another row has too.",
            cure="Choose identifier columns that name a person once, or keep one row per person in the mapping.",
        )
