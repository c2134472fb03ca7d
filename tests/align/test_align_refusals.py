"""A peer that does not keep to the protocol is refused by name."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
import pytest

from ftl.align import Alignment, align
from ftl.align.pair import Batch, Hello, Shared
from ftl.channel import Channel, Recording, connect, decode, encode
from ftl.crypto.curve import PRIME, SMALL_ORDER
from ftl.errors import AlignmentError, ChannelTimeout, FtlError, ProtocolError

IDS = [f"id-{i}" for i in range(12)]
KINDS: dict[str, Any] = {"align/hello": Hello, "align/points": Batch, "align/doubled": Batch, "align/shared": Shared}


class Tampering:
    """A party's channel that changes what it sends under one topic."""

    def __init__(self, channel: Channel, topic: str, change: Callable[[Any], Any]) -> None:
        self._channel = channel
        self._topic = topic
        self._change = change
        self.me = channel.me
        self.peers = channel.peers

    def send(self, to: str, topic: str, payload: bytes) -> None:
        if topic == self._topic:
            message = self._change(decode(payload, KINDS[topic], sender=self.me, topic=topic))
            payload = message if isinstance(message, bytes) else encode(message)
        self._channel.send(to, topic, payload)

    def receive(self, sender: str, topic: str, timeout: float) -> bytes:
        return self._channel.receive(sender, topic, timeout)


def refusal(cheat: str, topic: str, change: Callable[[Any], Any], ids: list[str] = IDS) -> FtlError:
    """What the honest party raises when `cheat` changes its messages under `topic`."""
    ends: dict[str, Any] = dict(connect(["bank", "partner"]))
    honest = {"bank": "partner", "partner": "bank"}[cheat]
    ends[cheat] = Tampering(ends[cheat], topic, change)

    def take_part(name: str) -> Alignment:
        try:
            return align(ends[name], "bank", ids, timeout=5, threads=1)
        finally:
            getattr(ends[name], "_channel", ends[name]).close("its program has ended")

    with ThreadPoolExecutor(2) as threads:
        futures = {name: threads.submit(take_part, name) for name in ends}
        error = futures[honest].exception()
    assert isinstance(error, FtlError), error
    return error


def with_point(u: int) -> Callable[[Batch], Batch]:
    def change(batch: Batch) -> Batch:
        points = batch.points.copy()
        points[3] = list(u.to_bytes(32, "little"))
        return msgspec.structs.replace(batch, points=points)

    return change


def changed(**fields: Any) -> Callable[[Any], Any]:
    return lambda message: msgspec.structs.replace(message, **fields)


@pytest.fixture(params=[("partner", "align/points"), ("bank", "align/points"), ("partner", "align/doubled")])
def batches(request: pytest.FixtureRequest) -> Any:
    """Every way on which points travel: who sends them, under which topic."""
    return request.param


@pytest.mark.parametrize("u", SMALL_ORDER)
def test_a_point_of_small_order_is_refused(batches: tuple[str, str], u: int) -> None:
    error = refusal(*batches, with_point(u))
    assert isinstance(error, AlignmentError)
    assert f"{batches[0]!r} sent points that are none" in error.message
    assert "1 of 12 points are of small order" in error.message


@pytest.mark.parametrize("u", [PRIME + 4, 2**255 + 4])
def test_a_point_that_is_not_canonical_is_refused(batches: tuple[str, str], u: int) -> None:
    assert "not written as numbers below 2^255 - 19" in refusal(*batches, with_point(u)).message


def test_a_point_that_repeats_is_refused(batches: tuple[str, str]) -> None:
    error = refusal(*batches, lambda batch: msgspec.structs.replace(batch, points=batch.points[[0, *range(11)]]))
    assert isinstance(error, AlignmentError)
    assert f"{batches[0]!r} repeated 1 of the 12 points" in error.message


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda b: msgspec.structs.replace(b, points=b.points[:-1]), "sent 11 points where 12 were due"),
        (lambda b: msgspec.structs.replace(b, points=b.points[:, :31]), r"shape \(n, 32\)|shape"),
        (lambda b: msgspec.structs.replace(b, points=b.points.ravel()), "points"),
        (changed(first=1), "sent people from 1 on where 0 were due"),
        (changed(session=bytes(32)), "sent a message of another run"),
    ],
)
def test_points_of_a_wrong_number_length_place_or_run_are_refused(
    batches: tuple[str, str], change: Callable[[Batch], Batch], why: str
) -> None:
    with pytest.raises(AlignmentError, match=f"'{batches[0]}' .*({why})"):
        raise refusal(*batches, change)


def test_points_of_another_dtype_or_cut_off_are_no_message(batches: tuple[str, str]) -> None:
    for change in (lambda b: msgspec.structs.replace(b, points=b.points.astype(np.int64)), lambda b: encode(b)[:-7]):
        with pytest.raises(ProtocolError, match=f"'{batches[0]}' sent under '{batches[1]}' what is not a Batch"):
            raise refusal(*batches, change)


@pytest.mark.parametrize("cheat", ["bank", "partner"])
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (changed(version=2), "speaks version 2 of the alignment, not 1"),
        (changed(salt=b"short"), "opened the alignment with a wrong salt"),
        (changed(people=-1), "an impossible number of people"),
        (changed(people=1 << 40), "an impossible number of people"),
    ],
)
def test_an_opening_that_cannot_be_is_refused(cheat: str, change: Callable[[Hello], Hello], why: str) -> None:
    with pytest.raises(AlignmentError, match=f"'{cheat}' .*{why}"):
        raise refusal(cheat, "align/hello", change)


@pytest.mark.parametrize(
    ("positions", "why"),
    [
        ([0, 0], "named a person twice"),
        ([0, 12], "named a person outside the list"),
        ([-1, 3], "named a person outside the list"),
        ([[0, 1]], "named a person twice"),
    ],
)
def test_a_common_order_that_cannot_be_is_refused(positions: list[Any], why: str) -> None:
    with pytest.raises(AlignmentError, match=f"partner refused the alignment: 'bank' {why}"):
        raise refusal("bank", "align/shared", changed(positions=np.array(positions, dtype=np.int64)))


def test_messages_of_an_earlier_run_are_refused_when_they_are_replayed() -> None:
    recording = Recording(payloads=True)
    ends = connect(["bank", "partner"], recording)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda name: align(ends[name], "bank", IDS, timeout=5, threads=1), ends))
    replay = connect(["bank", "partner"])
    for message in recording.messages:
        if message.sender == "partner":
            replay["partner"].send("bank", message.topic, message.payload)
    with pytest.raises(AlignmentError, match="bank refused the alignment: 'partner' sent a message of another run"):
        align(replay["bank"], "bank", IDS, timeout=1)


class Mirror:
    """A peer that sends back whatever it gets."""

    def __init__(self) -> None:
        self.me, self.peers = "bank", ("partner",)
        self._sent: list[bytes] = []

    def send(self, _to: str, _topic: str, payload: bytes) -> None:
        self._sent.append(payload)

    def receive(self, _sender: str, _topic: str, _timeout: float) -> bytes:
        return self._sent.pop(0)


def test_a_peer_that_mirrors_messages_is_refused() -> None:
    with pytest.raises(AlignmentError, match="'partner' sent back this party's own salt"):
        align(Mirror(), "bank", IDS, timeout=1)


def test_a_silent_peer_is_named_with_what_was_awaited() -> None:
    bank = connect(["bank", "partner"])["bank"]
    with pytest.raises(ChannelTimeout, match=r"bank waited 0\.1 s for 'partner' to send 'align/hello'"):
        align(bank, "bank", IDS, timeout=0.1)
