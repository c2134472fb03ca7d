"""SQL over a party's own lake, inside the party: DuckDB on Delta tables, reading only."""

from collections.abc import Mapping
from datetime import datetime

import duckdb
import pyarrow as pa

from ftl.collect.derive import sandbox
from ftl.collect.lake import Lake
from ftl.consortium import Node
from ftl.errors import LakeError

LAYERS = ("landed", "validated", "history")
"""Schemas that a query sees; in each, a view of every table that has been collected or published."""

_READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


def query(node: Node, sql: str, limit: int | None = None, at: int | datetime | None = None) -> pa.Table:
    """The answer to one SELECT (DuckDB's dialect) over views ``landed.NAME``, ``validated.NAME`` and ``history.NAME``.

    Columns that the query does not name are not read. The query reaches no file, network, extension or setting, and
    writes nothing.

    Args:
        node: the party's node.
        sql: one statement: SELECT, FROM, WITH, DESCRIBE, SUMMARIZE, SHOW or EXPLAIN.
        limit: at most so many rows; all when None.
        at: the tables as they were at this Delta version of theirs, or at this moment; as they are now when None.

    Returns:
        the rows.

    Raises:
        LakeError: it is not one reading statement, or it fails; says which tables there are.
    """
    lakes = _lakes(node, at)
    with sandbox(part.path for lake in lakes.values() for part in lake.parts()) as connection:
        views = _open(connection, lakes)
        try:
            _require_reading(connection, sql)
            answer = connection.sql(sql)
            return (answer if limit is None else answer.limit(limit)).to_arrow_table()
        except duckdb.Error as exc:
            raise LakeError(f"The query on {node.name}'s lake fails: {_said(exc)}.", cure=_cure(views)) from exc


def _lakes(node: Node, at: int | datetime | None) -> dict[tuple[str, str], Lake]:
    """(layer, table) to the table, of those that there were."""
    pinned = {"at": at} if isinstance(at, datetime) else {"version": at}
    found = {}
    for layer in LAYERS:
        for table in node.party.tables:
            path = {"landed": node.landed, "validated": node.validated, "history": node.history}[layer](table)
            newest = Lake(path).version
            if newest is not None and (not isinstance(at, int) or Lake(path).oldest <= at <= newest):
                found[layer, table] = Lake(path, **pinned)
    return found


def _open(connection: duckdb.DuckDBPyConnection, lakes: Mapping[tuple[str, str], Lake]) -> list[str]:
    """Make a view of every table that there is; returns their names."""
    for layer in LAYERS:
        connection.execute(f"CREATE SCHEMA {layer}")
    for (layer, table), lake in lakes.items():
        lake.create_view(connection, f'{layer}."{table}"', f"_{layer}_{table}")
    return [f"{layer}.{table}" for layer, table in lakes]


def _require_reading(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    statements = connection.extract_statements(sql)
    if len(statements) != 1 or statements[0].type not in _READING:
        raise LakeError("This is not one statement that only reads.", cure="Give one SELECT.")


def _said(exc: duckdb.Error) -> str:
    """DuckDB's sentence about the query; of a failure on a row, which would quote its values, only the kind."""
    if isinstance(exc, duckdb.ParserException | duckdb.BinderException | duckdb.CatalogException):
        return str(exc).split("\n\n", maxsplit=1)[0].split("\nLINE", maxsplit=1)[0].replace("\n", " ").rstrip(". ")
    if isinstance(exc, duckdb.PermissionException):
        return "it may not touch files, the network or settings"
    return type(exc).__name__


def _cure(views: list[str]) -> str:
    return f"The tables are: {', '.join(views)}." if views else "Collect a table first: the lake is empty."
