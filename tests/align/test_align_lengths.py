"""Lists of very unequal or hidden length: what they cost, and what of them shows."""

import numpy as np
import pytest
from align_parties import attempt, decoded, people, run
from pydantic import ValidationError

from ftl.align import AlignmentSettings, align
from ftl.channel import Recording, connect
from ftl.errors import AlignmentError

SHORT = [f"id-{i}" for i in range(20)]
LONG = [f"id-{i}" for i in range(10, 3010)]


@pytest.mark.parametrize("active", ["short", "long"])
def test_a_person_of_the_long_list_costs_one_multiplication_and_a_tag(
    active: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftl.crypto import multiply

    multiplied = []

    def counted(scalar: bytes, points: np.ndarray) -> np.ndarray:
        multiplied.append(len(points))
        return multiply(scalar, points)

    for module in ("deck", "asking", "answering"):
        monkeypatch.setattr(f"ftl.align.{module}.multiply", counted)
    lists = {"short": SHORT, "long": LONG} if active == "short" else {"long": LONG, "short": SHORT}
    recording = Recording()
    aligned = run(lists, recording)
    assert sum(multiplied) == 3000 + 3 * 20
    assert recording.bytes_sent["long"] < 3000 * 9 + 5000
    found = people(lists, aligned)
    assert found["short"] == found["long"]
    assert sorted(found["short"]) == sorted(SHORT[10:])


@pytest.mark.parametrize(("pad", "shown"), [("power_of_two", 32), (100, 100), (20, 20), ("none", 20)])
def test_a_padded_list_shows_its_padded_length_and_matches_nobody_more(pad: int | str, shown: int) -> None:
    lists = {"bank": SHORT, "partner": [*SHORT[5:], *"xyzuv"], "shop": SHORT}
    recording = Recording(payloads=True)
    aligned = run(lists, recording, pad=pad)
    assert aligned["bank"].people == {"partner": shown, "shop": shown}
    sent = [decoded(m.topic, m.payload).rows for m in recording.messages if m.topic == "align/points"]
    assert [len(points) for points in sent] == [shown, shown]
    assert {frozenset(found) for found in people(lists, aligned).values()} == {frozenset(SHORT[5:])}


def test_padded_lists_of_other_lengths_cannot_be_told_apart_by_sizes() -> None:
    sizes = []
    for length in (17, 30):
        recording = Recording(payloads=True)
        run({"bank": SHORT, "partner": [f"p-{i}" for i in range(length)]}, recording, pad="power_of_two")
        sizes.append(sorted((m.topic, len(m.payload)) for m in recording.messages))
    assert sizes[0] == sizes[1]


def test_padding_to_fewer_people_than_there_are_is_refused() -> None:
    with pytest.raises(AlignmentError, match="bank has 20 people and cannot show 7 of them"):
        align(connect(["bank", "partner"])["bank"], "bank", SHORT, timeout=1, settings=AlignmentSettings(pad=7))


def test_a_padding_or_result_that_does_not_exist_is_refused() -> None:
    for fields in ({"pad": "much"}, {"pad": 0}, {"result": "all"}, {"salt": "x"}):
        with pytest.raises(ValidationError, match="validation error"):
            AlignmentSettings.model_validate(fields)


def test_one_side_alone_learns_the_result_though_its_list_is_longer() -> None:
    aligned = run({"long": LONG[:60], "short": SHORT}, result="one")
    assert sorted(LONG[row] for row in aligned["long"].rows) == sorted(SHORT[10:])
    assert aligned["short"].rows.shape == (0,)


def test_identifiers_may_come_from_any_iterator() -> None:
    outcomes = attempt({"bank": SHORT, "partner": SHORT}, wrap=lambda channel: channel)
    ends = connect(["bank"])
    alone = align(ends["bank"], "bank", iter(SHORT), timeout=1)
    np.testing.assert_array_equal(alone.rows, outcomes["bank"].rows)
