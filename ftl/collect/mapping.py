"""Field mapping: source batches to lake batches, by the columns that `consortium.yaml` declares."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ftl.collect.cast import LAKE_TYPES, Cast, as_text, cast, plain
from ftl.collect.derive import Derivation
from ftl.collect.normalise import normalised
from ftl.collect.source import nearest
from ftl.consortium import Node
from ftl.consortium.model import Column, Scalar, Table
from ftl.errors import MappingError

_CHECKED = ("resident_id", "mobile_cn", "e164")
"""Spellings that not every text has."""


@dataclass(frozen=True)
class Mapped:
    """One mapped batch.

    Attributes:
        rows: n rows with the lake's columns, refused rows included (a cell at fault is null in them).
        reasons: string, n cells; why a row is refused, null where it is good. Holds no value of the row.
        raw: the n source rows, cell types as read.
    """

    rows: pa.Table
    reasons: pa.Array
    raw: pa.RecordBatch


class Mapping:
    """The mapping of one table of a party, checked and ready to be applied.

    Args:
        node: the party's node.
        table: lake name of the table.

    Attributes:
        label: how messages name the table.
        settings: the table's part of `consortium.yaml`.
        key: lake columns that identify a row.
        schema: columns and derived columns, in order.

    Raises:
        MappingError: there is no such table, or a key, cursor, default or derived column is not possible.
    """

    def __init__(self, node: Node, table: str) -> None:
        if table not in node.party.tables:
            raise MappingError(
                f"Party {node.name} has no table {table!r}.{nearest(table, node.party.tables)}",
                cure=f"Declare it under parties.{node.name}.tables in consortium.yaml.",
            )
        self.label = f"parties.{node.name}.tables.{table}"
        self.settings: Table = node.party.tables[table]
        self.key: tuple[str, ...] = self.settings.key or node.consortium.identifiers
        mapped = pa.schema([(name, LAKE_TYPES[column.type]) for name, column in self.settings.columns.items()])
        self._derivation = Derivation(self.label, self.settings.derived, mapped)
        self.schema = self._derivation.schema
        self._columns = {name: _ColumnMap(self.label, name, c) for name, c in self.settings.columns.items()}
        self._check_key()
        self._check_cursor()

    @property
    def source_columns(self) -> tuple[str, ...]:
        """Columns to read at the source, each once."""
        return tuple(dict.fromkeys(column.source for column in self.settings.columns.values()))

    @property
    def source_cursor(self) -> str | None:
        """The source column behind the cursor; None where the cursor is derived."""
        column = self.settings.columns.get(self.settings.cursor or "")
        return column.source if column is not None else None

    @property
    def cursor_as_stored(self) -> bool:
        """Whether the cursor has the source column's own order, so that the source may filter by it."""
        column = self.settings.columns.get(self.settings.cursor or "")
        if column is None:
            return False
        changes = column.model_dump(exclude={"source", "type", "on_error"}, exclude_defaults=True)
        return not changes

    @property
    def fingerprint(self) -> int:
        """A 63-bit number that changes with the mapping."""
        settings = self.settings.model_dump(mode="json", by_alias=True, exclude={"suite"}, exclude_defaults=True)
        return number(json.dumps([settings, self.key], sort_keys=True))

    def apply(self, batch: pa.RecordBatch) -> Mapped:
        """Map one batch.

        Raises:
            MappingError: a cell cannot be cast where the policy is `stop`, or a column has a nested type.
        """
        reasons = pa.nulls(batch.num_rows, pa.string())
        arrays = []
        for name, column in self._columns.items():
            values, failed = column.apply(batch.column(column.settings.source))
            arrays.append(values)
            reasons = _add_reason(reasons, failed, f"{name}: cannot be read as {column.expected}")
        rows = self._derivation.apply(pa.Table.from_arrays(arrays, schema=self._derivation_input()))
        for name in self.key:
            missing = np.asarray(pc.is_null(rows.column(name)).to_numpy(), dtype=bool)
            reasons = _add_reason(reasons, missing & _good(reasons), f"{name}: the key is missing")
        return Mapped(rows, reasons, batch)

    def failures(self, batch: pa.RecordBatch) -> dict[str, NDArray[np.bool_]]:
        """Lake column to bool of shape (n,): cells that cannot be read, whatever the policy does about them."""
        return {name: column.read(batch.column(column.settings.source))[1] for name, column in self._columns.items()}

    def expected(self, name: str) -> str:
        """What a cell of a mapped column must be, for people."""
        return self._columns[name].expected

    def _derivation_input(self) -> pa.Schema:
        return pa.schema([self.schema.field(name) for name in self._columns])

    def _check_key(self) -> None:
        for name in self.key:
            if name not in self.schema.names:
                raise MappingError(
                    f"{self.label}.key: there is no column {name!r}.{nearest(name, self.schema.names)}",
                    cure="Map every key column; without `key`, the consortium's identifiers are the key.",
                )

    def _check_cursor(self) -> None:
        cursor = self.settings.cursor
        if cursor is None:
            return
        if cursor not in self.schema.names:
            raise MappingError(
                f"{self.label}.cursor: there is no column {cursor!r}.{nearest(cursor, self.schema.names)}",
                cure="Name a lake column that grows when a row is written or changed.",
            )
        if self.schema.field(cursor).type in (pa.string(), pa.bool_()):
            raise MappingError(
                f"{self.label}.cursor: {cursor} is a {self.schema.field(cursor).type}.",
                cure="A cursor is an int64, float64, date or timestamp.",
            )


