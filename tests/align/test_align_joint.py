"""Three parties and more: who asks sees the people all know, and of nobody else who knows them."""

from typing import Any

import numpy as np
import pytest
from align_parties import people, run

from ftl.align.asking import Asking
from ftl.channel import Recording

LISTS = {
    "bank": [f"all-{i}" for i in range(20)] + [f"two-{i}" for i in range(20)] + [f"one-{i}" for i in range(20)],
    "partner": [f"all-{i}" for i in range(20)] + [f"two-{i}" for i in range(20)] + [f"p-{i}" for i in range(40)],
    "shop": [f"all-{i}" for i in range(20)] + [f"s-{i}" for i in range(70)],
}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Asking, np.ndarray]]:
    """What the bank, asking, computes of each peer's table, with its deck."""
    shares: dict[str, tuple[Asking, np.ndarray]] = {}
    original = Asking.shares

    def noted(asking: Asking) -> np.ndarray:
        found = original(asking)
        shares[asking.peer] = (asking, found)
        return found

    monkeypatch.setattr(Asking, "shares", noted)
    return shares


def by_identifier(seen: dict[str, Any], peer: str) -> dict[str, bytes]:
    asking, shares = seen[peer]
    return {LISTS["bank"][card]: bytes(row) for card, row in zip(asking.deck.cards, shares, strict=True)}


def test_a_share_tells_the_asking_party_nothing_of_who_has_it(seen: dict[str, Any]) -> None:
    aligned = run(LISTS)
    partner, shop = by_identifier(seen, "partner"), by_identifier(seen, "shop")
    known = {name for name in LISTS["bank"] if partner[name] == shop[name]}
    assert known == {f"all-{i}" for i in range(20)} == set(people(LISTS, aligned)["bank"])
    # People whom one other knows and people whom nobody else knows have shares of the same kind: all different.
    assert len({*partner.values(), *(shop[name] for name in shop if name not in known)}) == 60 + 40
    for group in ("two", "one"):
        bits = np.unpackbits(np.array([list(partner[f"{group}-{i}"]) for i in range(20)], dtype=np.uint8))
        assert abs(bits.mean() - 0.5) < 0.07


def test_shares_of_the_same_people_differ_from_run_to_run(seen: dict[str, Any]) -> None:
    run(LISTS)
    first = set(by_identifier(seen, "partner").values())
    run(LISTS)
    assert first.isdisjoint(by_identifier(seen, "partner").values())


@pytest.mark.parametrize("other", [0, 20])
def test_messages_have_equal_sizes_whether_or_not_two_of_three_share_people(other: int) -> None:
    lists = LISTS | {"partner": LISTS["partner"][:20] + [f"two-{i + other}" for i in range(20)] + LISTS["partner"][40:]}
    recording = Recording(payloads=True)
    run(lists, recording)
    sizes = sorted((m.sender, m.receiver, m.topic, len(m.payload)) for m in recording.messages)
    again = Recording(payloads=True)
    run(LISTS, again)
    assert sizes == sorted((m.sender, m.receiver, m.topic, len(m.payload)) for m in again.messages)


def test_answering_parties_send_one_another_a_greeting_and_nothing_else() -> None:
    recording = Recording(payloads=True)
    run(LISTS, recording)
    between = [m.topic for m in recording.messages if {m.sender, m.receiver} == {"partner", "shop"}]
    assert between == ["align/hello", "align/hello"]


def test_the_party_with_the_shortest_list_asks_and_alone_is_told_all_lengths() -> None:
    recording = Recording(payloads=True)
    lists = LISTS | {"shop": LISTS["shop"][:25]}
    aligned = run(lists, recording)
    assert {m.sender for m in recording.messages if m.topic == "align/points"} == {"shop"}
    assert aligned["bank"].people == {"partner": 80, "shop": 25}
    assert aligned["shop"].people == {"bank": 60, "partner": 80}
    assert aligned["partner"].people == {"bank": 60, "shop": 25}
    assert people(lists, aligned)["bank"] == people(lists, aligned)["partner"]
    assert set(people(lists, aligned)["shop"]) == {f"all-{i}" for i in range(20)}
