import struct
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftl.collect.stream.binlog import Map, RowDecoder
from ftl.collect.stream.binlog_cells import Declared, UnsupportedError
from ftl.collect.stream.pgoutput import Relation, UnchangedError, decode, relation

TABLE = Relation(("id", "name", "amount"), (20, 25, 701))
Row = tuple[Any, ...]
LEFT_OUT = object()


def tuple_data(row: Row) -> bytes:
    data = struct.pack(">H", len(row))
    for cell in row:
        if cell is None or cell is LEFT_OUT:
            data += b"n" if cell is None else b"u"
        else:
            text = cell if isinstance(cell, bytes) else str(cell).encode()
            data += b"t" + struct.pack(">I", len(text)) + text
    return data


def message(kind: str, new: Row | None = None, old: Row | None = None) -> bytes:
    data = kind.encode() + struct.pack(">I", 77)
    data += b"" if old is None else b"O" + tuple_data(old)
    return data + (b"" if new is None else b"N" + tuple_data(new))


rows = st.tuples(
    st.integers(-(2**63), 2**63 - 1),
    st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
events = st.lists(
    st.tuples(st.just("I"), rows, st.none())
    | st.tuples(st.just("U"), rows, st.none() | rows)
    | st.tuples(st.just("D"), st.none(), rows),
    min_size=1,
    max_size=20,
)


@given(events)
def test_decoding_many_messages_at_once_equals_decoding_one_after_the_other(
    found: list[tuple[str, Row | None, Row | None]],
) -> None:
    changes = decode([message(*event) for event in found], TABLE, ["amount", "id", "name"], ["id"])
    expected: list[tuple[bool, Row]] = []
    for _, new, old in found:
        if old is not None and (new is None or new[0] != old[0]):
            expected.append((True, (None, old[0], None)))
        if new is not None:
            expected.append((False, (new[2], new[0], new[1])))
    cells = zip(*(column.to_pylist() for column in changes.rows.columns), strict=True)
    assert list(zip(changes.deleted.tolist(), cells, strict=True)) == expected
    assert changes.rows.schema.field("id").type == pa.int64()


def test_a_value_that_an_update_left_out_is_taken_from_the_old_row_or_named() -> None:
    whole = [message("U", (1, LEFT_OUT, 2.0), (1, "long", 1.0)), message("U", (2, "b", 3.0), (2, "a", 1.0))]
    assert decode(whole, TABLE, TABLE.names, ["id"]).rows.column("name").to_pylist() == ["long", "b"]
    with pytest.raises(UnchangedError, match="name"):
        decode([message("I", (3, "c", 1.0)), message("U", (1, LEFT_OUT, 2.0))], TABLE, TABLE.names, ["id"])


def test_bytes_that_are_no_text_and_numbers_that_are_none_spoil_no_other_row() -> None:
    found = decode([message("I", (1, b"\xff", 1.0)), message("I", (2, "é", "1e400x"))], TABLE, TABLE.names, ["id"])
    assert found.rows.column("name").to_pylist() == [b"\xff", "é".encode()]
    assert found.rows.column("amount").to_pylist() == ["1.0", "1e400x"]


def test_a_relation_is_read_with_its_columns_and_types() -> None:
    columns = b"".join(b"\1" + name + b"\0" + struct.pack(">Ii", oid, -1) for name, oid in ((b"id", 20), (b"n", 25)))
    assert relation(b"R" + struct.pack(">I", 9) + b"public\0t\0d" + struct.pack(">H", 2) + columns) == Relation(
        ("id", "n"), (20, 25)
    )


def packed_decimal(number: int, precision: int, scale: int) -> bytes:
    """As MySQL's reference describes it: groups of nine digits in four bytes, the sign in the first bit."""
    digits = f"{abs(number):0{precision}d}"
    whole, part = digits[: precision - scale], digits[precision - scale :]
    sizes, data = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4), b""
    first = len(whole) % 9
    groups = [whole[:first]] + [whole[place : place + 9] for place in range(first, len(whole), 9)]
    groups += [part[place : place + 9] for place in range(0, len(part), 9)]
    for group in groups:
        data += int(group or "0").to_bytes(sizes[len(group)], "big")
    data = bytes([data[0] ^ 0x80]) + data[1:]
    return bytes(byte ^ 0xFF for byte in data) if number < 0 else data


