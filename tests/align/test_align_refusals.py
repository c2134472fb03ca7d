"""A peer that does not keep to the protocol is refused by name."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
import pytest
from align_parties import Tampering, attempt, decoded, run, small_batches

from ftl.align import AlignmentSettings, align
from ftl.align.messages import Batch, Hello
from ftl.channel import Channel, Recording, connect, encode
from ftl.crypto.curve import PRIME, SMALL_ORDER
from ftl.errors import AlignmentError, ChannelTimeout, FtlError, ProtocolError

IDS = [f"id-{i}" for i in range(12)]
PAIR = ("bank", "partner")
THREE = ("bank", "partner", "shop")


def refusal(
    cheat: str,
    topic: str,
    change: Callable[[Any], Any],
    parties: tuple[str, ...] = PAIR,
    victim: str | None = None,
    result: str = "both",
) -> FtlError:
    """What `victim` raises when `cheat` changes its messages under `topic`; bank asks, the lists being equally long."""

    def wrap(channel: Channel) -> Channel:
        return Tampering(channel, topic, change) if channel.me == cheat else channel

    outcomes = attempt(dict.fromkeys(parties, IDS), wrap=wrap, result=result)
    error = outcomes[victim or next(name for name in parties if name != cheat)]
    assert isinstance(error, FtlError), error
    return error


def with_point(u: int) -> Callable[[Batch], Batch]:
    def change(batch: Batch) -> Batch:
        points = batch.rows.copy()
        points[3] = list(u.to_bytes(32, "little"))
        return msgspec.structs.replace(batch, rows=points)

    return change


def changed(**fields: Any) -> Callable[[Any], Any]:
    return lambda message: msgspec.structs.replace(message, **fields)


def rows(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Batch], Batch]:
    return lambda batch: msgspec.structs.replace(batch, rows=change(batch.rows))


POINTS = [("bank", "align/points", "both"), ("partner", "align/doubled", "both")]
ORDER_POINTS = [
    ("partner", "align/own", "order"),
    ("bank", "align/own", "order"),
    ("partner", "align/returned", "order"),
    ("bank", "align/union", "order"),
    ("partner", "align/order", "order"),
    ("bank", "align/blinded", "order"),
    ("partner", "align/unblinded", "order"),
]


@pytest.mark.parametrize("u", SMALL_ORDER)
@pytest.mark.parametrize(("cheat", "topic", "result"), POINTS)
def test_a_point_of_small_order_is_refused(cheat: str, topic: str, result: str, u: int) -> None:
    error = refusal(cheat, topic, with_point(u), result=result)
    assert isinstance(error, AlignmentError)
    assert f"{cheat!r} sent points that are none" in error.message
    assert "1 of 12 points are of small order" in error.message


@pytest.mark.parametrize("u", [PRIME + 4, 2**255 + 4])
@pytest.mark.parametrize(("cheat", "topic", "result"), POINTS)
def test_a_point_that_is_not_canonical_is_refused(cheat: str, topic: str, result: str, u: int) -> None:
    assert "not written as numbers below 2^255 - 19" in refusal(cheat, topic, with_point(u), result=result).message


@pytest.mark.parametrize(("cheat", "topic", "result"), ORDER_POINTS)
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (with_point(1), "of small order"),
        (with_point(PRIME + 4), "not written as numbers"),
        (rows(lambda points: points[[0, 0, *range(2, len(points))]]), "repeated 1 of 12 points"),
        (rows(lambda points: points[1:]), "sent an array of shape"),
    ],
)
def test_points_of_a_secret_order_are_checked_as_well(
    cheat: str, topic: str, result: str, change: Callable[[Batch], Batch], why: str
) -> None:
    with pytest.raises(AlignmentError, match=f"'{cheat}' .*{why}"):
        raise refusal(cheat, topic, change, result=result)


@pytest.mark.parametrize(
    ("cheat", "topic", "what"),
    [
        ("bank", "align/points", "points of its people"),
        ("partner", "align/doubled", "points it was asked to multiply"),
        ("partner", "align/tags", "tags of its people"),
    ],
)
def test_what_repeats_is_refused_with_the_count(cheat: str, topic: str, what: str) -> None:
    error = refusal(cheat, topic, rows(lambda entries: entries[[0, 0, 0, *range(3, 12)]]))
    assert isinstance(error, AlignmentError)
    assert f"{cheat!r} repeated 2 of the 12 {what}" in error.message


@pytest.mark.parametrize(
    ("cheat", "topic"), [("bank", "align/points"), ("partner", "align/doubled"), ("partner", "align/tags")]
)
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (rows(lambda entries: entries[:-1]), "sent an array of shape"),
        (rows(lambda entries: entries[:, 1:]), "sent an array of shape"),
        (rows(np.ravel), "sent an array of shape"),
        (changed(first=1), "sent people from 1 on where 0 were due"),
        (changed(session=bytes(32)), "sent a message of another run"),
    ],
)
def test_entries_of_a_wrong_number_length_place_or_run_are_refused(
    cheat: str, topic: str, change: Callable[[Batch], Batch], why: str
) -> None:
    with pytest.raises(AlignmentError, match=f"'{cheat}' .*{why}"):
        raise refusal(cheat, topic, change)


@pytest.mark.parametrize("change", [rows(lambda points: points.astype(np.int64)), lambda batch: encode(batch)[:-7]])
def test_points_of_another_dtype_or_cut_off_are_no_message(change: Callable[[Batch], Any]) -> None:
    with pytest.raises(ProtocolError, match="'partner' sent under 'align/doubled' what is not a Batch"):
        raise refusal("partner", "align/doubled", change)


@pytest.mark.parametrize("cheat", ["bank", "partner"])
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (changed(version=1), "speaks version 1 of the alignment, not 2"),
        (changed(salt=b"short"), "opened the alignment with a wrong salt or key"),
        (changed(public=b"short"), "opened the alignment with a wrong salt or key"),
        (changed(public=bytes(32)), "opened the alignment with a key that is none"),
        (changed(result="one"), "wants the result 'one', not 'both'"),
        (changed(alternatives=2), "has 2 lists of identifiers, not 1"),
    ],
)
def test_an_opening_that_cannot_be_is_refused(cheat: str, change: Callable[[Hello], Hello], why: str) -> None:
    with pytest.raises(AlignmentError, match=f"'{cheat}' .*{why}"):
        raise refusal(cheat, "align/hello", change)


@pytest.mark.parametrize("people", [-1, 1 << 40])
def test_an_impossible_number_of_people_is_refused(people: int) -> None:
    for result in ("both", "order"):
        with pytest.raises(AlignmentError, match=r"bank refused .* 'partner' has an impossible number of people"):
            raise refusal("partner", "align/size", changed(people=people), result=result)


@pytest.mark.parametrize(
    ("change", "result", "why"),
    [
        (changed(asking="nobody"), "both", "impossible parties or numbers of people"),
        (changed(people={}), "both", "impossible parties or numbers of people"),
        (changed(people={"bank": 12, "stranger": 1}), "both", "impossible parties or numbers of people"),
        (changed(people={"bank": -5}), "both", "impossible parties or numbers of people"),
        (changed(people={"bank": 12, "partner": 7}), "both", "a wrong length of this party's list"),
        (changed(asking="partner", people={"bank": 12, "partner": 12}), "one", "in which another party learns"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(change: Callable[[Any], Any], result: str, why: str) -> None:
    with pytest.raises(AlignmentError, match=f"'bank' sent a plan .*{why}"):
        raise refusal("bank", "align/plan", change, result=result)


@pytest.mark.parametrize(("answers", "offered"), [(12, 0), (0, 12), (-1, 0), (0, -1)])
def test_a_peer_that_says_to_have_what_it_was_not_sent_is_refused(answers: int, offered: int) -> None:
    with pytest.raises(AlignmentError, match="'bank' says that it has what it was not sent"):
        raise refusal("bank", "align/have", changed(answers=answers, offered=offered))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda tags: tags[[0, 0, *range(2, 12)]], "named a person twice"),
        (lambda tags: tags ^ 1, "named a person outside the list"),
        (lambda tags: tags[:, 1:], "named people by an array of shape"),
        (lambda tags: tags[0], "named people by an array of shape"),
    ],
)
def test_a_common_order_that_cannot_be_is_refused(change: Callable[[np.ndarray], np.ndarray], why: str) -> None:
    def cheat(message: Any) -> Any:
        return msgspec.structs.replace(message, tags=np.ascontiguousarray(change(message.tags)))

    for parties in (PAIR, THREE):
        with pytest.raises(AlignmentError, match=f"partner refused the alignment: 'bank' {why}"):
            raise refusal("bank", "align/shared", cheat, parties)


def test_a_result_for_a_party_that_may_not_learn_it_is_refused() -> None:
    def wrap(channel: Channel) -> Channel:
        return Telling(channel) if channel.me == "bank" else channel

    outcomes = attempt(dict.fromkeys(PAIR, IDS), result="one", wrap=wrap)
    assert isinstance(outcomes["partner"], AlignmentError)
    assert "'bank' named people whom this party may not learn" in outcomes["partner"].message


class Telling(Tampering):
    """Sends the peer's tags back to it as the result."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel, "align/shared", lambda message: msgspec.structs.replace(message, tags=self._tags))
        self._tags = np.empty(0, dtype=np.uint8)

    def receive(self, sender: str, topic: str, timeout: float) -> bytes:
        payload = super().receive(sender, topic, timeout)
        if topic == "align/tags":
            self._tags = decoded(topic, payload).rows
        return payload


