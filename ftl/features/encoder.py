"""From mapped columns to one float64 matrix, the same way in training and at scoring time.

Numbers stay numbers, dates become days and timestamps seconds since 1970, and categories become codes 0 … k-1. A null,
an infinite number and a category that training has not seen are *missing* (NaN).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ftl.errors import FeatureError

MOST_CATEGORIES = 64
"""A column keeps its most frequent categories; rarer ones count as missing."""


class Encoder(msgspec.Struct, frozen=True):
    """How a party's columns become numbers. Stays at the party: category texts can be data.

    Attributes:
        columns: the p columns of the matrix, in order.
        categories: column to its category texts in code order; only categorical columns appear.
    """

    columns: tuple[str, ...]
    categories: dict[str, tuple[str, ...]] = {}

    @classmethod
    def fit(cls, table: pa.Table, columns: Sequence[str], declared: Sequence[str] = ()) -> "Encoder":
        """Learn the categories of string, bool and `declared` columns.

        Args:
            table: holds at least `columns`.
            columns: the columns to encode, in the order of the matrix.
            declared: columns whose numbers are codes.

        Raises:
            FeatureError: the table lacks a column, or a column's type cannot become a number.
        """
        _require(table.column_names, columns)
        categories = {
            column: _frequent(texts(table.column(column)))
            for column in columns
            if column in declared or _is_categorical(table.schema.field(column).type)
        }
        return cls(tuple(columns), categories)

    def transform(self, rows: pa.Table | Mapping[str, Sequence[Any]]) -> NDArray[np.float64]:
        """Encode m people.

        Args:
            rows: a table, or column name to m values; further columns are ignored.

        Returns:
            float64, shape (m, p), C order; NaN is missing.

        Raises:
            FeatureError: a column is absent or holds values that are no numbers.
        """
        names = rows.column_names if isinstance(rows, pa.Table) else list(rows)
        _require(names, self.columns)
        columns = [self._encode(column, rows[column]) for column in self.columns]
        return np.column_stack(columns) if columns else np.empty((_length(rows), 0))

    def to_json(self) -> bytes:
        """The encoder as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> "Encoder":
        """Read what `to_json` wrote.

        Raises:
            FeatureError: the bytes are not an encoder.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError as exc:
            raise FeatureError(
                f"the stored encoder is not readable: {exc}.", cure="Train again, or restore the model folder."
            ) from exc

    def _encode(self, column: str, values: Any) -> NDArray[np.float64]:
        try:
            array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
            if column in self.categories:
                return _codes(texts(array), self.categories[column])
            return numbers(array)
        except (pa.ArrowException, TypeError, ValueError) as exc:
            kind = "a category" if column in self.categories else "a number"
            raise FeatureError(
                f"column {column!r} holds a value that is not {kind}.",
                cure="Declare the column's type in the mapping, or list it under features.categorical.",
            ) from exc


def texts(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The one text that stands for each value's category: ``true``, ``3`` (also for 3.0), ``north``; null is kept."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_floating(array.type):
        whole = pc.equal(array, pc.floor(array))
        integer = pc.cast(pc.if_else(whole, array, None), pa.int64(), safe=False)
        return pc.coalesce(pc.cast(integer, pa.string()), pc.cast(array, pa.string()))
    return pc.cast(array, pa.string())


def _is_categorical(kind: pa.DataType) -> bool:
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(text or pa.types.is_boolean(kind) or pa.types.is_dictionary(kind))


def _frequent(column: pa.Array) -> tuple[str, ...]:
    counted = pc.value_counts(column.drop_null()).to_pylist()
    ranked = sorted(counted, key=lambda item: (-item["counts"], item["values"]))
    return tuple(sorted(item["values"] for item in ranked[:MOST_CATEGORIES]))


def _codes(column: pa.Array, categories: tuple[str, ...]) -> NDArray[np.float64]:
    found = pc.index_in(column, value_set=pa.array(categories, pa.string()), skip_nulls=True)
    return np.asarray(pc.cast(found, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def numbers(array: pa.Array | pa.ChunkedArray) -> NDArray[np.float64]:
    """float64, shape (n,), of a column of numbers, dates or times; what is null or infinite is NaN."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_date(array.type):
        array = pc.cast(array, pa.date32()).cast(pa.int32())
    elif pa.types.is_timestamp(array.type):
        array = pc.divide(array.cast(pa.timestamp("us")).cast(pa.int64()).cast(pa.float64()), 1e6)
    known = np.array(pc.cast(array, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    known[np.isinf(known)] = np.nan
    return known


def _require(names: Sequence[str], columns: Sequence[str]) -> None:
    absent = [column for column in columns if column not in names]
    if absent:
        raise FeatureError(
            f"column {absent[0]!r} is not there ({len(absent)} of {len(columns)} feature columns are absent).",
            cure=f"There are: {', '.join(sorted(names))}.",
        )


def _length(rows: pa.Table | Mapping[str, Sequence[Any]]) -> int:
    return int(rows.num_rows) if isinstance(rows, pa.Table) else max((len(v) for v in rows.values()), default=0)
