"""The rows that are checked together: files of a landed table, read only as far as a check needs them."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ftl.collect import PLACE, SYNC, Lake, Part, create_numbered_view, quoted, sandbox

_VIEW = "checked"


@dataclass(frozen=True)
class Bounds:
    """What the files' own statistics say of a column.

    Attributes:
        nulls: cells without a value, rows that are no longer part of the table included.
        low, high: bounds of its numbers; None where the files do not say, or hold none.
    """

    nulls: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Rows:
    """Rows of a lake table.

    A row's *place* is its number among all rows of the files, those that are no longer part of the table included.

    Attributes:
        parts: the files.
        table: the whole table's columns.
    """

    parts: tuple[Part, ...]
    table: pa.Schema

    @classmethod
    def of(cls, lake: Lake, parts: Sequence[Part] | None = None) -> "Rows":
        """Some files of a table, all of them when `parts` is None."""
        return cls(tuple(lake.parts() if parts is None else parts), lake.schema() or pa.schema([]))

    @property
    def schema(self) -> pa.Schema:
        """Columns that are checked."""
        return pa.schema([field for field in self.table if field.name != SYNC])

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(part.alive for part in self.parts)

    def ask(self, query: str, **tables: pa.Table) -> pa.Table:
        """The answer to SQL over the view ``checked``, which has the column ``_place`` besides the table's own.

        Args:
            query: SQL.
            tables: further tables that it names.
        """
        with self._connection() as connection:
            for name, rows in tables.items():
                connection.register(name, rows)
            return connection.sql(query).to_arrow_table()

    def take(self, places: NDArray[np.int64], columns: Sequence[str] | None = None) -> pa.Table:
        """The rows at these places, ascending; all columns of the table when `columns` is None."""
        wanted = self.table if columns is None else pa.schema([self.table.field(name) for name in columns])
        if not len(places):
            return wanted.empty_table()
        named = ", ".join(map(quoted, wanted.names))
        query = f"SELECT {named} FROM {_VIEW} SEMI JOIN wanted USING ({PLACE}) ORDER BY {PLACE}"  # noqa: S608
        return self.ask(query, wanted=pa.table({PLACE: places})).cast(wanted)

    def frame(self, columns: Sequence[str]) -> Any:
        """The columns as a `pandas.DataFrame`, one row per row, in the order of :attr:`places`."""
        named = ", ".join(map(quoted, [*columns, PLACE]))
        rows = self.ask(f"SELECT {named} FROM {_VIEW} ORDER BY {PLACE}") if self.parts else None  # noqa: S608
        wanted = pa.schema([self.table.field(name) for name in columns])
        return (wanted.empty_table() if rows is None else rows.select(list(columns)).cast(wanted)).to_pandas()

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """int64, ascending; where the rows lie."""
        starts = self._starts
        found = [start + np.setdiff1d(np.arange(p.rows), p.dead) for start, p in zip(starts, self.parts, strict=False)]
        return np.concatenate([np.empty(0, np.int64), *found])

    def without(self, places: NDArray[np.int64]) -> list[Part]:
        """The files, with the rows at these places dead as well."""
        starts = self._starts
        cuts = np.searchsorted(places, starts)
        return [
            Part(part.path, part.rows, np.union1d(part.dead, places[low:high] - start))
            for part, start, low, high in zip(self.parts, starts, cuts, cuts[1:], strict=False)
        ]

    def bounds(self, column: str) -> Bounds | None:
        """What the files' statistics say of a column; None where one of them says nothing."""
        nulls, lows, highs = 0, [], []
        for groups in self._statistics:
            if column not in groups:
                return None
            for found in groups[column]:
                if found is None or not found.has_null_count:
                    return None
                nulls += found.null_count
                lows.append(found.min if found.has_min_max else None)
                highs.append(found.max if found.has_min_max else None)
        numbers = [value for value in (*lows, *highs) if isinstance(value, (int, float))]
        whole = len(numbers) == 2 * len(lows) > 0
        return Bounds(nulls, min(numbers) if whole else None, max(numbers) if whole else None)

    @property
    def oldest(self) -> int:
        """Number of the earliest sync that wrote into the files; beyond all numbers where they hold no row."""
        if not self.count:
            return sys.maxsize
        bounds = self.bounds(SYNC)
        if bounds is not None and bounds.low is not None:
            return int(bounds.low)
        return int(self.ask(f"SELECT min({SYNC}) FROM {_VIEW}").column(0)[0].as_py())  # noqa: S608 - constants

    @property
    def untouched(self) -> bool:
        """Whether every row of the files is part of the table."""
        return not any(len(part.dead) for part in self.parts)

    @cached_property
    def _statistics(self) -> list[dict[str, list[Any]]]:
        return [_statistics(part.path) for part in self.parts]

    @property
    def _starts(self) -> NDArray[np.int64]:
        """int64, one more than there are files: the place of each one's first row, and of the end."""
        return np.cumsum([0, *(part.rows for part in self.parts)])

    @contextmanager
    def _connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with sandbox(part.path for part in self.parts) as connection:
            create_numbered_view(connection, _VIEW, self.parts, self.table, "_checked")
            yield connection


def _statistics(path: Path) -> dict[str, list[Any]]:
    """Column to the statistics of each of its chunks."""
    with pq.ParquetFile(path) as file:
        found, names = file.metadata, file.schema_arrow.names
        return {
            name: [found.row_group(group).column(place).statistics for group in range(found.num_row_groups)]
            for place, name in enumerate(names)
        }
