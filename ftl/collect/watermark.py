"""Cursor values as 64-bit integers, so that a watermark fits into the transaction that commits its rows."""

import math
import struct
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from ftl.collect.source import Position

NOTHING = -(2**63) + 1
"""The mark of a table in which no row has a cursor value."""

_SECONDS_A_DAY = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def as_mark(position: Position) -> int:
    """A number that grows with the position.

    A whole number as it is, a float's bits in the order of the values, a date in days and a time in microseconds since
    1970.
    """
    if isinstance(position, datetime):
        return (position - _EPOCH) // _MICROSECOND
    if isinstance(position, date):
        return (position - _EPOCH.date()).days
    if isinstance(position, float):
        (bits,) = struct.unpack("<q", struct.pack("<d", position + 0.0))  # + 0.0 makes one zero of the two
        return _ordered(bits)
    return position


def as_position(mark: int, kind: pa.DataType) -> Position | None:
    """The cursor value behind a mark; None for :data:`NOTHING`."""
    if mark == NOTHING:
        return None
    if pa.types.is_timestamp(kind):
        return _EPOCH + mark * _MICROSECOND
    if pa.types.is_date(kind):
        return _EPOCH.date() + timedelta(days=mark)
    if pa.types.is_floating(kind):
        value: float = struct.unpack("<d", struct.pack("<q", _ordered(mark)))[0]
        return value
    return mark


def earlier(position: Position, lag: float) -> Position:
    """The position less a lag: seconds of a time, whole days of a date, else the position's own unit."""
    if isinstance(position, datetime):
        return position - timedelta(seconds=lag)
    if isinstance(position, date):
        return position - timedelta(days=math.ceil(lag / _SECONDS_A_DAY))
    return position - lag if isinstance(position, float) else position - math.ceil(lag)


def newest(cursor: pa.ChunkedArray) -> int:
    """Mark of the greatest value; :data:`NOTHING` where there is none."""
    value = pc.max(cursor).as_py()
    return NOTHING if value is None else as_mark(value)


def _ordered(bits: int) -> int:
    """Its own inverse: negative floats have their bits in reverse order."""
    return bits if bits >= 0 else bits ^ 0x7FFF_FFFF_FFFF_FFFF
