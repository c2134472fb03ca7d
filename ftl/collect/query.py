"""SQL over a party's own lake, inside the party: DuckDB on Delta tables, reading only."""

import duckdb
import pyarrow as pa

from ftl.collect.derive import sandbox
from ftl.collect.lake import Lake
from ftl.consortium import Node
from ftl.errors import LakeError

LAYERS = ("landed", "validated")
"""Schemas that a query sees; in each, a view of every table that has been collected or published."""

_READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


def query(node: Node, sql: str, limit: int | None = None) -> pa.Table:
    """The answer to one SELECT (DuckDB's dialect) over the views ``landed.NAME`` and ``validated.NAME``.

    Columns that the query does not name are not read. The query reaches no file, network, extension or setting, and
    writes nothing.

    Args:
        node: the party's node.
        sql: one statement: SELECT, FROM, WITH, DESCRIBE, SUMMARIZE, SHOW or EXPLAIN.
        limit: at most so many rows; all when None.

    Returns:
        the rows.

    Raises:
        LakeError: it is not one reading statement, or it fails; says which tables there are.
    """
    with sandbox() as connection:
        views = _open(connection, node)
        try:
            _require_reading(connection, sql)
            answer = connection.sql(sql)
            return (answer if limit is None else answer.limit(limit)).to_arrow_table()
        except duckdb.Error as exc:
            raise LakeError(f"The query on {node.name}'s lake fails: {_said(exc)}.", cure=_cure(views)) from exc


def _open(connection: duckdb.DuckDBPyConnection, node: Node) -> list[str]:
    """Make a view of every table that there is; returns their names."""
    views = []
    for layer in LAYERS:
        connection.execute(f"CREATE SCHEMA {layer}")
        for table in node.party.tables:
            lake = Lake(node.landed(table) if layer == "landed" else node.validated(table))
            if lake.version is not None:
                connection.register(f"_{layer}_{table}", lake.dataset())
                connection.execute(f'CREATE VIEW {layer}."{table}" AS FROM "_{layer}_{table}"')
                views.append(f"{layer}.{table}")
    return views


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
