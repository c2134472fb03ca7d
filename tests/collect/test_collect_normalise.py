from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from collect_bank import make_node
from hypothesis import given, settings
from hypothesis import strategies as st

from ftl.collect import Mapping, normalised, normalised_text
from ftl.collect.normalise import BLANKS
from ftl.consortium.model import Normalise
from ftl.errors import MappingError

KINDS: tuple[Normalise, ...] = ("none", "trim", "upper", "digits", "resident_id", "mobile_cn", "e164")
VALID = "11010519491231002X"  # the example of GB 11643-1999


def both(text: str, how: Normalise, country_code: int = 86) -> str | None:
    column = normalised(pa.array([None, text]), how, country_code)
    assert column.values[1].as_py() == normalised_text(text, how, country_code)
    return column.values[1].as_py()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "text",
    [VALID, VALID.lower(), " １１０１０５ 19491231 ００２ｘ\u3000", "110105-19491231-002X", f"\ufeff{VALID}\u200b"],
)
def test_every_spelling_of_a_resident_id_is_the_same_id(text: str) -> None:
    assert both(text, "resident_id") == VALID


@pytest.mark.parametrize("text", ["440524188001010014", "11010519491231002X"])
def test_published_resident_ids_have_the_right_check_character(text: str) -> None:
    assert both(text, "resident_id") == text


@given(st.integers(0, 16), st.integers(1, 9))
def test_one_wrong_digit_of_a_resident_id_is_always_found(place: int, more: int) -> None:
    digit = (int(VALID[place]) + more) % 10
    assert both(f"{VALID[:place]}{digit}{VALID[place + 1 :]}", "resident_id") is None


@given(st.integers(0, 15))
def test_two_digits_of_a_resident_id_that_changed_places_are_always_found(place: int) -> None:
    swapped = VALID[:place] + VALID[place + 1] + VALID[place] + VALID[place + 2 :]
    assert (both(swapped, "resident_id") is None) == (VALID[place] != VALID[place + 1])


@pytest.mark.parametrize("text", ["130503670401001", "X" * 18, VALID[:17], f"{VALID}1", "110105194912310020"])
def test_what_is_no_resident_id_fails(text: str) -> None:
    assert normalised(pa.array([text]), "resident_id").failed.tolist() == [True]


@pytest.mark.parametrize(
    "text",
    [
        "13800138000",
        "+86 138 0013 8000",
        "0086-138-0013-8000",
        "8613800138000",
        "１３８００１３８０００",
        "(138)0013.8000",
    ],
)
def test_every_spelling_of_a_mobile_number_is_the_same_number(text: str) -> None:
    assert both(text, "mobile_cn") == "13800138000"


@pytest.mark.parametrize("text", ["12800138000", "1380013800", "138001380000", "+1 13800138000", "010 6552 9988"])
def test_what_is_no_mobile_number_fails(text: str) -> None:
    assert both(text, "mobile_cn") is None


@pytest.mark.parametrize(
    ("text", "country_code", "number"),
    [
        ("138 0013 8000", 86, "+8613800138000"),
        ("010-65529988", 86, "+861065529988"),
        ("+44 (20) 7946-0958", 86, "+442079460958"),
        ("0044 20 7946 0958", 86, "+442079460958"),
        ("020 7946 0958", 44, "+442079460958"),
        ("0803 123 4567", 234, "+2348031234567"),
        ("1 (415) 555-2671", 1, "+14155552671"),
        ("(415) 555-2671", 1, "+14155552671"),
        ("06 698 1234", 39, "+39066981234"),
        ("＋8613800138000", 1, "+8613800138000"),
        ("", 86, None),
        ("call me", 86, None),
        ("+0123456789", 86, None),
        ("+1234567890123456", 86, None),
    ],
)
def test_a_phone_number_becomes_e164(text: str, country_code: int, number: str | None) -> None:
    assert both(text, "e164", country_code) == number


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("01389+xX -()ß٣８ｘ\u3000\u200bé.") | st.characters(codec="utf-8"), max_size=24))
def test_an_applicant_is_normalised_as_a_column_is(text: str) -> None:
    for how in KINDS:
        both(text, how)


@given(st.sampled_from(KINDS[4:]), st.text(st.sampled_from("0138x+- ８"), max_size=20))
def test_normalising_twice_changes_nothing(how: Normalise, text: str) -> None:
    once = normalised_text(text, how)
    assert once is None or normalised_text(once, how) == once


def test_trim_cuts_every_blank_of_unicode() -> None:
    assert both(f"{BLANKS}a{BLANKS}b{BLANKS}", "trim") == f"a{BLANKS}b"
    assert both(BLANKS, "trim") is None


def mapped(column: dict[str, Any], values: pa.Array) -> tuple[list[Any], list[str | None]]:
    columns = {"id_number": {"from": "ID", "type": "string"}, "x": {"from": "X"} | column}
    node = make_node(Path("/nowhere"), {"kind": "sqlite", "path": "x"}, columns=columns, derived={}, cursor=None)
    batch = pa.record_batch({"ID": [str(place) for place in range(len(values))], "X": values})
    result = Mapping(node, "customers").apply(batch)
    return result.rows.column("x").to_pylist(), result.reasons.to_pylist()


WRONG = pa.array([VALID, "110105194912310021", None])


def test_a_wrong_check_character_does_what_the_policy_says() -> None:
    column = {"type": "string", "normalise": "resident_id"}
    reason = "x: cannot be read as string (resident_id)"
    assert mapped(column, WRONG) == ([VALID, None, None], [None, reason, None])
    assert mapped(column | {"on_error": "null", "default": "none"}, WRONG) == ([VALID, "none", "none"], [None] * 3)
    with pytest.raises(
        MappingError, match=r"columns\.x: 1 values .* cannot be read as string \(resident_id\)"
    ) as caught:
        mapped(column | {"on_error": "stop"}, WRONG)
    assert "1101" not in str(caught.value)


def test_factor_clip_and_default_come_after_the_cast_in_that_order() -> None:
    column = {"type": "float64", "factor": 1000, "clip": [0, 5000], "default": -1}
    assert mapped(column, pa.array(["1.5", "-2", "9", None])) == ([1500.0, 0.0, 5000.0, -1.0], [None] * 4)
    assert mapped({"type": "int64", "clip": [None, 5]}, pa.array([-9, 9, None]))[0] == [-9, 5, None]
    assert mapped({"type": "float64", "factor": 1e300}, pa.array([1e300]))[0] == [None]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"type": "int64", "factor": 0.1}, r"columns\.x\.factor: the column is int64"),
        ({"type": "string", "clip": [0, 1]}, r"columns\.x\.clip: the column is string"),
        ({"type": "float64", "clip": [2, 1]}, r"columns\.x\.clip: 2\.0 to 1\.0 is no range"),
        ({"type": "int64", "clip": [0.5, None]}, r"columns\.x\.clip: 0\.5 to None is no range of int64"),
    ],
)
def test_an_impossible_measure_is_named_before_any_row(column: dict[str, Any], message: str) -> None:
    with pytest.raises(MappingError, match=message):
        mapped(column, pa.array(["1"]))
