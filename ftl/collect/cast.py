"""Turns columns of any source type into lake types, whole arrays at a time, and says which cells could not be turned.

A null stays null and is never an error. A NaN in a source column means *missing*.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ftl.consortium.model import ColumnType

LAKE_TYPES: dict[ColumnType, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
"""A time without a zone is in that of the column, UTC unless it says otherwise; a whole number is Unix seconds."""

_TRUE = pa.array(["true", "t", "yes", "y", "1"])
_FALSE = pa.array(["false", "f", "no", "n", "0"])
_EXACT = 2.0**53
"""Up to here float64 holds every whole number."""
_ZONED = r"[Tt ][0-9:.]+(?:[Zz]|[+-][0-9]{2}:?[0-9]{2})$"


@dataclass(frozen=True)
class Cast:
    """A cast column.

    Attributes:
        values: n cells of the lake type; null where the source had null or the cell could not be cast.
        failed: bool, shape (n,).
    """

    values: pa.Array
    failed: NDArray[np.bool_]


def plain(array: pa.Array) -> pa.Array:
    """The array without dictionary, extension type or NaN.

    Raises:
        TypeError: a nested type, which no lake column can hold.
    """
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_nested(array.type):
        raise TypeError(str(array.type))
    if pa.types.is_floating(array.type):
        nan = pc.is_nan(array)
        array = pc.if_else(nan, pa.scalar(None, array.type), array) if nan.true_count else array
    return array


def finite(values: pa.Array) -> pa.Array:
    """Floats, those that are not finite as null."""
    good = pc.is_finite(values)
    return values if good.false_count == 0 else pc.if_else(good, values, pa.scalar(None, values.type))


def as_text(array: pa.Array) -> pa.Array:
    """Text of every cell, as a person would write it: 1.0 is ``"1"``, true is ``"true"``.

    Bytes that are not UTF-8 become null.
    """
    if pa.types.is_string(array.type):
        return array
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        return _attempt(array, lambda part: part.cast(pa.string())).values
    if pa.types.is_floating(array.type):
        # Arrow writes 13800000001.0 as 1.3800000001e+10, which is no phone number.
        whole = pc.and_(pc.equal(pc.trunc(array), array), pc.less(pc.abs(array), _EXACT))
        digits = pc.if_else(whole, array, pa.scalar(None, array.type)).cast(pa.int64()).cast(pa.string())
        return pc.coalesce(digits, array.cast(pa.string()))
    return array.cast(pa.string())


def cast(array: pa.Array, to: ColumnType, zone: str = "UTC", pattern: str | None = None) -> Cast:
    """Cast a plain array (see :func:`plain`) to a lake type.

    Numbers are never rounded and times never cut without saying so: a fraction does not fit ``int64``, a time of day
    not ``date``.

    Args:
        array: n cells.
        to: the lake type.
        zone: of timestamps that name none.
        pattern: how texts write a date or timestamp, as in `strptime`; ISO 8601 when None.
    """
    if pa.types.is_null(array.type):
        return Cast(pa.nulls(len(array), LAKE_TYPES[to]), np.zeros(len(array), dtype=bool))
    if pattern is None and _textual(array) and (plainly := _written_plainly(array, to, zone)) is not None:
        return Cast(plainly, np.zeros(len(array), dtype=bool))
    read = array
    if pattern is not None and _textual(array):
        read = pc.strptime(_trimmed(array), format=pattern, unit="us", error_is_null=True)
    result = _to_timestamp(read, zone) if to == "timestamp" else _CASTS[to](read)
    if array.null_count == result.null_count:  # a missing cell is never read as a value
        return Cast(result, np.zeros(len(array), dtype=bool))
    failed = pc.and_(pc.is_valid(array), pc.is_null(result))
    return Cast(result, np.asarray(failed.to_numpy(zero_copy_only=False), dtype=bool))


def _written_plainly(text: pa.Array, to: ColumnType, zone: str) -> pa.Array | None:
    """The values of texts that need neither trimming nor any other care, which is what most sources give; else None.

    Only a short cut: what is read here, the rules of the column's type read alike.
    """
    kind = _PLAINLY.get(to)
    if kind is None:
        return None
    try:
        values = pc.cast(text, kind)
    except pa.ArrowInvalid:
        return None
    if to == "timestamp":
        return _at_zone(values, zone)
    return None if to == "float64" and pc.is_finite(values).false_count else values


_PLAINLY: dict[ColumnType, pa.DataType] = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}
"""What a text is read as at first; a time that names its zone is no time without one, and is left to the rules."""


def _to_int(array: pa.Array) -> pa.Array:
    if _textual(array):
        # A database's decimal written as text: 20000.00 is a whole number.
        array = pc.replace_substring_regex(_trimmed(array), r"^([+-]?[0-9]+)\.0*$", r"\1")
        array = pc.replace_substring_regex(array, r"^\+", "")
    if pa.types.is_temporal(array.type):
        return pa.nulls(len(array), pa.int64())
    return _attempt(array, lambda part: pc.cast(part, pa.int64())).values


def _to_float(array: pa.Array) -> pa.Array:
    if _textual(array):
        array = pc.replace_substring_regex(_trimmed(array), r"^\+", "")
    if pa.types.is_temporal(array.type):
        return pa.nulls(len(array), pa.float64())
    # From text of its own, a whole number above 2**53 would be refused; a model does not need its last digit.
    values = _attempt(array, lambda part: pc.cast(part, pa.float64(), safe=_textual(part))).values
    return finite(values)


def _to_bool(array: pa.Array) -> pa.Array:
    if pa.types.is_boolean(array.type):
        return array
    text = pc.utf8_lower(_trimmed(as_text(array)))
    known = pc.or_(pc.is_in(text, _TRUE), pc.is_in(text, _FALSE))
    return pc.if_else(known, pc.is_in(text, _TRUE), pa.scalar(None, pa.bool_()))


def _to_date(array: pa.Array) -> pa.Array:
    if pa.types.is_date(array.type):
        return array.cast(pa.date32())
    moments = _to_timestamp(array)
    days = moments.cast(pa.timestamp("us")).cast(pa.date32(), safe=False)
    whole = pc.equal(days.cast(pa.timestamp("us")), moments.cast(pa.timestamp("us")))
    return pc.if_else(whole, days, pa.scalar(None, pa.date32()))


def _to_timestamp(array: pa.Array, zone: str = "UTC") -> pa.Array:
    utc = LAKE_TYPES["timestamp"]
    if _textual(array):
        return _timestamp_of_text(_trimmed(array), zone)
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_decimal(array.type):
        seconds = _attempt(array, lambda part: pc.cast(part, pa.int64())).values
        return _attempt(seconds, lambda part: part.cast(pa.timestamp("s")).cast(utc)).values
    if pa.types.is_timestamp(array.type) and array.type.tz:
        return _attempt(array, lambda part: part.cast(pa.timestamp("us", "UTC"), safe=False).cast(utc)).values
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        # Finer than a microsecond is cut: no source's clock is that good.
        return _attempt(array, lambda part: _at_zone(part.cast(pa.timestamp("us"), safe=False), zone)).values
    return pa.nulls(len(array), utc)


def _at_zone(local: pa.Array, zone: str) -> pa.Array:
    """The moments at which clocks of the zone showed these times; an hour that was left out counts as its end."""
    if zone == "UTC":
        return local.cast(LAKE_TYPES["timestamp"])
    moments = pc.assume_timezone(local, zone, ambiguous="earliest", nonexistent="latest")
    return moments.cast(LAKE_TYPES["timestamp"])


def _timestamp_of_text(text: pa.Array, zone: str) -> pa.Array:
    zoned = pc.fill_null(pc.match_substring_regex(text, _ZONED), fill_value=False)
    none = pa.scalar(None, pa.string())
    with_zone = pc.if_else(zoned, text, none)
    without = pc.if_else(zoned, none, text)
    parsed = _attempt(with_zone, lambda part: pc.cast(part, LAKE_TYPES["timestamp"])).values
    assumed = _attempt(without, lambda part: _at_zone(pc.cast(part, pa.timestamp("us")), zone)).values
    return pc.coalesce(parsed, assumed)


def _to_string(array: pa.Array) -> pa.Array:
    return as_text(array)


_CASTS: dict[ColumnType, Callable[[pa.Array], pa.Array]] = {
    "string": _to_string,
    "int64": _to_int,
    "float64": _to_float,
    "bool": _to_bool,
    "date": _to_date,
    "timestamp": _to_timestamp,
}


def _textual(array: pa.Array) -> bool:
    return bool(pa.types.is_string(array.type) or pa.types.is_large_string(array.type))


def _trimmed(text: pa.Array) -> pa.Array:
    return pc.utf8_trim_whitespace(text.cast(pa.string()))


def _attempt(array: pa.Array, convert: Callable[[pa.Array], pa.Array]) -> Cast:
    """Convert all cells at once; where that fails, halve until the cells at fault stand alone.

    k bad cells among n cost about k·log2(n) calls, so a clean batch costs one.
    """
    try:
        return Cast(convert(array), np.zeros(len(array), dtype=bool))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError):
        if len(array) == 1:
            return Cast(pa.nulls(1, convert(array.slice(0, 0)).type), np.ones(1, dtype=bool))
    middle = len(array) // 2
    left, right = _attempt(array.slice(0, middle), convert), _attempt(array.slice(middle), convert)
    return Cast(pa.concat_arrays([left.values, right.values]), np.concatenate([left.failed, right.failed]))
