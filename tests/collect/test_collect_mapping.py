from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from collect_bank import make_node
from hypothesis import given
from hypothesis import strategies as st

from ftl.collect import Mapping
from ftl.collect.cast import cast, plain
from ftl.collect.watermark import NOTHING, as_mark, as_position
from ftl.errors import MappingError

MOMENT = datetime(2024, 2, 29, 23, 30, tzinfo=UTC)


def mapping(columns: dict[str, Any], **changes: Any) -> Mapping:
    named = {"id_number": {"from": "ID", "type": "string"}} | columns
    settings = {"columns": named, "derived": {}, "cursor": None} | changes
    return Mapping(make_node(Path("/nowhere"), {"kind": "sqlite", "path": "x"}, **settings), "customers")


def mapped(column: dict[str, Any], values: pa.Array) -> tuple[list[Any], list[str | None]]:
    batch = pa.record_batch({"ID": [str(place) for place in range(len(values))], "X": values})
    result = mapping({"x": {"from": "X"} | column}).apply(batch)
    return result.rows.column("x").to_pylist(), result.reasons.to_pylist()


@pytest.mark.parametrize(
    ("kind", "values", "good"),
    [
        ("int64", pa.array(["7", " -7 ", "+7", "20000.00", "0"]), [7, -7, 7, 20000, 0]),
        ("int64", pa.array([7.0, float("nan")]), [7, None]),
        ("int64", pa.array([Decimal("7.00")]), [7]),
        ("int64", pa.array([True, False]), [1, 0]),
        ("int64", pa.array(["7", "7"]).dictionary_encode(), [7, 7]),
        ("float64", pa.array(["7", "-7.5e3", ".5", "+2"]), [7.0, -7500.0, 0.5, 2.0]),
        ("float64", pa.array([2**53 + 1]), [float(2**53)]),
        ("bool", pa.array(["yes", "N", "TRUE", "0", None]), [True, False, True, False, None]),
        ("bool", pa.array([1, 0]), [True, False]),
        ("date", pa.array(["2024-02-29"]), [date(2024, 2, 29)]),
        ("date", pa.array([datetime(2024, 2, 29)]), [date(2024, 2, 29)]),  # noqa: DTZ001 - a source without zones
        (
            "timestamp",
            pa.array(["2024-02-29 23:30:00", "2024-02-29T23:30Z", "2024-03-01 07:30:00+08:00"]),
            [MOMENT] * 3,
        ),
        ("timestamp", pa.array([int(MOMENT.timestamp())]), [MOMENT]),
        ("timestamp", pa.array([date(2024, 2, 29)]), [datetime(2024, 2, 29, tzinfo=UTC)]),
        ("string", pa.array([7, 8]), ["7", "8"]),
        ("string", pa.array([7.0, 7.5]), ["7", "7.5"]),
        ("string", pa.array([b"caf\xc3\xa9"]), ["café"]),
    ],
)
def test_a_readable_cell_keeps_its_meaning(kind: str, values: pa.Array, good: list[Any]) -> None:
    result, reasons = mapped({"type": kind}, values)
    assert result == good
    assert reasons == [None] * len(good)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("int64", pa.array(["7.5", "", "seven", "99999999999999999999"])),
        ("int64", pa.array([7.5, float("inf"), 1e30])),
        ("float64", pa.array(["1,5", "nan", "inf", "-"])),
        ("bool", pa.array(["maybe", "2"])),
        ("date", pa.array(["2024-02-30", "29.02.2024", "2024-02-29 10:00:00"])),
        ("timestamp", pa.array(["yesterday", "2024-13-01 00:00:00"])),
        ("string", pa.array([b"\xff\xfe"])),
    ],
)
def test_an_unreadable_cell_is_refused_and_never_guessed(kind: str, values: pa.Array) -> None:
    result, reasons = mapped({"type": kind}, values)
    assert result == [None] * len(values)
    assert reasons == [f"x: cannot be read as {kind}"] * len(values)


def test_one_bad_cell_among_many_is_the_only_one_refused() -> None:
    texts = [str(number) for number in range(10_000)]
    texts[4321] = "4,321"
    result = cast(pa.array(texts), "int64")
    assert result.failed.nonzero()[0].tolist() == [4321]
    assert result.values.drop_null().to_pylist() == [number for number in range(10_000) if number != 4321]


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_whole_numbers_survive_as_text(numbers: list[int]) -> None:
    assert cast(pa.array([str(n) for n in numbers], pa.string()), "int64").values.to_pylist() == numbers


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_floats_survive_as_text(numbers: list[float]) -> None:
    assert cast(pa.array([repr(n) for n in numbers], pa.string()), "float64").values.to_pylist() == numbers


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001
def test_a_time_with_an_offset_is_the_same_moment(moment: datetime, minutes: int) -> None:
    offset = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
    result = cast(pa.array([f"{moment.isoformat()}{offset}"]), "timestamp").values[0].as_py()
    assert result == (moment - timedelta(minutes=minutes)).replace(tzinfo=UTC)


def test_missing_normalise_recode_cast_and_default_work_in_that_order() -> None:
    column = {
        "type": "int64",
        "missing": ["?", -9],
        "normalise": "upper",
        "recode": {"LOW": 1, "HIGH": 3, "NONE": None},
        "default": 0,
    }
    values, reasons = mapped(column, pa.array(["?", " low", "High ", "none", "-9", "7", None, "?!"]))
    assert values == [0, 1, 3, 0, 0, 7, 0, 0]
    assert reasons == [None] * 7 + ["x: cannot be read as int64"]


