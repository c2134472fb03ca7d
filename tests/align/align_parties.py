"""Several parties' alignments at once, over channels in memory; and peers that change, lose or stop what they send."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ftl.align import Alignment, AlignmentSettings, align
from ftl.align.messages import Batch, Done, Have, Hello, Plan, Shared, Size, Table
from ftl.channel import Channel, Recording, connect, decode, encode
from ftl.errors import ChannelError, FtlError

Texts = Sequence[str | None]
Lists = dict[str, list[str]]

KINDS: dict[str, Any] = {
    "align/hello": Hello,
    "align/size": Size,
    "align/plan": Plan,
    "align/have": Have,
    "align/table": Table,
    "align/shared": Shared,
    "align/done": Done,
    "align/union-size": Size,
}
"""Messages by their topic; all others are batches."""


def decoded(topic: str, payload: bytes, sender: str = "") -> Any:
    return decode(payload, KINDS.get(topic, Batch), sender=sender, topic=topic)


def run(
    lists: dict[str, Any],
    recording: Recording | None = None,
    *,
    result: str = "both",
    pad: Any = "none",
    alternatives: dict[str, Sequence[Texts]] | None = None,
    state: Path | None = None,
    wrap: Callable[[Channel], Channel] = lambda channel: channel,
) -> dict[str, Alignment]:
    """All parties' programs at once; the first party is the active one. Raises what the first to fail did."""
    outcomes = attempt(
        lists, recording, result=result, pad=pad, alternatives=alternatives, state=state, wrap=wrap, timeout=30
    )
    for outcome in outcomes.values():
        if isinstance(outcome, Exception):
            raise outcome
    return {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Alignment)}


def attempt(
    lists: dict[str, Any],
    recording: Recording | None = None,
    *,
    result: str = "both",
    pad: Any = "none",
    alternatives: dict[str, Sequence[Texts]] | None = None,
    state: Path | None = None,
    wrap: Callable[[Channel], Channel] = lambda channel: channel,
    timeout: float = 5,
) -> dict[str, Alignment | FtlError]:
    """What each party's program returned or raised."""
    ends = connect(list(lists), recording)
    active = next(iter(lists))
    settings = AlignmentSettings.model_validate({"result": result, "pad": pad})

    def take_part(name: str) -> Alignment | FtlError:
        try:
            return align(
                wrap(ends[name]),
                active,
                lists[name],
                timeout=timeout,
                threads=1,
                alternatives=(alternatives or {}).get(name, ()),
                settings=settings,
                state=None if state is None else state / name,
            )
        except FtlError as exc:
            return exc
        finally:
            ends[name].close("its program has ended")

    with ThreadPoolExecutor(len(lists)) as threads:
        return dict(zip(lists, threads.map(take_part, lists), strict=True))


def people(lists: Lists, aligned: dict[str, Alignment]) -> Lists:
    return {name: [lists[name][row] for row in aligned[name].rows] for name in lists}


class Tampering:
    """A party's channel that changes what it sends under one topic."""

    def __init__(self, channel: Channel, topic: str, change: Callable[[Any], Any]) -> None:
        self._channel, self._topic, self._change = channel, topic, change
        self.me, self.peers = channel.me, channel.peers

    def send(self, to: str, topic: str, payload: bytes) -> None:
        if topic == self._topic:
            message = self._change(decoded(topic, payload, self.me))
            payload = message if isinstance(message, bytes) else encode(message)
        self._channel.send(to, topic, payload)

    def receive(self, sender: str, topic: str, timeout: float) -> bytes:
        return self._channel.receive(sender, topic, timeout)


class Breaking:
    """A party's channel that is lost after a number of messages was sent; `taken` lists what it received."""

    def __init__(self, channel: Channel, messages: int, taken: list[tuple[str, str, bytes]] | None = None) -> None:
        self._channel, self._left = channel, messages
        self._taken: list[tuple[str, str, bytes]] = [] if taken is None else taken
        self.me, self.peers = channel.me, channel.peers

    def send(self, to: str, topic: str, payload: bytes) -> None:
        self._left -= 1
        if self._left < 0:
            raise ChannelError("the connection was lost")
        self._channel.send(to, topic, payload)

    def receive(self, sender: str, topic: str, timeout: float) -> bytes:
        payload = self._channel.receive(sender, topic, timeout)
        self._taken.append((sender, topic, payload))
        return payload


def small_batches(patch: pytest.MonkeyPatch, size: int = 5) -> None:
    """Messages of few people, so that short lists need several."""
    for module in ("asking", "answering", "post", "secret_order"):
        patch.setattr(f"ftl.align.{module}.BATCH", size)
