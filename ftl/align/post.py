"""Messages of one run: sent with its session, and checked when they come."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ftl.align.messages import Batch, Hello
from ftl.channel import Channel, decode, encode
from ftl.crypto import Points, check_points
from ftl.errors import AlignmentError, CipherError

BATCH = 8192
"""Entries per message: 256 KB of points, 80 KB of tags; a third of a second of work."""

T = TypeVar("T")


@dataclass(frozen=True)
class Post:
    """One party's way to the others within a session.

    Attributes:
        channel: the way.
        timeout: seconds to wait for any one message.
        session: 32 bytes; empty until all have said hello.
    """

    channel: Channel
    timeout: float
    session: bytes = b""

    def send(self, peer: str, topic: str, kind: Callable[..., Any], **fields: Any) -> None:
        """Send a message of `kind`, with the session."""
        self.channel.send(peer, f"align/{topic}", encode(kind(session=self.session, **fields)))

    def greet(self, peer: str, hello: Hello) -> None:
        """Send the one message that belongs to no session yet."""
        self.channel.send(peer, "align/hello", encode(hello))

    def receive(self, peer: str, topic: str, kind: type[T]) -> T:
        """The next message of `peer` under `topic`.

        Raises:
            AlignmentError: it is of another session: an old one replayed, or another run's.
            ProtocolError: it is not of `kind`.
            ChannelTimeout: nothing came.
        """
        name = f"align/{topic}"
        message = decode(self.channel.receive(peer, name, self.timeout), kind, sender=peer, topic=name)
        if self.session and getattr(message, "session", self.session) != self.session:
            raise self.refusal(peer, "sent a message of another run")
        return message

    def batch(self, peer: str, topic: str, first: int, total: int, width: int) -> NDArray[np.uint8]:
        """uint8, shape (k, width): entries from `first` on of a list of `total`, a full batch unless it ends before."""
        message = self.receive(peer, topic, Batch)
        if message.first != first:
            raise self.refusal(peer, f"sent people from {message.first} on where {first} were due (align/{topic})")
        due = (min(BATCH, total - first), width)
        if message.rows.shape != due:
            raise self.refusal(peer, f"sent an array of shape {message.rows.shape} where {due} was due (align/{topic})")
        return message.rows

    def points(self, peer: str, topic: str, first: int, total: int) -> Points:
        """A batch of points, each on the curve's or its twist's large subgroup and written in the one way."""
        points = self.batch(peer, topic, first, total, 32)
        try:
            check_points(points)
        except CipherError as exc:
            raise self.refusal(peer, f"sent points that are none (align/{topic}): {exc.message}") from exc
        return points

    def refusal(self, peer: str, what: str) -> AlignmentError:
        """The error that ends a run in which `peer` does not keep to the protocol."""
        return AlignmentError(
            f"{self.channel.me} refused the alignment: {peer!r} {what}.",
            cure=f"See that {peer!r} runs the same version; if it does, ask its administrator what it runs.",
        )
