"""Reading a whole table in pieces that can be known again, so that a read that was cut off goes on where it was.

A source decides what a piece is: blocks of a heap, a range of its key, a run of rows of a file. Its *name* says how the
source finds the same rows again and, together with the source's *state*, how it sees that they are still the same.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc

PIECE_ROWS = 262_144
"""Rows per piece that a source aims at where it may choose."""

Totals = dict[str, int | None]
"""Source column to its control total modulo 2⁶⁴: the sum of whole numbers, the bytes of texts in UTF-8; None where the
values read are of neither kind."""

WHOLE = 1 << 64


@dataclass(frozen=True)
class Asked:
    """What is to be read of a table.

    Attributes:
        columns: source columns.
        key: those of them that identify a row; their control totals are reconciled.
        cursor: the one of them that grows with every change, if there is one.
    """

    columns: Sequence[str]
    key: Sequence[str] = ()
    cursor: str | None = None


@dataclass(frozen=True)
class Earlier:
    """What a read that was cut off has finished.

    Attributes:
        state: of the source, as that read had it.
        chapters: pieces that stand or fall together; name to number of rows.
    """

    state: str
    chapters: Sequence[Mapping[str, int]]

    def held(self, holds: Callable[[str, int], bool]) -> frozenset[str]:
        """The pieces of all chapters in which every piece, by its name and rows, still holds."""
        whole = [some for some in self.chapters if all(holds(name, rows) for name, rows in some.items())]
        return frozenset(name for some in whole for name in some)


NOTHING_YET = Earlier("", ())


@dataclass(frozen=True)
class Pieces:
    """One consistent read of a table.

    Attributes:
        rows: how many rows the table has; None where the source cannot say without reading.
        totals: control totals of key columns over all its rows, of those for which the source can say it.
        state: to be given back with the names of the pieces.
        kept: those pieces of the earlier read that hold the same rows as then; they are not read again.
        items: record batches of all others; after the batches of each piece its name.
    """

    rows: int | None
    items: Iterator[pa.RecordBatch | str]
    totals: Totals = field(default_factory=dict)
    state: str = ""
    kept: frozenset[str] = frozenset()


@runtime_checkable
class InPieces(Protocol):
    """A source that can read a table so."""

    def pieces(self, table: str, asked: Asked, earlier: Earlier = NOTHING_YET) -> AbstractContextManager[Pieces]:
        """Read a whole table as of now, without the pieces that an earlier read has finished and that still hold.

        Raises:
            SourceError: there is no such table or column; names the nearest one, or what to grant.
        """
        ...


def totals_of(batch: pa.RecordBatch, names: Iterable[str]) -> Totals:
    """The control totals of some columns of a batch."""
    return {name: _total(batch.column(name)) for name in names}


def _total(values: pa.Array) -> int | None:
    if pa.types.is_integer(values.type):
        found = pc.sum(values).as_py()
    elif pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        found = pc.sum(pc.binary_length(values)).as_py()
    else:
        return None if values.null_count < len(values) else 0
    return (found or 0) % WHOLE


def runs(batches: Iterable[pa.RecordBatch], label: str, held: Iterable[str]) -> Iterator[pa.RecordBatch | str]:
    """The rows that no held run has, with a name like ``label:0-262144`` after every run of them.

    For sources that give the same rows in the same order for as long as they have not changed.

    Args:
        batches: all rows.
        label: of the runs; anything.
        held: names of runs, of others too.
    """
    known = sorted(_ends(name) for name in held if name.startswith(f"{label}:"))
    at, first, end = 0, 0, 0
    for batch in batches:
        for low, high in _gaps(at, at + batch.num_rows, known):
            if low != end:
                if end > first:
                    yield f"{label}:{first}-{end}"
                first = low
            yield batch.slice(low - at, high - low)
            end = high
            if end - first >= PIECE_ROWS:
                yield f"{label}:{first}-{end}"
                first = end
        at += batch.num_rows
    if end > first:
        yield f"{label}:{first}-{end}"


def _ends(name: str) -> tuple[int, int]:
    first, _, end = name.rpartition(":")[2].partition("-")
    return int(first), int(end)


def _gaps(low: int, high: int, known: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What of the range `low` to `high` lies in none of the known ones, which are in order."""
    for first, end in known:
        if first >= high:
            break
        if end > low:
            if first > low:
                yield low, first
            low = end
    if low < high:
        yield low, high
