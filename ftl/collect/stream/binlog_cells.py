"""The cells of MariaDB's row events: how each type is written ("Rows Events" of its knowledge base), read as values.

Integers, texts and times come out as the batch reader gives them, so that a row lands the same whether it was read or
streamed.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

import pyarrow as pa

Read = Callable[[bytes, int], tuple[Any, int]]
"""Takes a row event and a place in it; gives the cell's value and the place after it."""

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_DIGIT_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
"""Bytes that 0 to 9 decimal digits take."""
_CODECS = {
    "latin1": "cp1252",
    "gbk": "gbk",
    "gb2312": "gb2312",
    "big5": "big5",
    "sjis": "shift_jis",
    "ucs2": "utf-16-be",
}
"""Character sets whose bytes are not UTF-8 already."""
_CODECS |= {"utf16": "utf-16-be", "utf16le": "utf-16-le", "utf32": "utf-32-be", "cp1251": "cp1251", "cp932": "cp932"}


class UnsupportedError(Exception):
    """Columns of the type in `args[0]` cannot be streamed."""


@dataclass(frozen=True)
class Declared:
    """A column as the server's catalogue has it: name, type such as `int(10) unsigned`, character set or None."""

    name: str
    type: str
    charset: str | None

    @property
    def unsigned(self) -> bool:
        """Whether a number has no sign."""
        return "unsigned" in self.type

    @property
    def labels(self) -> list[bytes]:
        """Of an enum or set."""
        inner = self.type[self.type.index("(") + 1 : self.type.rindex(")")]
        return [label.replace("''", "'").encode() for label in inner[1:-1].split("','")]


def cell(kind: int, detail: int, column: Declared) -> tuple[Read, pa.DataType | None]:
    """How to read a cell, and its Arrow type; None where it can only be passed over."""
    if kind in _INTEGERS:
        form, size = _INTEGERS[kind]
        return _number(form.upper() if column.unsigned else form, size), _integer(column)
    if kind == 9:
        return _middle(signed=not column.unsigned), pa.int64()
    if kind in _FIXED:
        return _FIXED[kind]
    return _sized_by_detail(kind, detail, column)


