"""A mapping tried on some rows of its source, before anything is landed."""

from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from ftl.collect.mapping import Mapping
from ftl.collect.source import open_source
from ftl.consortium import Node
from ftl.consortium.model import Table

Outcome = Literal["lands", "quarantine", "stop"]
"""What a full sync would do with a row; `stop` is that it would end there."""


@dataclass(frozen=True)
class Failure:
    """One cell that cannot be read.

    Attributes:
        row: place in the sample, from 0.
        column: lake column.
        expected: what the cell would have to be, for people.
        policy: the column's `on_error`.
    """

    row: int
    column: str
    expected: str
    policy: str


@dataclass(frozen=True)
class Trial:
    """What the mapping makes of n rows. Holds personal data; stays at the node.

    Attributes:
        before: the source columns that the mapping reads, as read.
        after: the lake columns, derived ones included; a cell that cannot be read is null or the column's default.
        outcomes: per row.
        reasons: per row, why it does not land; None where it does.
        failures: cells that cannot be read, also those of columns whose policy is `null`.
    """

    before: pa.Table
    after: pa.Table
    outcomes: tuple[Outcome, ...]
    reasons: tuple[str | None, ...]
    failures: tuple[Failure, ...]


def try_mapping(node: Node, table: str, rows: int = 20) -> Trial:
    """Apply the mapping of a table to the first rows of its source.

    Args:
        node: the party's node.
        table: lake name of the table.
        rows: at most so many; only as much of the source is read as they need.

    Raises:
        SourceError: the source cannot be read.
        MappingError: the mapping is wrong as a whole, or a derived column fails on a row.
    """
    mapping = Mapping(_without_stops(node, table), table)
    batch = sample(node, mapping.settings.source, mapping.settings.table, mapping.source_columns, rows)
    mapped = mapping.apply(batch)
    declared, reasons = node.party.tables[table], mapped.reasons.to_pylist()
    failures = _failures(mapping, declared, batch)
    stops = {failure.row for failure in failures if failure.policy == "stop"}
    outcomes = tuple[Outcome, ...](
        "stop" if row in stops else "lands" if reason is None else "quarantine" for row, reason in enumerate(reasons)
    )
    return Trial(pa.Table.from_batches([batch]), mapped.rows, outcomes, tuple(reasons), failures)


def sample(node: Node, source: str, table: str, columns: tuple[str, ...], rows: int) -> pa.RecordBatch:
    """The first rows of a source table; fewer where its first batch has fewer."""
    with open_source(node, source).snapshot(table, columns) as snapshot:
        first = next(snapshot.batches, None)
        # Taken before the source is closed: the reader may own the buffers.
        if first is None:
            return pa.RecordBatch.from_pylist([], pa.schema([(name, pa.null()) for name in columns]))
        return first.take(pa.array(range(min(rows, first.num_rows)), pa.int64()))


def _without_stops(node: Node, table: str) -> Node:
    """The node with every `stop` as a `quarantine`, so that one bad cell does not hide the next."""
    settings = node.party.tables.get(table)
    if settings is None:
        return node  # Mapping says so, with the nearest name
    columns = {
        name: column.model_copy(update={"on_error": "quarantine"}) if column.on_error == "stop" else column
        for name, column in settings.columns.items()
    }
    tables = node.party.tables | {table: settings.model_copy(update={"columns": columns})}
    return replace(node, party=node.party.model_copy(update={"tables": tables}))


def _failures(mapping: Mapping, declared: Table, batch: pa.RecordBatch) -> tuple[Failure, ...]:
    found = [
        Failure(row, name, mapping.expected(name), declared.columns[name].on_error)
        for name, failed in mapping.failures(batch).items()
        for row in pc.indices_nonzero(pa.array(failed)).to_pylist()
    ]
    return tuple(sorted(found, key=lambda failure: failure.row))
