"""The only way out of a party: bytes to a named peer, under a topic."""

from typing import Protocol


class Channel(Protocol):
    """One party's end. Messages between two parties under one topic arrive in the order they were sent.

    Topics name the message kind and, where it repeats, the round: ``"tree/12/sums/2"``.
    """

    @property
    def me(self) -> str:
        """This party's name."""
        ...

    @property
    def peers(self) -> tuple[str, ...]:
        """Names of the other parties of this run."""
        ...

    def send(self, to: str, topic: str, payload: bytes) -> None:
        """Deliver `payload` to a peer.

        Raises:
            ChannelError: the peer cannot be reached.
        """
        ...

    def receive(self, sender: str, topic: str, timeout: float) -> bytes:
        """Wait for the next message of `sender` under `topic`, at most `timeout` seconds.

        Raises:
            ChannelTimeout: names this party, the awaited one, the topic and the seconds waited.
        """
        ...
