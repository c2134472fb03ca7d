"""A lost connection: the run goes on where it was, nothing crosses or is computed twice, and no secret stays behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from align_parties import Breaking, Tampering, attempt, decoded, people, run, small_batches

from ftl.align import Alignment
from ftl.align.messages import Have
from ftl.channel import Channel, Recording
from ftl.errors import AlignmentError, ChannelError

LISTS = {
    "bank": [f"id-{i}" for i in range(23)],
    "partner": [f"id-{i}" for i in range(8, 50)],
    "shop": [f"id-{i}" for i in range(4, 40)],
}


@pytest.fixture(autouse=True)
def batches(monkeypatch: pytest.MonkeyPatch) -> None:
    small_batches(monkeypatch)


def lost(party: str, messages: int) -> Callable[[Channel], Channel]:
    return lambda channel: Breaking(channel, messages) if channel.me == party else channel


@pytest.mark.parametrize(
    ("parties", "breaking", "messages"), [(2, "bank", 8), (2, "partner", 17), (3, "bank", 18), (3, "partner", 20)]
)
def test_a_run_lost_at_any_message_goes_on_and_nothing_that_was_taken_crosses_again(
    parties: int, breaking: str, messages: int, tmp_path: Path
) -> None:
    lists = dict(list(LISTS.items())[:parties])
    undisturbed = people(lists, run(lists))
    for lost_after in range(1, messages, 3):
        state, taken = tmp_path / str(lost_after), []

        def watched(channel: Channel, most: int, breaking: str = breaking, taken: list[Any] = taken) -> Channel:
            most = most if channel.me == breaking else 1000
            return Breaking(channel, most, taken if channel.me == "bank" else None)

        first = attempt(lists, state=state, wrap=lambda channel, most=lost_after: watched(channel, most))
        assert any(isinstance(outcome, ChannelError) for outcome in first.values())
        assert people(lists, run(lists, state=state, wrap=lambda channel: watched(channel, 1000))) == undisturbed
        crossed = [
            (sender, topic, decoded(topic, payload).first)
            for sender, topic, payload in taken
            if topic in {"align/doubled", "align/tags", "align/places"}
        ]
        assert len(crossed) == len(set(crossed)) >= (5 + 9 if parties == 2 else 2 * 5 + 2 * 33)
        assert not list(state.rglob("*.record"))


def test_what_was_computed_before_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftl.crypto import multiply

    multiplied: list[int] = []

    def counted(scalar: bytes, points: np.ndarray) -> np.ndarray:
        multiplied.append(len(points))
        return multiply(scalar, points)

    for module in ("deck", "asking", "answering"):
        monkeypatch.setattr(f"ftl.align.{module}.multiply", counted)
    lists = {name: LISTS[name] for name in ("bank", "partner")}
    run(lists)
    whole = sum(multiplied)
    assert whole == 3 * 23 + 42
    multiplied.clear()
    attempt(lists, state=tmp_path, wrap=lost("partner", 11))
    done = sum(multiplied)
    assert done > whole // 2
    multiplied.clear()
    run(lists, state=tmp_path)
    # Not more than a window of points, of which each is worked on three times at most, is lost.
    assert sum(multiplied) <= whole - done + 4 * 3 * 5


def test_a_process_that_ends_leaves_no_identifier_in_its_folder(tmp_path: Path) -> None:
    ids = {name: [f"person-{text}" for text in texts] for name, texts in LISTS.items()}
    attempt(ids, state=tmp_path, wrap=lost("partner", 12))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 6
    assert not any(b"person" in path.read_bytes() for path in files)
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "bank", tmp_path / "partner"))


@pytest.mark.parametrize("change", ["list", "settings", "lost state"])
def test_a_run_that_is_not_the_same_at_all_parties_starts_anew(change: str, tmp_path: Path) -> None:
    lists = {name: LISTS[name] for name in ("bank", "partner")}
    recording = Recording(payloads=True)
    attempt(lists, recording, state=tmp_path, wrap=lost("partner", 12))
    if change == "list":
        lists["partner"] = [*lists["partner"], "id-1"]
    if change == "lost state":
        (tmp_path / "partner" / "run.record").write_bytes(b"broken")
    old = {bytes(row) for m in recording.messages for row in getattr(decoded(m.topic, m.payload), "rows", ())}
    again = Recording(payloads=True)
    pad = "power_of_two" if change == "settings" else "none"
    aligned = run(lists, again, state=tmp_path, pad=pad)
    assert set(people(lists, aligned)["bank"]) == {*lists["bank"]} & {*lists["partner"]}
    new = {bytes(row) for m in again.messages for row in getattr(decoded(m.topic, m.payload), "rows", ())}
    assert old.isdisjoint(new)
    assert any(m.topic == "align/points" and decoded(m.topic, m.payload).first == 0 for m in again.messages)


def test_messages_of_the_interrupted_attempt_are_refused_in_the_next(tmp_path: Path) -> None:
    lists = {name: LISTS[name] for name in ("bank", "partner")}
    recording = Recording(payloads=True)
    attempt(lists, recording, state=tmp_path, wrap=lost("partner", 7))
    [old] = {decoded(m.topic, m.payload).session for m in recording.messages if m.topic == "align/doubled"}

    def wrap(channel: Channel) -> Channel:
        stale = lambda batch: msgspec.structs.replace(batch, session=old)  # noqa: E731
        return Tampering(channel, "align/doubled", stale) if channel.me == "partner" else channel

    outcome = attempt(lists, state=tmp_path, wrap=wrap)["bank"]
    assert isinstance(outcome, AlignmentError)
    assert "'partner' sent a message of another run" in outcome.message


def test_other_points_in_place_of_those_already_answered_are_refused(tmp_path: Path) -> None:
    """Or whoever loses the connection often enough could ask about more people than it announced."""
    lists = {name: LISTS[name] for name in ("bank", "partner")}
    attempt(lists, state=tmp_path, wrap=lost("partner", 7))
    skipped = []

    def forget(message: Any) -> Any:
        """Claims to have no answer, and sends its next points in place of the first ones."""
        if isinstance(message, Have):
            skipped.append(message.answers)
            return msgspec.structs.replace(message, answers=0)
        return msgspec.structs.replace(message, first=message.first - skipped[0])

    def fewer(channel: Channel) -> Channel:
        if channel.me != "bank":
            return channel
        return Tampering(Tampering(channel, "align/have", forget), "align/points", forget)

    outcome = attempt(lists, state=tmp_path, wrap=fewer)["partner"]
    assert isinstance(outcome, AlignmentError)
    assert "'bank' sent other points than before the connection was lost" in outcome.message


def test_a_run_lost_in_its_second_list_keeps_what_the_first_has_found(tmp_path: Path) -> None:
    lists = {"bank": ["a", "b", "c"], "partner": ["a", "y", "z"]}
    phones = {"bank": [["1", "2", "3"]], "partner": [["1", "2", "x"]]}
    whole = run(lists, alternatives=phones)
    for messages in range(1, 9):
        recording = Recording(payloads=True)
        state = tmp_path / str(messages)
        attempt(lists, recording, alternatives=phones, state=state, wrap=lost("partner", messages), timeout=2)
        points = sum(m.topic == "align/points" for m in recording.messages)
        again = Recording(payloads=True)
        outcome = run(lists, again, alternatives=phones, state=state)
        for name in lists:
            assert isinstance(outcome[name], Alignment)
            np.testing.assert_array_equal(outcome[name].rows, whole[name].rows)
        if points == 2:
            assert sum(m.topic == "align/points" for m in again.messages) <= 1
