"""Decodes PostgreSQL's logical replication messages ("Logical Replication Message Formats"), many rows at a time.

The messages of a batch are laid end to end; a column's values are then found for all rows at once with NumPy, and
become one Arrow array without a Python object per cell.
"""

import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ftl.collect.stream.change import Changes

UTC_US = pa.timestamp("us", "UTC")
_ARROW: dict[int, pa.DataType] = {
    20: pa.int64(),
    21: pa.int16(),
    23: pa.int32(),
    700: pa.float32(),
    701: pa.float64(),
    1082: pa.date32(),
    1114: pa.timestamp("us"),
    1184: UTC_US,
}
"""Type OIDs of pg_type that the batch reader gives as something else than text."""
_PADDED = 1042
"""OID of char(n), which comes filled up with blanks."""


@dataclass(frozen=True)
class Relation:
    """A table as the stream describes it: column names and type OIDs, in order."""

    names: tuple[str, ...]
    types: tuple[int, ...]


class UnchangedError(Exception):
    """An update left out the unchanged value of the column in `args[0]`, and the old row is not there either."""


def relation(message: bytes) -> Relation:
    """Read an `R` message."""
    place = 5
    for _ in range(2):  # schema and table
        place = message.index(b"\0", place) + 1
    (count,) = struct.unpack_from(">H", message, place + 1)
    place += 3
    names, types = [], []
    for _ in range(count):
        end = message.index(b"\0", place + 1)
        names.append(message[place + 1 : end].decode())
        (oid,) = struct.unpack_from(">I", message, end + 1)
        types.append(oid)
        place = end + 9
    return Relation(tuple(names), tuple(types))


def decode(
    messages: Sequence[bytes],
    table: Relation,
    columns: Sequence[str],
    identity: Sequence[str],
    missing: Collection[str] = (),
) -> Changes:
    """Read `I`, `U` and `D` messages of one table.

    Args:
        messages: n of them, in order.
        table: as its last `R` message described it.
        columns: to read.
        identity: those of them that tell rows apart; only these are read of a deleted row.
        missing: those whose cells are missing, whatever the table has.

    Raises:
        UnchangedError: a value was left out that cannot be known.
    """
    wire, types = _Wire(messages, table), dict(zip(table.names, table.types, strict=True))
    moved = np.flatnonzero(wire.moved(identity))
    order = np.concatenate([2 * wire.new.rows + 1, 2 * wire.old.rows[moved]])
    sequence = np.argsort(order, kind="stable")
    arrays = []
    for name in columns:
        if name in missing:
            arrays.append(pa.nulls(len(order)))
            continue
        cells = wire.new.array(name, wire.old)
        if len(moved):
            gone = wire.old.array(name).take(pa.array(moved)) if name in identity else pa.nulls(len(moved), pa.string())
            cells = _joined(cells, gone).take(pa.array(sequence))
        arrays.append(_typed(cells, types[name]))
    deleted = (np.arange(len(order)) >= len(wire.new.rows))[sequence]
    return Changes(pa.RecordBatch.from_arrays(arrays, names=list(columns)), deleted)


class _Wire:
    """n messages end to end, and where their old and new rows lie."""

    def __init__(self, messages: Sequence[bytes], table: Relation) -> None:
        data = b"".join(messages)
        bytes_ = np.frombuffer(data, np.uint8)
        starts = np.cumsum([0, *map(len, messages)][: len(messages)])
        kind, marker = bytes_[starts], bytes_[starts + 5]
        has_old = marker != ord("N")
        self.deletes = kind == ord("D")
        self.old = _Tuples(data, bytes_, table, np.flatnonzero(has_old), starts[has_old] + 6)
        at = starts + 6
        at[has_old] = self.old.ends + 1
        fresh = ~self.deletes
        self.new = _Tuples(data, bytes_, table, np.flatnonzero(fresh), at[fresh])

    def moved(self, identity: Sequence[str]) -> NDArray[np.bool_]:
        """bool, one per old row: it was deleted, or has another identity now."""
        old = self.old.rows
        found: NDArray[np.bool_] = self.deletes[old].copy()
        updates = np.flatnonzero(~found)
        if len(updates):
            after = np.searchsorted(self.new.rows, old[updates])
            for name in identity:
                left = self.old.array(name).take(pa.array(updates)).cast(pa.binary())
                right = self.new.array(name, self.old).take(pa.array(after)).cast(pa.binary())
                same = pc.fill_null(pc.equal(left, right), fill_value=False)
                both = pc.and_(pc.is_null(left), pc.is_null(right))
                found[updates] |= ~np.asarray(pc.or_(same, both).to_numpy(zero_copy_only=False), dtype=bool)
        return found


