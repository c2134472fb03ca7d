"""Several identifiers of a person: matched by any, the first list winning, everybody once."""

from typing import Any

import numpy as np
import pytest
from align_parties import run
from hypothesis import given, settings
from hypothesis import strategies as st

from ftl.align import Alignment, AlignmentSettings, align
from ftl.channel import Recording, connect
from ftl.errors import AlignmentError

Table = list[tuple[str | None, str | None]]


def lists_of(tables: dict[str, Table]) -> dict[str, Any]:
    return {
        "lists": {name: [number for number, _ in table] for name, table in tables.items()},
        "alternatives": {name: [[phone for _, phone in table]] for name, table in tables.items()},
    }


def pairs(tables: dict[str, Table], **settings_: Any) -> dict[str, Alignment]:
    return run(**lists_of(tables), **settings_)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    length = draw(st.integers(0, 6))
    columns = []
    for values in ("abcdefg", "123456"):
        some = draw(st.lists(st.sampled_from(values), unique=True, max_size=length))
        columns.append(draw(st.permutations([*some, *[None] * (length - len(some))])))
    return list(zip(*columns, strict=True))


def expected(bank: Table, partner: Table) -> set[tuple[int, int, int]]:
    """Row, row, and the list that found them, by plain loops."""
    found: set[tuple[int, int, int]] = set()
    for column in (0, 1):
        taken = ({i for i, _, _ in found}, {j for _, j, _ in found})
        found |= {
            (i, j, column)
            for i, one in enumerate(bank)
            for j, other in enumerate(partner)
            if one[column] is not None and one[column] == other[column] and i not in taken[0] and j not in taken[1]
        }
    return found


@given(tables(), tables(), st.sampled_from(["none", "power_of_two"]))
@settings(max_examples=25, deadline=None)
def test_pairs_are_those_of_plain_loops_whoever_learns_them(bank: Table, partner: Table, pad: str) -> None:
    both = pairs({"bank": bank, "partner": partner}, pad=pad)
    rows = zip(both["bank"].rows, both["partner"].rows, both["bank"].found_by, strict=True)
    assert {(int(i), int(j), int(by)) for i, j, by in rows} == expected(bank, partner)
    np.testing.assert_array_equal(both["bank"].found_by, both["partner"].found_by)
    one = pairs({"bank": bank, "partner": partner}, result="one", pad=pad)
    assert {(int(i), int(by)) for i, by in zip(one["bank"].rows, one["bank"].found_by, strict=True)} == {
        (i, by) for i, _, by in expected(bank, partner)
    }
    assert len(one["partner"].rows) == 0


def test_the_first_list_wins_and_the_loser_can_still_be_found_by_somebody_else() -> None:
    bank: Table = [("id-1", "phone-9"), (None, "phone-7")]
    partner: Table = [("id-1", "phone-7"), ("id-2", "phone-9")]
    found = pairs({"bank": bank, "partner": partner})
    assert found["bank"].rows.tolist() == found["partner"].rows.tolist() == [0]
    partner.append((None, "phone-8"))
    bank.append((None, "phone-8"))
    found = pairs({"bank": bank, "partner": partner})
    assert found["bank"].rows.tolist() == [0, 2]
    assert found["bank"].found_by.tolist() == [0, 1]


def test_an_id_number_never_matches_a_phone_number_of_the_same_digits() -> None:
    found = pairs({"bank": [("5551", None)], "partner": [(None, "5551")]})
    assert len(found["bank"].rows) == 0


def test_three_parties_share_those_whom_all_find_by_the_same_list() -> None:
    tables: dict[str, Table] = {
        "bank": [("a", "1"), ("b", "2"), ("c", "3")],
        "partner": [("a", None), (None, "2"), ("c", None)],
        "shop": [("a", "2"), ("b", "3"), (None, "2x")],
    }
    found = pairs(tables)
    assert [found[name].rows.tolist() for name in tables] == [[0], [0], [0]]
    tables["shop"][0] = ("a", None)
    tables["shop"][2] = (None, "2")
    found = pairs(tables)
    assert [found[name].rows.tolist() for name in tables] == [[0, 1], [0, 1], [0, 2]]


def test_where_one_party_learns_the_result_the_other_cannot_count_who_was_found() -> None:
    sizes = []
    for shared in (0, 6):
        recording = Recording(payloads=True)
        bank: Table = [(f"b{i}", f"1{i}") for i in range(6)]
        partner: Table = [(f"b{i}" if i < shared else f"p{i}", f"2{i}") for i in range(6)]
        pairs({"bank": bank, "partner": partner}, recording=recording, result="one")
        sizes.append(sorted((m.topic, len(m.payload)) for m in recording.messages))
    assert sizes[0] == sizes[1]


def test_duplicates_are_refused_in_every_list_with_their_count_and_missing_ones_are_none() -> None:
    recording = Recording()
    bank = connect(["bank", "partner"], recording)["bank"]
    with pytest.raises(
        AlignmentError, match="bank: 2 of 4 rows have an identifier of list 2 that another row has too"
    ) as error:
        align(bank, "bank", list("abcdef"), timeout=1, alternatives=[["x", None, "x", "x", None, "y"]])
    assert "x'" not in str(error.value)
    assert recording.sent == {}


def test_lists_of_unequal_length_and_impossible_combinations_are_refused() -> None:
    bank, three = connect(["bank", "partner"])["bank"], connect(["bank", "partner", "shop"])["bank"]
    with pytest.raises(AlignmentError, match="bank: list 2 has 1 rows, the first one 2"):
        align(bank, "bank", ["a", "b"], timeout=1, alternatives=[["x"]])
    for channel, result, why in (
        (bank, "order", "with one list each, not 2 with 2"),
        (three, "one", "One party alone"),
    ):
        with pytest.raises(AlignmentError, match=why):
            align(channel, "bank", ["a"], timeout=1, alternatives=[["x"]], settings=AlignmentSettings(result=result))
