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

from ftl.collect.cast import LAKE_TYPES, as_text, cast, plain
from ftl.collect.derive import Derivation
from ftl.collect.source import nearest
from ftl.consortium import Node
from ftl.consortium.model import Column, Scalar, Table
from ftl.errors import MappingError


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
        return not (column.missing or column.recode or column.normalise != "none" or column.default is not None)

    @property
    def fingerprint(self) -> int:
        """A 63-bit number that changes with the mapping."""
        settings = self.settings.model_dump(mode="json", by_alias=True, exclude={"suite"})
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
            reasons = _add_reason(reasons, failed, f"{name}: cannot be read as {column.settings.type}")
        rows = self._derivation.apply(pa.Table.from_arrays(arrays, schema=self._derivation_input()))
        for name in self.key:
            missing = np.asarray(pc.is_null(rows.column(name)).to_numpy(), dtype=bool)
            reasons = _add_reason(reasons, missing & _good(reasons), f"{name}: the key is missing")
        return Mapped(rows, reasons, batch)

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

    def apply(self, array: pa.Array) -> tuple[pa.Array, NDArray[np.bool_]]:
        """(values of the lake type, bool of shape (n,): rows to refuse)."""
        try:
            array = plain(array)
        except TypeError as exc:
            raise MappingError(
                f"{self._label}: source column {self.settings.source!r} has the nested type {exc}.",
                cure="Read it through a view at the source that gives a plain value.",
            ) from exc
        result = cast(self._prepared(array), self.settings.type)
        if result.failed.any() and self.settings.on_error == "stop":
            raise MappingError(
                f"{self._label}: {int(result.failed.sum())} values of source column {self.settings.source!r} cannot be "
                f"read as {self.settings.type}.",
                cure="Correct them at the source, declare them under `missing` or `recode`, or set on_error to null "
                "or quarantine.",
            )
        refused = result.failed if self.settings.on_error == "quarantine" else np.zeros(len(array), dtype=bool)
        values = result.values if self._default is None else pc.fill_null(result.values, self._default)
        return values, refused

    def _prepared(self, array: pa.Array) -> pa.Array:
        """Apply `missing`, `normalise` and `recode`, all on text; a column that declares none keeps its type."""
        if len(self._missing):
            hit = pc.is_in(as_text(array), self._missing)
            array = pc.if_else(hit, pa.scalar(None, array.type), array)
        if self.settings.normalise != "none":
            array = _normalised(as_text(array), self.settings.normalise)
        if len(self._old):
            text = as_text(array)
            place = pc.index_in(text, self._old)
            array = pc.if_else(pc.is_valid(place), self._new.take(place), text)
        return array

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


def _normalised(text: pa.Array, how: str) -> pa.Array:
    """Text in one spelling; what is left empty is unknown."""
    text = pc.replace_substring_regex(text, "[^0-9]", "") if how == "digits" else pc.utf8_trim_whitespace(text)
    if how == "upper":
        text = pc.utf8_upper(text)
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


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
