"""What the active party and one passive party exchange: Diffie–Hellman private set intersection (Meadows 1986).

Each multiplies the points of its own people by its own secret and the points that come by the same secret; a person
known to both ends as the same doubly multiplied point on either way. Only the active party gets both ways together.
"""

import hashlib
import secrets
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.channel import Channel, decode, encode
from ftl.crypto import Points, as_keys, check_points, hash_to_points, multiply, random_scalar
from ftl.errors import AlignmentError, CipherError

VERSION = 1
BATCH = 8192
"""Points per message, 256 KB."""
SALT_BYTES = 32
MOST_PEOPLE = 1 << 31

T = TypeVar("T")


class Hello(msgspec.Struct, frozen=True):
    """Opens a pair's exchange: half of the run's salt, and how many people will follow."""

    version: int
    salt: bytes
    people: int


class Batch(msgspec.Struct, frozen=True):
    """Points of people `first`, `first` + 1, … in an order that only their owner can read."""

    session: bytes
    first: int
    points: NDArray[np.uint8]


class Shared(msgspec.Struct, frozen=True):
    """Positions, in the receiver's own shuffled order, of the people all parties know; in the common order."""

    session: bytes
    positions: NDArray[np.int64]


@dataclass
class Pair:
    """One side of the exchange with `peer`.

    Attributes:
        channel: the way to the peer.
        peer: its name.
        ids: this party's identifiers.
        timeout: seconds to wait for any one message.
        pool: threads for the curve.
        order: int64, shape (n,): a secret random order of the own rows, the one in which their points are sent.
        people: how many the peer has; known after :meth:`greet`.
    """

    channel: Channel
    peer: str
    ids: Sequence[str]
    timeout: float
    pool: Executor
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(SALT_BYTES), repr=False)
    secret: bytes = field(default_factory=random_scalar, repr=False)
    session: bytes = b""
    people: int = 0

    def __post_init__(self) -> None:
        self.order = _secret_order(len(self.ids))

    def open(self) -> None:
        """Send the own half of the salt."""
        self.channel.send(self.peer, "align/hello", encode(Hello(VERSION, self.salt, len(self.ids))))

    def greet(self, *, active: bool) -> None:
        """Take the peer's half of the salt; both then have the same session, which no earlier run had."""
        hello = self._receive("align/hello", Hello)
        if hello.version != VERSION:
            raise self._refuse(f"speaks version {hello.version} of the alignment, not {VERSION}")
        if len(hello.salt) != SALT_BYTES or not 0 <= hello.people <= MOST_PEOPLE:
            raise self._refuse("opened the alignment with a wrong salt or an impossible number of people")
        if secrets.compare_digest(hello.salt, self.salt):
            raise self._refuse("sent back this party's own salt")
        self.people = hello.people
        salts = (self.salt, hello.salt) if active else (hello.salt, self.salt)
        names = "|".join((self.channel.me, self.peer) if active else (self.peer, self.channel.me))
        self.session = hashlib.sha256(b"ftl/align/1" + b"".join(salts) + names.encode()).digest()

    def send_own(self, first: int) -> None:
        """Send a batch of the own people, each multiplied by the own secret once."""
        rows = self.order[first : first + BATCH]
        try:
            hashed = hash_to_points([self.ids[row] for row in rows], self.session, self.pool)
        except CipherError as exc:
            raise AlignmentError(f"{self.channel.me} has an identifier that is not Unicode.", cure=exc.cure) from None
        self._send("align/points", Batch(self.session, first, multiply(self.secret, hashed, self.pool)))

    def receive_theirs(self, first: int) -> tuple[Points, Points]:
        """A batch of the peer's people as it came, and multiplied by the own secret too."""
        points = self._batch("align/points", first, self.people)
        return points, multiply(self.secret, points, self.pool)

    def send_back(self, first: int, doubled: Points) -> None:
        """Return the peer's batch, multiplied by both secrets."""
        self._send("align/doubled", Batch(self.session, first, doubled))

    def receive_back(self, first: int) -> Points:
        """A batch of the own people, multiplied by both secrets."""
        return self._batch("align/doubled", first, len(self.ids))

    def send_shared(self, positions: NDArray[np.int64]) -> None:
        """Tell the peer which of its people all parties know, in the common order."""
        self._send("align/shared", Shared(self.session, positions))

    def receive_shared(self) -> NDArray[np.int64]:
        """int64, shape (m,): rows of the own people all parties know, in the common order."""
        shared = self._receive("align/shared", Shared)
        self._same_session(shared.session)
        positions = shared.positions
        if positions.ndim != 1 or len(np.unique(positions)) != len(positions):
            raise self._refuse("named a person twice in the common order")
        if len(positions) and not (positions.min() >= 0 and positions.max() < len(self.ids)):
            raise self._refuse("named a person outside the list in the common order")
        return self.order[positions]

    def require_different(self, points: Points, what: str) -> None:
        """Refuse a list in which a point repeats: every person is one point."""
        repeated = len(points) - len(np.unique(as_keys(points)))
        if repeated:
            raise self._refuse(f"repeated {repeated} of the {len(points)} {what}")

    def _batch(self, topic: str, first: int, total: int) -> Points:
        batch = self._receive(topic, Batch)
        self._same_session(batch.session)
        if batch.first != first:
            raise self._refuse(f"sent people from {batch.first} on where {first} were due ({topic})")
        expected = min(BATCH, total - first)
        if len(batch.points) != expected:
            raise self._refuse(f"sent {len(batch.points)} points where {expected} were due ({topic})")
        try:
            check_points(batch.points)
        except CipherError as exc:
            raise self._refuse(f"sent points that are none ({topic}): {exc.message}") from exc
        return batch.points

    def _same_session(self, session: bytes) -> None:
        if session != self.session:
            raise self._refuse("sent a message of another run")

    def _receive(self, topic: str, kind: type[T]) -> T:
        return decode(self.channel.receive(self.peer, topic, self.timeout), kind, sender=self.peer, topic=topic)

    def _send(self, topic: str, message: Batch | Shared) -> None:
        self.channel.send(self.peer, topic, encode(message))

    def _refuse(self, what: str) -> AlignmentError:
        return AlignmentError(
            f"{self.channel.me} refused the alignment: {self.peer!r} {what}.",
            cure=f"See that {self.peer!r} runs the same version; if it does, ask its administrator what it runs.",
        )


def _secret_order(people: int) -> NDArray[np.int64]:
    """A permutation that nobody can guess: sorted by 64 random bits each from the operating system's generator."""
    draws = np.frombuffer(secrets.token_bytes(8 * people), dtype=np.uint64)
    return np.argsort(draws, kind="stable").astype(np.int64)
