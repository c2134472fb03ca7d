"""A party's channel for one run: counts what leaves, and ends every wait when a peer has failed."""

import logging
import threading
import time
from collections.abc import Callable

import msgspec

from ftl.channel import Channel
from ftl.errors import ChannelError, ChannelTimeout, FtlError
from ftl.federation.failure import Failure

log = logging.getLogger(__name__)

ABORT = "abort"
"""Topic under which a failing party tells its peers; recipes must not use it."""
LOOK_AROUND = 0.5
"""Seconds of waiting after which a party looks whether any peer has failed."""


class Link:
    """Channel of one run.

    Args:
        channel: the way to the other parties.
        clock: seconds, for deadlines.

    Attributes:
        bytes_sent: payload bytes that left this party.
        messages: messages that left this party.
        aborted: why a peer ended the run, once it did.
    """

    def __init__(self, channel: Channel, clock: Callable[[], float] = time.monotonic) -> None:
        self._channel = channel
        self._clock = clock
        self._lock = threading.Lock()
        self.bytes_sent = 0
        self.messages = 0
        self.aborted: Failure | None = None

    @property
    def me(self) -> str:
        """This party's name."""
        return self._channel.me

    @property
    def peers(self) -> tuple[str, ...]:
        """Names of the other parties of this run."""
        return self._channel.peers

    def send(self, to: str, topic: str, payload: bytes) -> None:
        """Deliver `payload` to a peer and count it.

        Raises:
            ChannelError: the peer cannot be reached.
            FtlError: of a peer that has failed and is therefore not there.
        """
        try:
            self._channel.send(to, topic, payload)
        except ChannelError:
            self._look_around()
            raise
        with self._lock:
            self.bytes_sent += len(payload)
            self.messages += 1

    def receive(self, sender: str, topic: str, timeout: float) -> bytes:
        """Wait for the next message of `sender` under `topic`, at most `timeout` seconds.

        Raises:
            ChannelTimeout: names this party, the awaited one, the topic and the seconds waited.
            FtlError: of the peer that has failed meanwhile.
        """
        deadline = self._clock() + timeout
        while True:
            left = deadline - self._clock()
            try:
                return self._channel.receive(sender, topic, max(0.0, min(LOOK_AROUND, left)))
            except ChannelTimeout as exc:
                self._look_around()
                if left <= LOOK_AROUND:
                    raise self._too_late(sender, topic, timeout) from exc

    def abort(self, failure: Failure) -> None:
        """Tell every peer why this party ends the run. A peer that cannot be told will run into its timeout."""
        payload = msgspec.json.encode(failure)
        for peer in self.peers:
            try:
                self._channel.send(peer, ABORT, payload)
            except FtlError:
                log.warning("federation.abort not delivered", extra={"party": self.me, "peer": peer})

    def _look_around(self) -> None:
        """Raise a failed peer's error."""
        for peer in self.peers:
            try:
                payload = self._channel.receive(peer, ABORT, 0.0)
            except ChannelTimeout:
                continue
            self.aborted = msgspec.json.decode(payload, type=Failure)
            raise self.aborted.error()

    def _too_late(self, sender: str, topic: str, timeout: float) -> ChannelTimeout:
        return ChannelTimeout(
            f"{self.me} waited {timeout:g} s for {sender} to send {topic!r}.",
            cure=f"See whether the node of {sender} still works, or make training.timeout_seconds longer.",
        )