@pytest.mark.parametrize(("slots", "number"), [(3, 0), (1 << 30, 0), (None, -1), (None, 64)])
def test_an_impossible_table_is_refused(slots: int | None, number: int) -> None:
    def change(table: Any) -> Any:
        return msgspec.structs.replace(table, slots=slots or table.slots, attempt=number)

    with pytest.raises(AlignmentError, match="bank refused the alignment: 'shop' announced an impossible table"):
        raise refusal("shop", "align/table", change, THREE, victim="bank")


def test_a_union_that_leaves_people_out_or_is_too_long_is_refused() -> None:
    with pytest.raises(AlignmentError, match="'bank' says that 12 and 12 people are 25"):
        raise refusal("bank", "align/union-size", changed(people=25), result="order")
    others = rows(lambda points: np.roll(points, 1, axis=0) ^ np.eye(1, 32, dtype=np.uint8)[0])
    with pytest.raises(AlignmentError, match="bank refused the alignment: 'partner' left people out of the union"):
        raise refusal("partner", "align/order", others, result="order")


def test_messages_of_an_earlier_run_are_refused_when_they_are_replayed() -> None:
    recording = Recording(payloads=True)
    run(dict.fromkeys(PAIR, IDS), recording)
    for cheat, victim in (PAIR, PAIR[::-1]):
        replay = connect(PAIR)
        for message in recording.messages:
            if message.sender == cheat:
                replay[cheat].send(victim, message.topic, message.payload)
        with pytest.raises(
            AlignmentError, match=f"{victim} refused the alignment: '{cheat}' sent a message of another"
        ):
            align(replay[victim], "bank", IDS, timeout=1)


def test_a_message_that_is_replayed_within_a_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    small_batches(monkeypatch)
    first: list[Any] = []

    def again(batch: Batch) -> Batch:
        first.append(batch)
        return first[0]

    with pytest.raises(AlignmentError, match="'partner' sent people from 0 on where 5 were due"):
        raise refusal("partner", "align/doubled", again)


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


def test_parties_that_want_different_results_do_not_start() -> None:
    ends = connect(PAIR)
    with ThreadPoolExecutor(2) as threads:
        futures = [
            threads.submit(align, ends[name], "bank", IDS, timeout=1, settings=AlignmentSettings(result=result))
            for name, result in zip(PAIR, ("both", "order"), strict=True)
        ]
        for future, name in zip(futures, PAIR[::-1], strict=True):
            with pytest.raises(AlignmentError, match=f"'{name}' wants the result"):
                future.result()
