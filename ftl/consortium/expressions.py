"""Derived columns, tried against an empty table of the declared types before any data are read.

DuckDB only binds the expressions here: it resolves names and types and runs nothing, on a connection that may not
read files or the network.
"""

from collections.abc import Iterator
from typing import Any

import duckdb

from ftl.consortium.problem import Finding, Path
from ftl.consortium.values import mapping, names, unknown

_SQL_TYPES = {
    "string": "VARCHAR",
    "int64": "BIGINT",
    "float64": "DOUBLE",
    "bool": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
}
_UNUSABLE = ("DATE", "TIMESTAMP", "TIME", "INTERVAL", "STRUCT", "MAP", "LIST", "[]", "BLOB")


def faulty_expressions(values: Any) -> Iterator[Finding]:
    """Derived columns that are not SQL over their own table, and features of a type no recipe can use."""
    parties = mapping(values, "parties")
    if not any(mapping(table, "derived") for party in parties.values() for table in mapping(party, "tables").values()):
        return
    settings = {"enable_external_access": False, "autoinstall_known_extensions": False, "threads": 1}
    with duckdb.connect(":memory:", config=settings) as connection:  # type: ignore[arg-type]
        for name, party in parties.items():
            yield from _of_party(connection, ("parties", name), party)


def _of_party(connection: duckdb.DuckDBPyConnection, path: Path, party: Any) -> Iterator[Finding]:
    features = mapping(party, "features")
    for table_name, table in mapping(party, "tables").items():
        types: dict[str, str] = {}
        yield from _of_table(connection, (*path, "tables", table_name), table, types)
        if features.get("table") != table_name:
            continue
        for place, column in enumerate(names(features, "columns")):
            if any(word in types.get(column, "") for word in _UNUSABLE):
                said = f"{column!r} is derived as {types[column]}, which no recipe can use"
                yield Finding((*path, "features", "columns", place), said, "a number, a text or a truth value")


def _of_table(
    connection: duckdb.DuckDBPyConnection, path: Path, table: Any, derived: dict[str, str]
) -> Iterator[Finding]:
    """Problems of one table; `derived` receives the types of its derived columns."""
    types = {name: str(mapping(column).get("type")) for name, column in mapping(table, "columns").items()}
    known = {name: _SQL_TYPES[kind] for name, kind in types.items() if kind in _SQL_TYPES}
    doubtful = set(types) - set(known)
    for name, expression in mapping(table, "derived").items():
        if not isinstance(expression, str) or name in types:
            continue
        try:
            derived[name] = known[name] = _type(connection, expression, known)
        except duckdb.Error as error:
            said = str(error).splitlines()[0].split(": ", 1)[-1]
            if _absent(said) not in doubtful:  # else it only follows from a problem that is reported already
                yield _explained((*path, "derived", name), said, known)
            doubtful.add(name)


def _type(connection: duckdb.DuckDBPyConnection, expression: str, known: dict[str, str]) -> str:
    """DuckDB's type of the expression over a table of columns `known`."""
    empty = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in known.items())
    row = connection.execute(f"DESCRIBE SELECT ({expression}\n) FROM (SELECT {empty}) AS t").fetchone()  # noqa: S608
    return str(row[1]) if row else ""


def _absent(said: str) -> str:
    """The column that DuckDB says does not exist, or an empty text."""
    return said.split('"')[1] if said.startswith('Referenced column "') else ""


def _explained(path: Path, said: str, known: dict[str, str]) -> Finding:
    if _absent(said):
        return unknown(path, _absent(said), known, "is not a column of this table, mapped or derived above")
    return Finding(path, f"is not an SQL expression over this table's columns: {said}")
