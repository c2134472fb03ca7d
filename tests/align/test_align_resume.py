"""A lost connection: the run goes on where it was, nothing crosses or is computed twice, and no secret stays behind."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from align_parties import Breaking, Tampering, attempt, decoded, people, run, small_batches

from ftl.align import Alignment
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


def entries(recording: Recording) -> Counter[tuple[str, str, str, int]]:
    """How often each batch crossed."""
    kinds = {"align/points", "align/doubled", "align/tags", "align/places"}
    return Counter(
        (m.sender, m.receiver, m.topic, decoded(m.topic, m.payload).first)
        for m in recording.messages
        if m.topic in kinds
    )


@pytest.mark.parametrize("parties", [2, 3])
@pytest.mark.parametrize("breaking", ["bank", "partner"])
def test_a_run_lost_at_any_message_goes_on_and_no_answer_or_tag_crosses_twice(
    parties: int, breaking: str, tmp_path: Path
) -> None:
    lists = dict(list(LISTS.items())[:parties])
    undisturbed = people(lists, run(lists))
    for messages in range(1, 21, 3):
        recording = Recording(payloads=True)
        state = tmp_path / str(messages)
        first = attempt(lists, recording, state=state, wrap=lost(breaking, messages))
        assert any(isinstance(outcome, ChannelError) for outcome in first.values())
        before = entries(recording)
        aligned = run(lists, recording, state=state)
        assert people(lists, aligned) == undisturbed
        if messages > 4:
            crossed = entries(recording)
            twice = {batch for batch, times in crossed.items() if times > 1 and batch[2] != "align/points"}
            assert len(twice) <= in_flight(before)
        assert not list(state.rglob("*.record"))


def in_flight(before: Counter[tuple[str, str, str, int]]) -> int:
    """Batches that had left but may not have been taken when the channel was lost."""
    return min(len(before), 12)


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
    attempt(lists, recording, state=tmp_path, wrap=lost("partner", 12))
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
    attempt(lists, state=tmp_path, wrap=lost("partner", 12))

    def fewer(channel: Channel) -> Channel:
        class Forgetful(Tampering):
            def send(self, to: str, topic: str, payload: bytes) -> None:
                self._topic = topic
                super().send(to, topic, payload)

        def forget(message: Any) -> Any:
            if hasattr(message, "answers"):
                return msgspec.structs.replace(message, answers=0)
            if hasattr(message, "rows"):
                return msgspec.structs.replace(message, first=message.first % 10)
            return message

        return Forgetful(channel, "", forget) if channel.me == "bank" else channel

    outcome = attempt(lists, state=tmp_path, wrap=fewer)["partner"]
    assert isinstance(outcome, AlignmentError)
    assert "'bank' sent other points than before the connection was lost" in outcome.message


def test_a_run_lost_in_its_second_list_keeps_what_the_first_has_found(tmp_path: Path) -> None:
    lists = {"bank": ["a", "b", "c"], "partner": ["a", "y", "z"]}
    phones = {"bank": [["1", "2", "3"]], "partner": [["1", "2", "x"]]}
    whole = run(lists, alternatives=phones)
    for messages in range(1, 14):
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