class _ColumnMap:
    """One column's rule with its constants as Arrow arrays."""

    def __init__(self, label: str, name: str, settings: Column) -> None:
        self.settings = settings
        self._label = f"{label}.columns.{name}"
        self._missing = pa.array([_text(value) for value in settings.missing if value is not None], pa.string())
        self._old = pa.array(list(settings.recode), pa.string())
        self._new = pa.array([_text(value) for value in settings.recode.values()], pa.string())
        self._default = self._constant(settings.default)
        self._check_measure()

    def apply(self, array: pa.Array) -> tuple[pa.Array, NDArray[np.bool_]]:
        """(values of the lake type, bool of shape (n,): rows to refuse)."""
        values, failed = self.read(array)
        if failed.any() and self.settings.on_error == "stop":
            raise MappingError(
                f"{self._label}: {int(failed.sum())} values of source column {self.settings.source!r} cannot be "
                f"read as {self.expected}.",
                cure="Correct them at the source, declare them under `missing` or `recode`, or set on_error to null "
                "or quarantine.",
            )
        refused = failed if self.settings.on_error == "quarantine" else np.zeros(len(array), dtype=bool)
        return values, refused

    def read(self, array: pa.Array) -> tuple[pa.Array, NDArray[np.bool_]]:
        """(values of the lake type, bool of shape (n,): cells that cannot be read)."""
        try:
            array = plain(array)
        except TypeError as exc:
            raise MappingError(
                f"{self._label}: source column {self.settings.source!r} has the nested type {exc}.",
                cure="Read it through a view at the source that gives a plain value.",
            ) from exc
        prepared = self._prepared(array)
        result = cast(prepared.values, self.settings.type)
        values = self._measured(result.values)
        values = values if self._default is None else pc.fill_null(values, self._default)
        return values, result.failed | prepared.failed

    @property
    def expected(self) -> str:
        """What a cell must be, for people."""
        kind, how = self.settings.type, self.settings.normalise
        return f"{kind} ({how})" if how in _CHECKED else kind

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

    def _measured(self, values: pa.Array) -> pa.Array:
        """Apply `factor` and `clip`; nulls stay null."""
        if self.settings.factor != 1:
            values = pc.multiply(values, self.settings.factor)
            values = pc.if_else(pc.is_finite(values), values, pa.scalar(None, values.type))
        low, high = (None if bound is None else pa.scalar(bound, values.type) for bound in self.settings.clip)
        if low is not None:
            values = pc.max_element_wise(values, low, skip_nulls=False)
        return values if high is None else pc.min_element_wise(values, high, skip_nulls=False)

    def _check_measure(self) -> None:
        kind, (low, high) = self.settings.type, self.settings.clip
        if self.settings.factor != 1 and kind != "float64":
            raise MappingError(f"{self._label}.factor: the column is {kind}.", cure="Declare it as float64.")
        bounds = [bound for bound in (low, high) if bound is not None]
        if bounds and kind not in {"int64", "float64"}:
            raise MappingError(f"{self._label}.clip: the column is {kind}.", cure="Only numbers can be clipped.")
        if bounds != sorted(bounds) or (kind == "int64" and any(bound != int(bound) for bound in bounds)):
            raise MappingError(
                f"{self._label}.clip: {low} to {high} is no range of {kind}.",
                cure="Give the lowest and the highest value, whole ones for int64.",
            )

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


def _good(reasons: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(pc.is_null(reasons).to_numpy(zero_copy_only=False), dtype=bool)


def _add_reason(reasons: pa.Array, rows: NDArray[np.bool_], reason: str) -> pa.Array:
    if not rows.any():
        return reasons
    joined = pc.binary_join_element_wise(reasons, reason, "; ", null_handling="skip")
    return pc.if_else(pa.array(rows), joined, reasons)


def number(text: str) -> int:
    """A 63-bit fingerprint that fits a Delta app transaction's version."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def records(batch: pa.RecordBatch | pa.Table, rows: Iterable[int] | pa.Array) -> list[str]:
    """The rows as JSON objects, for the quarantine."""
    taken: list[dict[str, Any]] = batch.take(pa.array(rows, pa.uint64())).to_pylist()
    return [json.dumps(row, ensure_ascii=False, default=_plain) for row in taken]


def _plain(value: Any) -> str:
    return value.decode("utf-8", errors="backslashreplace") if isinstance(value, bytes) else str(value)
