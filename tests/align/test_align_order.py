"""A secret order: everybody has a place, the same people the same one, and nobody learns who is shared."""

import numpy as np
import pytest
from align_parties import decoded, run, small_batches
from hypothesis import given, settings
from hypothesis import strategies as st

from ftl.align import AlignmentSettings, align
from ftl.channel import Recording, connect
from ftl.errors import AlignmentError

IDS = st.lists(st.sampled_from([f"id-{i}" for i in range(14)]), unique=True)


def in_order(ids: list[str], rows: np.ndarray) -> list[str | None]:
    return [None if row < 0 else ids[row] for row in rows]


@given(IDS, IDS, st.sampled_from(["none", "power_of_two"]))
@settings(max_examples=20, deadline=None)
def test_every_person_of_either_party_has_one_place_common_to_both(
    bank: list[str], partner: list[str], pad: str
) -> None:
    aligned = run({"bank": bank, "partner": partner}, result="order", pad=pad)
    mine, theirs = in_order(bank, aligned["bank"].rows), in_order(partner, aligned["partner"].rows)
    assert len(mine) == len(theirs)
    assert sorted(filter(None, mine)) == sorted(bank)
    assert sorted(filter(None, theirs)) == sorted(partner)
    both = [(one, other) for one, other in zip(mine, theirs, strict=True) if one and other]
    assert all(one == other for one, other in both)
    assert {one for one, _ in both} == {*bank} & {*partner}
    if pad == "none":
        assert len(mine) == len({*bank} | {*partner})


def test_the_order_is_drawn_anew_in_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    small_batches(monkeypatch)
    ids = [f"id-{i}" for i in range(40)]
    first, second = (run({"bank": ids, "partner": ids}, result="order")["bank"].rows.tolist() for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second


def test_what_a_party_sees_of_its_own_people_is_in_none_of_the_lists_it_can_compare() -> None:
    """A person's points at each step, and the other party's list at that step, have no point in common."""
    ids = [f"id-{i}" for i in range(25)]
    recording = Recording(payloads=True)
    run({"bank": ids, "partner": ids}, recording, result="order")
    seen: dict[str, list[bytes]] = {}
    for message in recording.messages:
        rows = getattr(decoded(message.topic, message.payload), "rows", None)
        if rows is not None:
            seen[f"{message.sender} {message.topic}"] = [bytes(row) for row in rows]
    assert len(seen) == 9
    everything = [point for points in seen.values() for point in points]
    assert len(everything) == len(set(everything)) == 9 * 25


def test_lists_that_were_mixed_are_sent_sorted_so_that_their_order_tells_nothing() -> None:
    ids = [f"id-{i}" for i in range(50)]
    recording = Recording(payloads=True)
    run({"bank": ids, "partner": ids}, recording, result="order")
    for message in recording.messages:
        if message.topic in {"align/returned", "align/union", "align/order"}:
            points = [bytes(row) for row in decoded(message.topic, message.payload).rows]
            assert points == sorted(points)


def test_a_secret_order_is_for_two_parties() -> None:
    channel = connect(["bank", "partner", "shop"])["bank"]
    with pytest.raises(AlignmentError, match="with one list each, not 3 with 1"):
        align(channel, "bank", ["a"], timeout=1, settings=AlignmentSettings(result="order"))
