"""Cells of sources whose columns have no type: what Python values of one column become together."""

import json
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

import pyarrow as pa

_WHOLE = 2.0**53
"""Up to here float64 holds every whole number."""


def cells(values: Sequence[Any]) -> pa.Array:
    """One Arrow array of n cells; a column of mixed types becomes text, as a person would write each value.

    Nested values become their JSON. Days and moments together become moments, each day at its first one.
    """
    plain = [_flat(value) for value in values]
    if any(isinstance(value, datetime) for value in plain):
        plain = [_moment(value) for value in plain]
    try:
        return pa.array(plain)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if value is None else _text(value) for value in plain], pa.string())


def _flat(value: Any) -> Any:
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value) if isinstance(value, time | timedelta) else value


def _moment(value: Any) -> Any:
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001 - the mapping says the zone
    return value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE:
        return str(int(value))
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