@given(st.data(), st.integers(1, 38))
def test_a_decimal_of_the_binary_log_keeps_every_digit(data: st.DataObject, precision: int) -> None:
    scale = data.draw(st.integers(0, precision))
    number = data.draw(st.integers(-(10**precision) + 1, 10**precision - 1))
    found = Map("s", "t", bytes([246]), (precision << 8 | scale,))
    decoder = RowDecoder(found, [Declared("d", "decimal", None)], ["d"], ["d"])
    assert decoder.insert(b"\0" + packed_decimal(number, precision, scale), 0) == 1
    (text,) = decoder.take().rows.column(0).to_pylist()
    assert int(text.replace(".", "")) == number
    assert len(text.partition(".")[2]) == scale


def test_rows_of_the_binary_log_keep_nulls_order_and_what_moved() -> None:
    found = Map("s", "t", bytes([8, 15, 10]), (0, 40, 0))
    declared = [Declared("id", "bigint(20)", None), Declared("n", "varchar(10)", "latin1"), Declared("d", "date", None)]
    decoder = RowDecoder(found, declared, ["d", "id", "n"], ["id"])
    day = (2024 << 9 | 5 << 5 | 1).to_bytes(3, "little")
    one = b"\0" + struct.pack("<q", 1) + b"\1\xe9" + day
    two = b"\6" + struct.pack("<q", 2)
    assert decoder.insert(one + two, 0) == 2
    assert decoder.update(one + two + two + two, 0) == 2
    assert decoder.delete(two, 0) == 1
    changes = decoder.take()
    assert changes.deleted.tolist() == [False, False, True, False, False, True]
    assert changes.rows.column("id").to_pylist() == [1, 2, 1, 2, 2, 2]
    assert changes.rows.column("n").to_pylist() == ["é", None, None, None, None, None]
    assert changes.rows.column("d").to_pylist() == [date(2024, 5, 1), *[None] * 5]
    assert decoder.take().rows.num_rows == 0


def test_a_column_that_cannot_be_streamed_is_named_only_when_it_is_mapped() -> None:
    found = Map("s", "t", bytes([8, 254]), (0, 254 << 8 | 16))
    declared = [Declared("id", "bigint(20)", None), Declared("u", "uuid", None)]
    decoder = RowDecoder(found, declared, ["id"], ["id"])
    decoder.insert(b"\0" + struct.pack("<q", 5) + b"\x10" + bytes(16), 0)
    assert decoder.take().rows.column(0).to_pylist() == [5]
    with pytest.raises(UnsupportedError, match="u uuid"):
        RowDecoder(found, declared, ["id", "u"], ["id"])


@given(st.datetimes(), st.integers(0, 6))
def test_times_of_the_binary_log_are_exact_to_their_digits(moment: datetime, digits: int) -> None:
    size = (digits + 1) // 2
    part = moment.microsecond // 10 ** (6 - digits) * 10 ** (6 - digits)
    moment = moment.replace(microsecond=part)
    packed = (moment.year * 13 + moment.month) << 22 | moment.day << 17 | moment.hour << 12
    packed |= moment.minute << 6 | moment.second
    data = (packed + 0x80_0000_0000).to_bytes(5, "big") + (part // 10 ** (6 - 2 * size)).to_bytes(size, "big")
    found = Map("s", "t", bytes([18]), (digits,))
    decoder = RowDecoder(found, [Declared("at", "datetime", None)], ["at"], ["at"])
    decoder.insert(b"\0" + data, 0)
    assert decoder.take().rows.column(0).to_pylist() == [moment]