@pytest.mark.parametrize("raw", [pa.array([1, 2, 9]), pa.array([1.0, 2.0, 9.0]), pa.array(["1", "2", "9"])])
def test_a_recode_by_text_also_meets_numbers(raw: pa.Array) -> None:
    values, _ = mapped({"type": "string", "recode": {"1": "male", "2": "female"}, "missing": [9]}, raw)
    assert values == ["male", "female", None]


def test_digits_of_a_phone_kept_as_a_number_are_its_digits() -> None:
    values, _ = mapped({"type": "string", "normalise": "digits"}, pa.array([13800000001.0, 13800000002.0]))
    assert values == ["13800000001", "13800000002"]


def test_a_normalised_identifier_without_anything_left_is_missing() -> None:
    values, _ = mapped({"type": "string", "normalise": "digits"}, pa.array(["n/a", "", " "]))
    assert values == [None, None, None]


def test_policy_null_keeps_the_row_without_the_value() -> None:
    values, reasons = mapped({"type": "int64", "on_error": "null"}, pa.array(["1", "x"]))
    assert values == [1, None]
    assert reasons == [None, None]


def test_policy_stop_names_the_column_and_counts_without_showing_values() -> None:
    with pytest.raises(
        MappingError, match=r"tables\.customers\.columns\.x: 2 values of source column 'X' cannot be read as int64"
    ) as caught:
        mapped({"type": "int64", "on_error": "stop"}, pa.array(["1", "secret", "also"]))
    assert "secret" not in str(caught.value)


def test_a_nested_column_is_refused_by_name() -> None:
    with pytest.raises(MappingError, match=r"columns\.x: source column 'X' has the nested type list"):
        mapped({"type": "string"}, pa.array([[1], [2]]))
    with pytest.raises(TypeError, match="struct"):
        plain(pa.array([{"a": 1}]))


def test_a_default_of_the_wrong_type_is_refused_before_any_row() -> None:
    with pytest.raises(MappingError, match=r"columns\.x\.default: 'many' cannot be read as int64"):
        mapping({"x": {"from": "X", "type": "int64", "default": "many"}})


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("(SELECT count(*) FROM read_csv('/etc/passwd'))", "uses a query of its own"),
        ("avg(x) OVER ()", "uses a window over other rows"),
        ("max(x)", "must appear in the GROUP BY"),
        ("getenv('HOME')", "getenv"),
        ("1) AS a, (2", "more than one expression"),
        ("1); DROP TABLE mapped; SELECT (1", "Only SELECT statements"),
        ("y + 1", 'Referenced column "y" not found'),
        ("x +", "syntax error"),
        ("[x, x]", "gives a value of type list"),
    ],
)
def test_a_derived_column_sees_its_own_row_only(expression: str, message: str) -> None:
    with pytest.raises(MappingError, match=rf"customers\.derived\.d: .*{message}" if "(" not in message else message):
        mapping({"x": {"from": "X", "type": "float64"}}, derived={"d": expression})


def test_derived_columns_build_on_each_other_and_a_division_by_zero_is_missing() -> None:
    table = mapping(
        {"x": {"from": "X", "type": "int64"}}, derived={"a": "10 / x", "b": "a + 1", "c": "x::hugeint", "t": "'n' || x"}
    )
    rows = table.apply(pa.record_batch({"ID": ["1", "2"], "X": [0, 4]})).rows
    assert rows.select(["a", "b", "c", "t"]).to_pylist() == [
        {"a": None, "b": None, "c": 0, "t": "n0"},
        {"a": 2.5, "b": 3.5, "c": 4, "t": "n4"},
    ]


def test_a_derived_column_that_fails_on_a_row_does_not_show_its_value() -> None:
    table = mapping({"x": {"from": "X", "type": "string"}}, derived={"d": "x::int"})
    with pytest.raises(MappingError, match=r"customers\.derived: an expression fails on a row") as caught:
        table.apply(pa.record_batch({"ID": ["1"], "X": ["secret"]}))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": ("id_numbr",)}, r"key: there is no column 'id_numbr'. Did you mean 'id_number'\?"),
        ({"cursor": "id_number"}, "cursor: id_number is a string"),
        ({"cursor": "when"}, "cursor: there is no column 'when'"),
    ],
)
def test_an_impossible_key_or_cursor_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MappingError, match=message):
        mapping({}, **changes)


def test_an_unknown_table_names_the_nearest() -> None:
    node = make_node(Path("/nowhere"), {"kind": "sqlite", "path": "x"})
    with pytest.raises(MappingError, match=r"Party bank has no table 'custmers'. Did you mean 'customers'\?"):
        Mapping(node, "custmers")


FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(FLOATS, FLOATS)
def test_marks_of_floats_come_back_and_keep_their_order(low: float, high: float) -> None:
    assert as_position(as_mark(low), pa.float64()) == low
    assert (as_mark(low) < as_mark(high)) == (low < high)


@given(st.datetimes(timezones=st.just(UTC)))
def test_marks_of_times_come_back(moment: datetime) -> None:
    assert as_position(as_mark(moment), pa.timestamp("us", "UTC")) == moment
    assert as_position(as_mark(moment.date()), pa.date32()) == moment.date()


def test_a_table_without_a_cursor_value_has_no_position() -> None:
    assert as_position(NOTHING, pa.int64()) is None
