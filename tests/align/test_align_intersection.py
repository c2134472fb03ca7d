"""The private set intersection against plain set intersection, and what of it can be seen from outside."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
from align_parties import decoded, people, run, small_batches
from hypothesis import given, settings
from hypothesis import strategies as st

from ftl.align import align
from ftl.channel import Recording, connect
from ftl.crypto import hash_to_points
from ftl.errors import AlignmentError, FtlError

IDS = st.lists(
    st.sampled_from([f"{a}|{b}" for a in ("310104", "张伟", "é", "e\u0301", "") for b in range(6)]), unique=True
)


@given(st.lists(IDS, min_size=2, max_size=4))
@settings(max_examples=20, deadline=None)
def test_every_party_gets_its_rows_of_exactly_the_shared_people_in_one_order(ids: list[list[str]]) -> None:
    lists = {f"party-{number}": some for number, some in enumerate(ids)}
    found = people(lists, run(lists))
    assert set(found["party-0"]) == set.intersection(*(set(some) for some in ids))
    assert all(names == found["party-0"] for names in found.values())


@given(st.lists(st.text(st.characters(codec="utf-8")), unique=True, max_size=8), st.integers(0, 8))
@settings(max_examples=10, deadline=None)
def test_any_text_is_an_identifier_and_only_equal_texts_match(ids: list[str], shared: int) -> None:
    lists = {"bank": ids, "partner": [text + "\u200b" for text in ids[shared:]] + ids[:shared]}
    expected = set(ids) & set(lists["partner"])
    assert set(people(lists, run(lists))["partner"]) == expected


@pytest.mark.parametrize(("bank", "partner"), [(25, 7), (7, 25), (10, 10), (20, 0), (0, 20), (11, 1), (0, 0)])
def test_lists_of_unequal_length_are_matched_across_several_batches(
    bank: int, partner: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_batches(monkeypatch)
    lists = {
        "bank": [f"p{i}" for i in range(bank)],
        "partner": [f"p{i * 2}" for i in range(partner)],
        "shop": [f"p{i}" for i in reversed(range(40))],
    }
    aligned = run(lists)
    found = people(lists, aligned)
    assert sorted(found["bank"]) == sorted(set(lists["bank"]) & set(lists["partner"]))
    assert found["bank"] == found["partner"] == found["shop"]
    assert aligned["bank"].people == {"partner": partner, "shop": 40}
    assert aligned["partner"].people.get("bank") == bank
    asking = "bank" if bank <= partner else "partner"
    assert {name for name in lists if "shop" in aligned[name].people} == {"bank", asking}


def test_no_shared_people_are_empty_rows_everywhere() -> None:
    aligned = run({"bank": ["a", "b"], "partner": ["c"], "shop": ["a", "c"]})
    assert [(found.rows.dtype, found.rows.shape) for found in aligned.values()] == [(np.dtype(np.int64), (0,))] * 3


def test_the_order_repeats_in_every_run_whatever_the_order_of_the_tables() -> None:
    ids = [f"id-{i}" for i in range(50)]
    lists = {"bank": ids, "partner": ids[::-1]}
    first = people(lists, run(lists))["bank"]
    turned = {"bank": ids[25:] + ids[:25], "partner": ids}
    assert people(turned, run(turned))["bank"] == first
    assert first != ids


def test_an_identifier_that_occurs_twice_is_refused_with_the_count_before_anything_is_sent() -> None:
    recording = Recording()
    bank = connect(["bank", "partner"], recording)["bank"]
    with pytest.raises(AlignmentError, match="bank: 3 of 6 rows have an identifier that another row has too") as caught:
        align(bank, "bank", ["secret", "b", "secret", "secret", "b", "c"], timeout=1)
    assert "secret" not in str(caught.value)
    assert recording.sent == {}


def test_a_party_alone_has_all_its_people_in_the_common_order() -> None:
    ids = [f"id-{i}" for i in range(9)]
    alone = people({"bank": ids}, run({"bank": ids}))["bank"]
    assert alone == people({"bank": ids, "shop": ids}, run({"bank": ids, "shop": ids}))["bank"]


def test_an_active_party_that_takes_no_part_is_refused() -> None:
    with pytest.raises(AlignmentError, match="'shop', named as the active party, takes no part"):
        align(connect(["bank", "partner"])["bank"], "shop", ["a"], timeout=1)


def test_an_identifier_that_is_not_unicode_is_refused_without_showing_it() -> None:
    ends = connect(["bank", "partner"])
    with ThreadPoolExecutor(2) as threads:
        other = threads.submit(align, ends["partner"], "bank", ["a"], timeout=0.5)
        with pytest.raises(AlignmentError, match="bank has an identifier that is not Unicode") as caught:
            align(ends["bank"], "bank", ["secret\ud800"], timeout=5)
        assert isinstance(other.exception(), FtlError)
    assert "secret" not in str(caught.value)


def test_no_identifier_and_no_hash_of_one_leaves_a_party() -> None:
    ids = [f"31010419900{i}" for i in range(1000, 1040)]
    lists = {"bank": ids, "partner": [*ids[10:], "31010419999999"], "shop": ids[5:]}
    recording = Recording(payloads=True)
    run(lists, recording)
    sessions = {found for message in recording.messages for found in salts_and_sessions(message.payload)}
    left = b"".join(message.payload for message in recording.messages)
    for text in {*ids, "31010419999999"}:
        raw = text.encode()
        digests = [hashlib.new(name, raw).digest() for name in ("md5", "sha1", "sha256", "sha512")]
        digests += [hashlib.sha256(salt + raw).digest() for salt in sessions]
        digests += [hashlib.sha512(salt + raw).digest()[:32] for salt in sessions]
        digests += [hashlib.sha256(raw + salt).digest() for salt in sessions]
        assert raw not in left
        assert not any(digest in left or digest.hex().encode() in left for digest in digests)
    assert len(sessions) >= 6


def test_not_even_the_point_of_an_identifier_leaves_a_party(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, salts = [f"id-{i}" for i in range(30)], set()

    def hashed(texts: list[bytes], salt: bytes) -> np.ndarray:
        salts.add(salt)
        return hash_to_points(texts, salt)

    monkeypatch.setattr("ftl.align.deck.hash_to_points", hashed)
    recording = Recording(payloads=True)
    run({"bank": ids, "partner": ids, "shop": ids}, recording)
    left = b"".join(message.payload for message in recording.messages)
    assert len(salts) == 1
    points = hash_to_points([text.encode() for text in ids], salts.pop())
    assert not any(point.tobytes() in left for point in points)


@pytest.mark.parametrize("result", ["both", "one", "order"])
def test_nothing_that_leaves_can_be_linked_between_two_runs_of_the_same_lists(result: str) -> None:
    ids = [f"id-{i}" for i in range(60)]
    seen = []
    for _ in range(2):
        recording = Recording(payloads=True)
        run({"bank": ids, "partner": ids}, recording, result=result)
        seen.append(set().union(*(entries(message.topic, message.payload) for message in recording.messages)))
    assert len(seen[0]) >= 3 * 60
    assert seen[0].isdisjoint(seen[1])


def test_nothing_that_leaves_can_be_linked_between_two_parties_of_a_run() -> None:
    ids = [f"id-{i}" for i in range(60)]
    recording = Recording(payloads=True)
    run({"bank": ids, "partner": ids, "shop": ids}, recording)
    seen = {peer: set() for peer in ("partner", "shop")}
    for message in recording.messages:
        for peer in {message.sender, message.receiver} & set(seen):
            seen[peer] |= rows_of(message.topic, message.payload)
    assert min(map(len, seen.values())) >= 3 * 60
    assert seen["partner"].isdisjoint(seen["shop"])


def test_sizes_of_messages_depend_on_numbers_of_people_and_on_nothing_else() -> None:
    sizes = []
    for prefix in ("", "a much longer identifier "):
        recording = Recording(payloads=True)
        lists = {name: [f"{prefix}{i}" for i in range(start, start + 30)] for name, start in (("a", 0), ("b", 10))}
        run(lists, recording)
        sizes.append(sorted((message.topic, len(message.payload)) for message in recording.messages))
    assert sizes[0] == sizes[1]


def salts_and_sessions(payload: bytes) -> list[bytes]:
    content = msgspec.msgpack.decode(payload)
    return [value for value in content.values() if isinstance(value, bytes)]


def entries(topic: str, payload: bytes) -> set[bytes]:
    """Session, salt, key, and the points or tags of a message."""
    values = [getattr(decoded(topic, payload), name, b"") for name in ("session", "salt", "public")]
    return rows_of(topic, payload) | {value for value in values if value}


def rows_of(topic: str, payload: bytes) -> set[bytes]:
    message = decoded(topic, payload)
    return {bytes(row) for row in getattr(message, "rows", getattr(message, "tags", ()))}