def _sized_by_detail(kind: int, detail: int, column: Declared) -> tuple[Read, pa.DataType | None]:
    if kind == 246:
        return _decimal(detail >> 8, detail & 0xFF), pa.string()
    if kind == 16:
        return _bits(((detail >> 8) * 8 + (detail & 0xFF) + 7) // 8), pa.uint64()
    if kind in {17, 18, 19}:
        read, arrow = {17: (_stamp, _US), 18: (_moment, _US), 19: (_time, pa.string())}[kind]
        return read(detail), arrow
    return _texts(kind, detail, column)


def _integer(column: Declared) -> pa.DataType:
    return pa.uint64() if column.type.startswith("bigint") and column.unsigned else pa.int64()


def _texts(kind: int, detail: int, column: Declared) -> tuple[Read, pa.DataType | None]:
    if kind in {15, 253}:
        return _sized(1 if detail < 256 else 2, column), pa.binary()
    if kind in {249, 250, 251, 252}:
        return _sized(detail, column), pa.binary()
    if kind == 254:
        real, size = detail >> 8, detail & 0xFF
        if real == 247:
            return _label(size, column.labels), pa.string()
        if real == 248:
            return _labels(size, column.labels), pa.string()
        if real & 0x30 != 0x30:  # lengths above 255 hide two bits in the type
            size |= ((real & 0x30) ^ 0x30) << 4
        plain = column.type.startswith(("char", "binary"))
        return _sized(1 if size < 256 else 2, column), pa.binary() if plain else None
    if kind == 255:
        return _sized(detail, column), None
    raise UnsupportedError(f"{column.name} {column.type}")


def _number(form: str, size: int) -> Read:
    unpack = struct.Struct("<" + form).unpack_from

    def read(event: bytes, place: int) -> tuple[Any, int]:
        return unpack(event, place)[0], place + size

    return read


def _middle(*, signed: bool) -> Read:
    def read(event: bytes, place: int) -> tuple[Any, int]:
        return int.from_bytes(event[place : place + 3], "little", signed=signed), place + 3

    return read


def _date(event: bytes, place: int) -> tuple[Any, int]:
    packed = int.from_bytes(event[place : place + 3], "little")
    return _day(packed >> 9, packed >> 5 & 15, packed & 31), place + 3


def _year(event: bytes, place: int) -> tuple[Any, int]:
    return 1900 + event[place] if event[place] else 0, place + 1


@lru_cache(65_536)
def _day(year: int, month: int, day: int) -> int | None:
    """Days since 1970; None for a date with a zero in it, which means *unknown*, and for one that is none."""
    try:
        return date(year, month, day).toordinal() - _EPOCH_DAY
    except ValueError:
        return None


def _fraction(digits: int) -> tuple[int, int]:
    """(bytes, microseconds of one unit) of a fraction of a second."""
    size = (digits + 1) // 2
    return size, 10 ** (6 - 2 * size)


def _stamp(digits: int) -> Read:
    size, unit = _fraction(digits)

    def read(event: bytes, place: int) -> tuple[Any, int]:
        seconds = int.from_bytes(event[place : place + 4], "big")
        part = int.from_bytes(event[place + 4 : place + 4 + size], "big") * unit
        return (seconds * 1_000_000 + part) if seconds else None, place + 4 + size

    return read


def _moment(digits: int) -> Read:
    size, unit = _fraction(digits)

    def read(event: bytes, place: int) -> tuple[Any, int]:
        packed = int.from_bytes(event[place : place + 5], "big") - 0x80_0000_0000
        part = int.from_bytes(event[place + 5 : place + 5 + size], "big") * unit
        months = packed >> 22
        day = _day(months // 13, months % 13, packed >> 17 & 31)
        seconds = (packed >> 12 & 31) * 3600 + (packed >> 6 & 63) * 60 + (packed & 63)
        return None if day is None else (day * 86_400 + seconds) * 1_000_000 + part, place + 5 + size

    return read


def _time(digits: int) -> Read:
    size, unit = _fraction(digits)

    def read(event: bytes, place: int) -> tuple[Any, int]:
        end = place + 3 + size
        packed = int.from_bytes(event[place:end], "big") - (0x80_0000 << 8 * size)
        whole, part = abs(packed) >> 8 * size, abs(packed) & ((1 << 8 * size) - 1)
        text = f"{'-' if packed < 0 else ''}{whole >> 12 & 1023:02d}:{whole >> 6 & 63:02d}:{whole & 63:02d}"
        return text + (f".{part * unit:06d}"[: digits + 1] if digits else ""), end

    return read


def _decimal(precision: int, scale: int) -> Read:
    """Nine digits in four bytes, the rest in as many as they need; all inverted for a negative number."""
    whole = precision - scale
    widths = [whole % 9] + [9] * (whole // 9)
    parts = [9] * (scale // 9) + [scale % 9]
    sizes = [_DIGIT_BYTES[width] for width in widths + parts]
    total = sum(sizes)

    def read(event: bytes, place: int) -> tuple[Any, int]:
        data = bytearray(event[place : place + total])
        negative = not data[0] & 0x80
        data[0] ^= 0x80
        if negative:
            data = bytearray(byte ^ 0xFF for byte in data)
        digits, at = [], 0
        for width, size in zip(widths + parts, sizes, strict=True):
            if width:
                digits.append(f"{int.from_bytes(data[at : at + size], 'big'):0{width}d}")
            at += size
        text = "".join(digits)
        left = text[:whole].lstrip("0") or "0"
        shown = f"{left}.{text[whole:]}" if scale else left
        return f"-{shown}" if negative else shown, place + total

    return read


def _bits(size: int) -> Read:
    def read(event: bytes, place: int) -> tuple[Any, int]:
        return int.from_bytes(event[place : place + size], "big"), place + size

    return read


def _sized(prefix: int, column: Declared) -> Read:
    codec = _CODECS.get(column.charset or "")

    def read(event: bytes, place: int) -> tuple[Any, int]:
        start = place + prefix
        end = start + (event[place] if prefix == 1 else int.from_bytes(event[place:start], "little"))
        return event[start:end], end

    def recoded(event: bytes, place: int) -> tuple[Any, int]:
        value, end = read(event, place)
        return value.decode(codec, errors="replace").encode(), end

    return read if codec is None else recoded


def _label(size: int, labels: Sequence[bytes]) -> Read:
    texts = ["", *(label.decode() for label in labels)]

    def read(event: bytes, place: int) -> tuple[Any, int]:
        return texts[int.from_bytes(event[place : place + size], "little")], place + size

    return read


def _labels(size: int, labels: Sequence[bytes]) -> Read:
    texts = [label.decode() for label in labels]

    def read(event: bytes, place: int) -> tuple[Any, int]:
        chosen = int.from_bytes(event[place : place + size], "little")
        return ",".join(text for bit, text in enumerate(texts) if chosen >> bit & 1), place + size

    return read


_US = pa.timestamp("us")
_INTEGERS = {1: ("b", 1), 2: ("h", 2), 3: ("i", 4), 8: ("q", 8)}
_FIXED: dict[int, tuple[Read, pa.DataType]] = {
    4: (_number("f", 4), pa.float32()),
    5: (_number("d", 8), pa.float64()),
    10: (_date, pa.date32()),
    13: (_year, pa.int64()),
}
