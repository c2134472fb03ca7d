"""Decodes MariaDB's row events ("Replication Protocol: Rows Events" of its knowledge base) into columns."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ftl.collect.stream.binlog_cells import Declared, UnsupportedError, cell
from ftl.collect.stream.change import Changes


@dataclass(frozen=True)
class Map:
    """A table as the events describe it: schema, name, type codes and the description of each type."""

    schema: str
    table: str
    types: bytes
    details: tuple[int, ...]


def table_map(event: bytes, place: int) -> Map:
    """Read a table map event whose body begins at `place`."""
    place += 8
    size = event[place]
    schema = event[place + 1 : place + 1 + size].decode()
    place += size + 2
    size = event[place]
    table = event[place + 1 : place + 1 + size].decode()
    count, place = _length(event, place + size + 2)
    types = event[place : place + count]
    _, place = _length(event, place + count)
    details = []
    for kind in types:
        size = _DETAIL_BYTES.get(kind, 0)
        order: Any = "big" if kind in {246, 247, 248, 254} else "little"
        details.append(int.from_bytes(event[place : place + size], order))
        place += size
    return Map(schema, table, types, tuple(details))


class RowDecoder:
    """Reads the rows of one table.

    Args:
        found: the table as the events describe it.
        declared: its columns in the catalogue.
        columns: to read, in this order.
        identity: those of them that tell rows apart.
        missing: those whose cells are missing, whatever the table has.

    Raises:
        UnsupportedError: a column cannot be streamed.
    """

    def __init__(
        self,
        found: Map,
        declared: Sequence[Declared],
        columns: Sequence[str],
        identity: Sequence[str],
        missing: Collection[str] = (),
    ) -> None:
        names = [column.name for column in declared]
        self._names = list(columns)
        self._places = [None if name in missing else names.index(name) for name in columns]
        self._identity = [names.index(name) for name in identity]
        wanted = {place for place in self._places if place is not None}
        cells = [
            cell(kind, detail, column)
            for kind, detail, column in zip(found.types, found.details, declared, strict=True)
        ]
        for place in wanted:
            if cells[place][1] is None:
                raise UnsupportedError(f"{declared[place].name} {declared[place].type}")
        self._reads = [read for read, _ in cells]
        self._types = [pa.null() if place is None else cells[place][1] for place in self._places]
        self._bitmap = (len(names) + 7) // 8
        self._rows: list[list[Any]] = []
        self._deleted: list[bool] = []

    def __len__(self) -> int:
        return len(self._rows)

    def insert(self, event: bytes, place: int) -> int:
        """Read the rows of an insert; gives their number."""
        count, end = 0, len(event)
        while place < end:
            row, place = self._row(event, place)
            self._add(row, deleted=False)
            count += 1
        return count

    def delete(self, event: bytes, place: int) -> int:
        """Read the rows of a deletion; gives their number."""
        count, end = 0, len(event)
        while place < end:
            row, place = self._row(event, place)
            self._add(self._bare(row), deleted=True)
            count += 1
        return count

    def update(self, event: bytes, place: int) -> int:
        """Read old and new rows; gives the number of pairs."""
        count, end = 0, len(event)
        while place < end:
            old, place = self._row(event, place)
            new, place = self._row(event, place)
            if any(old[column] != new[column] for column in self._identity):
                self._add(self._bare(old), deleted=True)
            self._add(new, deleted=False)
            count += 1
        return count

    def take(self) -> Changes:
        """What was read since the last call."""
        columns = list(zip(*self._rows, strict=True)) if self._rows else [()] * len(self._reads)
        none = [None] * len(self._rows)
        arrays = [
            _array(none if place is None else columns[place], kind)
            for place, kind in zip(self._places, self._types, strict=True)
        ]
        changes = Changes(pa.RecordBatch.from_arrays(arrays, names=self._names), np.array(self._deleted, dtype=bool))
        self._rows, self._deleted = [], []
        return changes

    def _add(self, row: list[Any], *, deleted: bool) -> None:
        self._rows.append(row)
        self._deleted.append(deleted)

    def _bare(self, row: list[Any]) -> list[Any]:
        return [value if place in self._identity else None for place, value in enumerate(row)]

    def _row(self, event: bytes, place: int) -> tuple[list[Any], int]:
        nulls = int.from_bytes(event[place : place + self._bitmap], "little")
        place += self._bitmap
        row: list[Any] = []
        add = row.append
        if not nulls & self._all:
            for read in self._reads:
                value, place = read(event, place)
                add(value)
            return row, place
        for read in self._reads:
            if nulls & 1:
                add(None)
            else:
                value, place = read(event, place)
                add(value)
            nulls >>= 1
        return row, place

    @property
    def _all(self) -> int:
        return (1 << len(self._reads)) - 1


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    array = pa.array(values, kind)
    if pa.types.is_binary(kind):
        try:
            return array.cast(pa.string())
        except pa.ArrowInvalid:
            return array
    return array


def _length(event: bytes, place: int) -> tuple[int, int]:
    """A length-encoded integer and the place after it."""
    first = event[place]
    if first < 251:
        return first, place + 1
    size = {252: 2, 253: 3, 254: 8}[first]
    return int.from_bytes(event[place + 1 : place + 1 + size], "little"), place + 1 + size


_DETAIL_BYTES = {4: 1, 5: 1, 15: 2, 16: 2, 17: 1, 18: 1, 19: 1, 245: 1, 246: 2, 247: 2, 248: 2, 252: 1, 253: 2, 254: 2}
_DETAIL_BYTES |= {249: 1, 250: 1, 251: 1, 255: 1}
