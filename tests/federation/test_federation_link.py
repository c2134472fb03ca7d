"""What a party's link adds to its channel: counting, and ending every wait when a peer has failed."""

import threading
import time

import pytest

from ftl.channel import connect
from ftl.errors import ChannelTimeout, LakeConflict
from ftl.federation.failure import Failure, failure_at, told
from ftl.federation.link import Link


def test_a_waiting_party_learns_of_a_failed_peer_while_it_waits_for_another():
    ends = connect(["bank", "partner", "shop"])
    waiting = Link(ends["bank"])
    failure = failure_at("shop", LakeConflict("table t is being synced.", cure="Wait."))
    threading.Timer(0.2, Link(ends["shop"]).abort, [failure]).start()
    start = time.monotonic()
    with pytest.raises(LakeConflict, match=r"^shop: table t is being synced\. Wait\."):
        waiting.receive("partner", "anything", 30.0)
    assert time.monotonic() - start < 2
    assert waiting.aborted == failure
    assert waiting.aborted.transient


def test_messages_are_taken_in_order_and_counted_where_they_are_sent():
    ends = connect(["bank", "partner"])
    bank, partner = Link(ends["bank"]), Link(ends["partner"])
    for payload in (b"one", b"three"):
        bank.send("partner", "t", payload)
    assert [partner.receive("bank", "t", 1.0), partner.receive("bank", "t", 1.0)] == [b"one", b"three"]
    assert (bank.messages, bank.bytes_sent, partner.messages, partner.bytes_sent) == (2, 8, 0, 0)


@pytest.mark.parametrize("timeout", [0.0, 0.2, 0.7])
def test_a_timeout_names_both_parties_the_topic_and_the_whole_wait(timeout):
    start = time.monotonic()
    with pytest.raises(ChannelTimeout, match=rf"bank waited {timeout:g} s for partner to send 'tree/1'"):
        Link(connect(["bank", "partner"])["bank"]).receive("partner", "tree/1", timeout)
    assert timeout <= time.monotonic() - start < timeout + 0.5


def test_a_failure_keeps_its_kind_and_names_its_party_once():
    failure = failure_at("bank", LakeConflict("bank waits.", cure="Wait."))
    assert failure == Failure("lake_conflict", "bank waits.", "Wait.")
    assert told(failure.error()) == failure
    assert isinstance(Failure("code of a later version", "m").error(), Exception)
