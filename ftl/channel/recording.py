"""A channel that notes what leaves a party: figures for the report, payloads for the tests of privacy."""

import threading
from collections import Counter
from typing import NamedTuple

from ftl.channel.seam import Channel


class Message(NamedTuple):
    """One message as it left its sender."""

    sender: str
    receiver: str
    topic: str
    payload: bytes


class Recording:
    """What left which party; may be shared by the channels of several parties and threads.

    Args:
        payloads: also keep every message, in the order of sending. Off, only figures are kept.

    Attributes:
        messages: the messages, empty unless payloads are kept.
        sent: party to the number of messages it sent.
        bytes_sent: party to the bytes of the payloads it sent (without topic and transport).
    """

    def __init__(self, *, payloads: bool = False) -> None:
        self.messages: list[Message] = []
        self.sent: Counter[str] = Counter()
        self.bytes_sent: Counter[str] = Counter()
        self._payloads = payloads
        self._lock = threading.Lock()

    def note(self, message: Message) -> None:
        """Count a message, and keep it if payloads are kept."""
        with self._lock:
            self.sent[message.sender] += 1
            self.bytes_sent[message.sender] += len(message.payload)
            if self._payloads:
                self.messages.append(message)


class RecordedChannel:
    """Works around any channel and notes what is sent through it."""

    def __init__(self, channel: Channel, recording: Recording) -> None:
        self.inner = channel
        self.recording = recording

    @property
    def me(self) -> str:
        """This party's name."""
        return self.inner.me

    @property
    def peers(self) -> tuple[str, ...]:
        """Names of the other parties of this run."""
        return self.inner.peers

    def send(self, to: str, topic: str, payload: bytes) -> None:
        """Deliver, then note; what could not be delivered did not leave."""
        self.inner.send(to, topic, payload)
        self.recording.note(Message(self.me, to, topic, payload))

    def receive(self, sender: str, topic: str, timeout: float) -> bytes:
        """As the channel inside."""
        return self.inner.receive(sender, topic, timeout)