class _Tuples:
    """Rows (`TupleData`) at given places.

    Attributes:
        rows: int64, ascending; which message each belongs to.
        ends: int64; the place after each.
    """

    def __init__(
        self, data: bytes, bytes_: NDArray[np.uint8], table: Relation, rows: NDArray[np.int64], at: NDArray[np.int64]
    ) -> None:
        self._data, self._table, self.rows = data, table, rows
        self._cells: dict[str, tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]] = {}
        self._arrays: dict[str, pa.Array] = {}
        at = at + 2  # behind the number of columns
        for name in table.names:
            kind = bytes_[at]
            text = kind == ord("t")
            length = np.zeros(len(at), np.int64)
            places = at[text]
            for byte in range(1, 5):
                length[text] = length[text] << 8 | bytes_[places + byte]
            start = np.where(text, at + 5, at + 1)
            self._cells[name] = kind, start, start + length
            at = start + length
        self.ends = at

    def array(self, name: str, before: "_Tuples | None" = None) -> pa.Array:
        """The cells of a column as text, or as bytes where they are no UTF-8.

        Args:
            name: of the column.
            before: the old rows, which know the values that an update left out.

        Raises:
            UnchangedError: they do not.
        """
        if name not in self._arrays:
            kind, start, end = self._cells[name]
            offsets = np.stack([start, end], axis=1).ravel().astype(np.int32)
            cells = _text(self._data, offsets)
            cells = pc.if_else(pa.array(kind == ord("t")), cells, pa.scalar(None, cells.type))
            omitted = kind == ord("u")
            self._arrays[name] = self._filled(name, cells, omitted, before) if omitted.any() else cells
        return self._arrays[name]

    def _filled(self, name: str, cells: pa.Array, omitted: NDArray[np.bool_], before: "_Tuples | None") -> pa.Array:
        sought = self.rows[omitted]
        places = np.searchsorted(before.rows, sought) if before is not None else np.zeros(0, np.int64)
        if before is None or not np.isin(sought, before.rows).all():
            raise UnchangedError(name)
        kinds = before._cells[name][0][places]  # noqa: SLF001 - the same class
        if (kinds == ord("u")).any():
            raise UnchangedError(name)
        known = before.array(name).take(pa.array(places))
        return pc.replace_with_mask(cells, pa.array(omitted), known.cast(cells.type))


def _text(data: bytes, offsets: NDArray[np.int32]) -> pa.Array:
    """Cells between each pair of offsets: every second cell of one array over all bytes, copied out in one go."""
    if not len(offsets):
        return pa.array([], pa.string())
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    array = pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)
    cells = array.take(pa.array(np.arange(0, len(offsets), 2)))
    try:
        return cells.cast(pa.string())
    except pa.ArrowInvalid:
        return cells


def _joined(new: pa.Array, gone: pa.Array) -> pa.Array:
    if new.type != gone.type:
        new, gone = new.cast(pa.binary()), gone.cast(pa.binary())
    return pa.concat_arrays([new, gone])


def _typed(text: pa.Array, oid: int) -> pa.Array:
    """As the batch reader would give it; `infinity` and the like stay text, cell by cell for the mapping to judge."""
    if oid == _PADDED:
        return pc.utf8_rtrim(text, " ") if pa.types.is_string(text.type) else text
    convert = _CONVERT.get(oid)
    if convert is None or not pa.types.is_string(text.type):
        return text
    try:
        return convert(text)
    except pa.ArrowInvalid:
        return text


def _zoned(text: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(text, r"\+00$", "").cast(pa.timestamp("us")).cast(UTC_US)


def _to(kind: pa.DataType) -> Callable[[pa.Array], pa.Array]:
    return lambda text: text.cast(kind)


_CONVERT = {oid: _to(kind) for oid, kind in _ARROW.items()} | {16: lambda text: pc.equal(text, "t"), 1184: _zoned}
