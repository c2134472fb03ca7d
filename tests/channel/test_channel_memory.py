"""The in-memory channel and its recording."""

import threading
import time

import pytest

from ftl.channel import Inbox, Message, RecordedChannel, Recording, connect
from ftl.errors import ChannelError, ChannelTimeout


def test_messages_under_one_topic_arrive_in_the_order_of_sending() -> None:
    ends = connect(["bank", "partner"])
    for number in range(100):
        ends["bank"].send("partner", "tree/1", bytes([number]))
        ends["bank"].send("partner", "other", b"x")
    received = [ends["partner"].receive("bank", "tree/1", 1) for _ in range(100)]
    assert received == [bytes([number]) for number in range(100)]


def test_a_message_is_only_seen_by_its_receiver_and_under_its_sender() -> None:
    ends = connect(["bank", "partner", "shop"])
    ends["bank"].send("partner", "t", b"for partner")
    with pytest.raises(ChannelTimeout, match="shop waited 0 s for 'bank' to send 't'"):
        ends["shop"].receive("bank", "t", 0)
    with pytest.raises(ChannelTimeout, match="partner waited 0 s for 'shop' to send 't'"):
        ends["partner"].receive("shop", "t", 0)
    assert ends["partner"].receive("bank", "t", 0) == b"for partner"


def test_a_timeout_names_both_parties_the_topic_and_the_seconds_and_is_worth_a_retry() -> None:
    ends = connect(["bank", "partner"])
    start = time.monotonic()
    with pytest.raises(ChannelTimeout, match=r"bank waited 0\.05 s for 'partner' to send 'align/hello'") as caught:
        ends["bank"].receive("partner", "align/hello", 0.05)
    assert 0.05 <= time.monotonic() - start < 2
    assert caught.value.transient


def test_a_waiting_party_is_woken_by_a_message_of_another_thread() -> None:
    ends = connect(["bank", "partner"])
    threading.Timer(0.05, ends["partner"].send, ("bank", "t", b"late")).start()
    assert ends["bank"].receive("partner", "t", 5) == b"late"


def test_a_party_that_has_ended_is_named_at_once_but_only_after_its_last_message() -> None:
    ends = connect(["bank", "partner"])
    ends["partner"].send("bank", "t", b"last")
    ends["partner"].close("label with one class")
    assert ends["bank"].receive("partner", "t", 60) == b"last"
    with pytest.raises(ChannelError, match=r"'partner' \(t\), but 'partner' has ended: label with one class"):
        ends["bank"].receive("partner", "t", 60)


@pytest.mark.parametrize("stranger", ["shop", "bank"])
def test_a_stranger_and_oneself_are_no_peers(stranger: str) -> None:
    bank = connect(["bank", "partner"])["bank"]
    with pytest.raises(ChannelError, match=f"'bank' has no peer '{stranger}' in this run; its peers are partner"):
        bank.send(stranger, "t", b"")
    with pytest.raises(ChannelError, match=f"has no peer '{stranger}'"):
        bank.receive(stranger, "t", 0)


def test_eight_threads_lose_and_repeat_nothing() -> None:
    inbox = Inbox("bank")
    received: list[bytes] = []

    def send(sender: int) -> None:
        for number in range(200):
            inbox.put("partner", "t", b"%d/%d" % (sender, number))

    def take() -> None:
        received.extend(inbox.take("partner", "t", 10) for _ in range(200))

    threads = [threading.Thread(target=send, args=(k,)) for k in range(4)]
    threads += [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(received) == sorted(b"%d/%d" % (k, number) for k in range(4) for number in range(200))


def test_a_recording_keeps_what_left_and_counts_it_by_party() -> None:
    recording = Recording(payloads=True)
    ends = connect(["bank", "partner"], recording)
    ends["bank"].send("partner", "a", b"12345")
    ends["partner"].send("bank", "b", b"67")
    ends["bank"].send("partner", "a", b"")
    assert recording.messages == [
        Message("bank", "partner", "a", b"12345"),
        Message("partner", "bank", "b", b"67"),
        Message("bank", "partner", "a", b""),
    ]
    assert recording.bytes_sent == {"bank": 5, "partner": 2}
    assert recording.sent == {"bank": 2, "partner": 1}


def test_a_recorded_channel_counts_without_keeping_and_counts_nothing_undelivered() -> None:
    recording = Recording()
    bank = RecordedChannel(connect(["bank", "partner"])["bank"], recording)
    bank.send("partner", "a", b"123")
    with pytest.raises(ChannelError, match="no peer 'shop'"):
        bank.send("shop", "a", b"123")
    assert (bank.me, bank.peers) == ("bank", ("partner",))
    assert recording.messages == []
    assert recording.bytes_sent == {"bank": 3}
