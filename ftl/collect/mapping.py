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

from ftl.collect.cast import LAKE_TYPES
from ftl.collect.column import ColumnMap
from ftl.collect.derive import Derivation
from ftl.collect.pseudonym import Pseudonyms
from ftl.collect.source import nearest
from ftl.consortium import Consortium, Node
from ftl.consortium.model import Table
from ftl.errors import MappingError

_NOT_MAPPING = {"suite", "online", "lag", "null_cursor", "repeated", "history", "contract", "keep"}
"""Settings of a table that change no landed row."""


@dataclass(frozen=True)
class Mapped:
    """One mapped batch.

    Attributes:
        rows: n rows with the lake's columns, refused rows included (a cell at fault is null in them).
        reasons: string, n cells; why a row is refused, null where it is good. Holds no value of the row.
        raw: the n source rows, cell types as read; a column that lands as pseudonyms holds these here too.
    """

    rows: pa.Table
    reasons: pa.Array
    raw: pa.RecordBatch

    @property
    def good(self) -> bool:
        """Whether no row is refused."""
        return bool(self.reasons.null_count == len(self.reasons))


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
        self._columns = {name: ColumnMap(self.label, name, column) for name, column in self.settings.columns.items()}
        self._pseudonyms = Pseudonyms(node.keys)
        self._check_key()
        self._check_pseudonyms(node.consortium)
        self._check_cursor()

    @property
    def source_columns(self) -> tuple[str, ...]:
        """Columns to read at the source, each once."""
        columns = self.settings.columns.values()
        return tuple(dict.fromkeys([*(c.source for c in columns), *(c.rate_by for c in columns if c.rate_by)]))

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
        settings = self.settings.model_dump(mode="json", by_alias=True, exclude=_NOT_MAPPING, exclude_defaults=True)
        return number(json.dumps([settings, self.key], sort_keys=True))

    def apply(self, batch: pa.RecordBatch, *, pseudonyms_given: bool = False) -> Mapped:
        """Map one batch.

        Args:
            batch: n rows of the source columns.
            pseudonyms_given: columns that land as pseudonyms hold these already.

        Raises:
            MappingError: a cell cannot be cast where the policy is `stop`, or a column has a nested type.
        """
        reasons = pa.nulls(batch.num_rows, pa.string())
        arrays, hidden = [], dict[str, pa.Array]()
        for name, column in self._columns.items():
            if column.settings.pseudonym and pseudonyms_given:
                values, failed = batch.column(column.settings.source).cast(pa.string()), np.zeros(batch.num_rows, bool)
            else:
                values, failed = column.apply(batch)
            if column.settings.pseudonym:
                values = values if pseudonyms_given else self._pseudonyms.of(values)
                hidden[column.settings.source] = values
            arrays.append(values)
            reasons = _add_reason(reasons, failed, f"{name}: cannot be read as {column.expected}")
        rows = self._derivation.apply(pa.Table.from_arrays(arrays, schema=self._derivation_input()))
        for name in self.key:
            if not rows.column(name).null_count:
                continue
            missing = np.asarray(pc.is_null(rows.column(name)).to_numpy(), dtype=bool)
            reasons = _add_reason(reasons, missing & _good(reasons), f"{name}: the key is missing")
        return Mapped(rows, reasons, _hidden(batch, hidden))

    def failures(self, batch: pa.RecordBatch) -> dict[str, NDArray[np.bool_]]:
        """Lake column to bool of shape (n,): cells that cannot be read, whatever the policy does about them."""
        return {name: column.read(batch)[1] for name, column in self._columns.items()}

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

    def _check_pseudonyms(self, consortium: Consortium) -> None:
        identifying = {*consortium.identifiers, *(name for some in consortium.alignment.otherwise for name in some)}
        for name, column in self.settings.columns.items():
            if column.pseudonym and name in identifying:
                raise MappingError(
                    f"{self.label}.columns.{name}: an identifier of the consortium cannot be a pseudonym of this node.",
                    cure="Other parties have other keys and would find nobody; alignment never shows it to them.",
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


def _hidden(batch: pa.RecordBatch, hidden: dict[str, pa.Array]) -> pa.RecordBatch:
    """The source rows as the quarantine may keep them."""
    for name, values in hidden.items():
        batch = batch.set_column(batch.schema.get_field_index(name), name, values)
    return batch


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
