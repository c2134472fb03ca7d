"""One mapped column: what is done to its cells, in which order, and which of them cannot be read."""

from zoneinfo import available_timezones

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ftl.collect.cast import Cast, as_text, cast, finite, plain
from ftl.collect.normalise import normalised
from ftl.collect.source import nearest
from ftl.consortium.model import Column, Scalar
from ftl.errors import MappingError

_CHECKED = ("resident_id", "mobile_cn", "e164")
"""Spellings that not every text has."""


class ColumnMap:
    """One column's rule with its constants as Arrow arrays.

    Args:
        label: how messages name the table.
        name: lake column.
        settings: its part of `consortium.yaml`.

    Raises:
        MappingError: settings that do not go together.
    """

    def __init__(self, label: str, name: str, settings: Column) -> None:
        self.settings = settings
        self._label = f"{label}.columns.{name}"
        self._missing = pa.array([_text(value) for value in settings.missing if value is not None], pa.string())
        self._old = pa.array(list(settings.recode), pa.string())
        self._new = pa.array([_text(value) for value in settings.recode.values()], pa.string())
        self._currencies = pa.array(list(settings.rates), pa.string())
        self._rates = pa.array(list(settings.rates.values()), pa.float64())
        self._check_measure()
        self._check_time()
        self._default = self._constant(settings.default)

    def apply(self, batch: pa.RecordBatch) -> tuple[pa.Array, NDArray[np.bool_]]:
        """(values of the lake type, bool of shape (n,): rows to refuse)."""
        values, failed = self.read(batch)
        if failed.any() and self.settings.on_error == "stop":
            raise MappingError(
                f"{self._label}: {int(failed.sum())} values of source column {self.settings.source!r} cannot be "
                f"read as {self.expected}.",
                cure="Correct them at the source, declare them under `missing` or `recode`, or set on_error to null "
                "or quarantine.",
            )
        refused = failed if self.settings.on_error == "quarantine" else np.zeros(batch.num_rows, dtype=bool)
        return values, refused

    def read(self, batch: pa.RecordBatch) -> tuple[pa.Array, NDArray[np.bool_]]:
        """(values of the lake type, bool of shape (n,): cells that cannot be read)."""
        prepared = self._prepared(self._plain(batch, self.settings.source))
        result = cast(prepared.values, self.settings.type, self.settings.zone, self.settings.format)
        converted = self._converted(result.values, batch)
        values = self._clipped(converted.values)
        values = values if self._default is None else pc.fill_null(values, self._default)
        return values, result.failed | prepared.failed | converted.failed

    def _plain(self, batch: pa.RecordBatch, source: str) -> pa.Array:
        try:
            return plain(batch.column(source))
        except TypeError as exc:
            raise MappingError(
                f"{self._label}: source column {source!r} has the nested type {exc}.",
                cure="Read it through a view at the source that gives a plain value.",
            ) from exc

    @property
    def expected(self) -> str:
        """What a cell must be, for people."""
        kind, how = self.settings.type, self.settings.normalise
        details: list[str] = [how] if how in _CHECKED else []
        details += [self.settings.format] if self.settings.format else []
        details += [f"in {', '.join(self.settings.rates)}"] if self.settings.rates else []
        return f"{kind} ({', '.join(details)})" if details else kind

    def _prepared(self, array: pa.Array) -> Cast:
        """Apply `missing`, `normalise` and `recode`, all on text; a column that declares none keeps its type."""
        failed = np.zeros(len(array), dtype=bool)
        if len(self._missing):
            hit = pc.is_in(as_text(array), self._missing)
            array = pc.if_else(hit, pa.scalar(None, array.type), array)
        if self.settings.normalise != "none":
            array, failed = self._spelt(as_text(array))
        if len(self._old):
            text = as_text(array)
            place = pc.index_in(text, self._old)
            array = pc.if_else(pc.is_valid(place), self._new.take(place), text)
        return Cast(array, failed)

    def _spelt(self, text: pa.Array) -> tuple[pa.Array, NDArray[np.bool_]]:
        spelt = normalised(text, self.settings.normalise, self.settings.country_code)
        return spelt.values, spelt.failed

    def _converted(self, values: pa.Array, batch: pa.RecordBatch) -> Cast:
        """Apply `factor` and `rates`; an amount whose currency has no rate cannot be read."""
        failed = np.zeros(len(values), dtype=bool)
        if self.settings.factor != 1:
            values = pc.multiply(values, self.settings.factor)
        if self.settings.rates and self.settings.rate_by is not None:
            currency = pc.utf8_trim_whitespace(as_text(self._plain(batch, self.settings.rate_by)))
            rate = self._rates.take(pc.index_in(currency, self._currencies))
            unknown = pc.and_(pc.is_valid(values), pc.is_null(rate))
            failed = np.asarray(unknown.to_numpy(zero_copy_only=False), dtype=bool)
            values = pc.multiply(values, rate)
        if pa.types.is_floating(values.type):
            values = finite(values)
        return Cast(values, failed)

    def _clipped(self, values: pa.Array) -> pa.Array:
        """Apply `clip`; nulls stay null."""
        low, high = (None if bound is None else pa.scalar(bound, values.type) for bound in self.settings.clip)
        if low is not None:
            values = pc.max_element_wise(values, low, skip_nulls=False)
        return values if high is None else pc.min_element_wise(values, high, skip_nulls=False)

    def _check_measure(self) -> None:
        kind, (low, high) = self.settings.type, self.settings.clip
        for setting in ("factor", "rates"):
            if getattr(self.settings, setting) not in (1, {}) and kind != "float64":
                raise MappingError(f"{self._label}.{setting}: the column is {kind}.", cure="Declare it as float64.")
        if bool(self.settings.rates) != (self.settings.rate_by is not None):
            raise MappingError(
                f"{self._label}: `rates` and `rate_by` belong together.",
                cure="Name the source column of the currency in `rate_by`, and the rate of each in `rates`.",
            )
        bounds = [bound for bound in (low, high) if bound is not None]
        if bounds and kind not in {"int64", "float64"}:
            raise MappingError(f"{self._label}.clip: the column is {kind}.", cure="Only numbers can be clipped.")
        if bounds != sorted(bounds) or (kind == "int64" and any(bound != int(bound) for bound in bounds)):
            raise MappingError(
                f"{self._label}.clip: {low} to {high} is no range of {kind}.",
                cure="Give the lowest and the highest value, whole ones for int64.",
            )

    def _check_time(self) -> None:
        kind, pattern, zone = self.settings.type, self.settings.format, self.settings.zone
        if pattern is not None and (kind not in {"date", "timestamp"} or "%" not in pattern or "%z" in pattern):
            raise MappingError(
                f"{self._label}.format: {pattern!r} is no pattern of a {kind} column.",
                cure='Write for example "%d.%m.%Y" at a date or timestamp; the zone is a setting of its own.',
            )
        if zone != "UTC" and (kind != "timestamp" or zone not in available_timezones()):
            raise MappingError(
                f"{self._label}.zone: {zone!r} is no time zone of a {kind} column."
                + nearest(zone, available_timezones() if kind == "timestamp" else ()),
                cure="Name one of the IANA database, such as Asia/Shanghai, at a timestamp.",
            )
        if self.settings.pseudonym and kind != "string":
            raise MappingError(f"{self._label}.pseudonym: the column is {kind}.", cure="Declare it as string.")

    def _constant(self, value: Scalar) -> pa.Scalar | None:
        if value is None:
            return None
        result = cast(pa.array([_text(value)], pa.string()), self.settings.type)
        if result.failed[0]:
            raise MappingError(
                f"{self._label}.default: {value!r} cannot be read as {self.settings.type}.",
                cure="Give a default of the column's type.",
            )
        return result.values[0]


def _text(value: Scalar) -> str | None:
    """The text that :func:`as_text` gives for the same value in a column."""
    if value is None:
        return None
    if isinstance(value, str):
        return value
    return str(as_text(pa.array([value]))[0])
