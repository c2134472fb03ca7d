"""Channels between the threads of one process: for tests, benchmarks and ``ftl run --in-process``."""

import threading
from collections import defaultdict, deque
from collections.abc import Sequence

from ftl.channel.recording import Message, Recording
from ftl.errors import ChannelError, ChannelTimeout


class Inbox:
    """What has arrived at one party and was not received yet, by sender and topic; safe to use from several threads.

    Any carrier can deliver into it: a thread of the same process, or a handler of network messages.

    Args:
        me: the party it belongs to; named in errors.
    """

    def __init__(self, me: str) -> None:
        self.me = me
        self._waiting: dict[tuple[str, str], deque[bytes]] = defaultdict(deque)
        self._closed: dict[str, str] = {}
        self._changed = threading.Condition()

    def put(self, sender: str, topic: str, payload: bytes) -> None:
        """Deliver one message; never blocks for long."""
        with self._changed:
            self._waiting[sender, topic].append(payload)
            self._changed.notify_all()

    def close(self, sender: str, reason: str) -> None:
        """Nothing more comes from `sender`; who waits for it gets `reason` at once instead of a timeout."""
        with self._changed:
            self._closed[sender] = reason
            self._changed.notify_all()

    def take(self, sender: str, topic: str, timeout: float) -> bytes:
        """The oldest message of `sender` under `topic`; waits at most `timeout` seconds for it.

        Raises:
            ChannelError: the sender has ended, with its reason.
            ChannelTimeout: names this party, the awaited one, the topic and the seconds waited.
        """
        key = (sender, topic)
        with self._changed:
            arrived = self._changed.wait_for(lambda: self._waiting.get(key) or sender in self._closed, timeout)
            if self._waiting.get(key):
                return self._next(key)
        if arrived:
            raise ChannelError(
                f"{self.me} waited for {sender!r} ({topic}), but {sender!r} has ended: {self._closed[sender]}",
                cure=f"Look at the log of {sender!r}.",
            )
        raise ChannelTimeout(
            f"{self.me} waited {timeout:g} s for {sender!r} to send {topic!r}; nothing came.",
            cure=f"Look at the log of {sender!r}, and whether it can reach {self.me!r}; or allow a longer timeout.",
        )

    def _next(self, key: tuple[str, str]) -> bytes:
        queue = self._waiting[key]
        payload = queue.popleft()
        if not queue:
            del self._waiting[key]
        return payload


class MemoryChannel:
    """One party's end of a set of parties that live in one process; see :func:`connect`."""

    def __init__(self, me: str, inboxes: dict[str, Inbox], recording: Recording | None = None) -> None:
        self._me = me
        self._inboxes = inboxes
        self._recording = recording

    @property
    def me(self) -> str:
        """This party's name."""
        return self._me

    @property
    def peers(self) -> tuple[str, ...]:
        """Names of the other parties, in the order given to :func:`connect`."""
        return tuple(name for name in self._inboxes if name != self._me)

    def send(self, to: str, topic: str, payload: bytes) -> None:
        """Deliver `payload`; raises ChannelError when there is no such peer."""
        self._require(to)
        if self._recording is not None:
            self._recording.note(Message(self._me, to, topic, payload))
        self._inboxes[to].put(self._me, topic, payload)

    def receive(self, sender: str, topic: str, timeout: float) -> bytes:
        """Wait for a message; see :meth:`Inbox.take`."""
        self._require(sender)
        return self._inboxes[self._me].take(sender, topic, timeout)

    def close(self, reason: str) -> None:
        """This party sends nothing more; call it when its program has ended, so that no peer waits in vain."""
        for peer in self.peers:
            self._inboxes[peer].close(self._me, reason)

    def _require(self, peer: str) -> None:
        if peer not in self.peers:
            raise ChannelError(
                f"{self._me!r} has no peer {peer!r} in this run; its peers are {', '.join(self.peers) or 'none'}.",
                cure="Check the party's name in consortium.yaml.",
            )


def connect(names: Sequence[str], recording: Recording | None = None) -> dict[str, MemoryChannel]:
    """Channels between `names`, one per party, all in this process.

    Args:
        names: the parties, each once.
        recording: notes every message that is sent; None for none.

    Returns:
        party to its end of the channel.
    """
    inboxes = {name: Inbox(name) for name in names}
    return {name: MemoryChannel(name, inboxes, recording) for name in inboxes}
