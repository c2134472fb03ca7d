"""Derived columns: SQL expressions over one row, run by DuckDB with no way to a file, a network or another row."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from ftl.collect.cast import LAKE_TYPES
from ftl.errors import MappingError

_ROW = "mapped"
_FORBIDDEN = {"WINDOW": "a window over other rows", "SUBQUERY": "a query of its own", "STAR": "a star"}


class Derivation:
    """The derived columns of one table.

    An expression sees one batch of the table only, so anything that looks at other rows would depend on how the rows
    were cut into batches; it is refused.

    Args:
        label: how messages name the table, for example ``parties.bank.tables.accounts``.
        expressions: new column to SQL, in order; a later one may use an earlier one.
        mapped: the columns that the mapping gives.

    Attributes:
        schema: `mapped` with the derived columns appended.

    Raises:
        MappingError: an expression is not valid; names it.
    """

    def __init__(self, label: str, expressions: Mapping[str, str], mapped: pa.Schema) -> None:
        self._label = label
        self._query = f"SELECT * FROM {_ROW}"  # noqa: S608 - a constant
        self.schema = mapped
        self._connection = sandbox() if expressions else None
        for name, expression in expressions.items():
            self._add(name, expression, mapped)

    def apply(self, rows: pa.Table) -> pa.Table:
        """`rows` with the derived columns appended; a result that is not finite becomes null.

        Raises:
            MappingError: an expression fails on a row.
        """
        if self._connection is None:
            return rows
        try:
            return _as_lake(self._run(rows))
        except duckdb.Error as exc:
            # DuckDB's message quotes the value at fault; it stays in the chained exception, out of ours.
            raise MappingError(
                f"{self._label}.derived: an expression fails on a row ({type(exc).__name__}).",
                cure="Use TRY_CAST instead of CAST, and guard against the values that it cannot take.",
            ) from None

    def _add(self, name: str, expression: str, mapped: pa.Schema) -> None:
        where = f"{self._label}.derived.{name}"
        if name in self.schema.names:
            raise MappingError(f"{where}: there already is a column of that name.", cure="Choose another name.")
        assert self._connection is not None  # noqa: S101 - there is an expression, so there is a sandbox
        require_scalar(self._connection, where, expression)
        self._query = f'SELECT *, ({expression}\n) AS "{name}" FROM ({self._query})'  # noqa: S608 - runs in the sandbox
        try:
            self.schema = _as_lake(self._run(mapped.empty_table())).schema
        except duckdb.Error as exc:
            columns = ", ".join(self.schema.names)
            raise MappingError(f"{where}: {_message(exc)}.", cure=f"The table's columns are: {columns}.") from exc
        except TypeError as exc:
            raise MappingError(f"{where}: gives {exc}.", cure="Cast it to a number, text, date or time.") from exc

    def _run(self, rows: pa.Table) -> pa.Table:
        assert self._connection is not None  # noqa: S101 - only called with expressions
        self._connection.register(_ROW, rows)
        return self._connection.sql(self._query).to_arrow_table()


def sandbox(files: Iterable[Path] = ()) -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory that sees registered Arrow tables only: no file, network, extension or Python variable.

    Args:
        files: the exceptions, which it may read.
    """
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    connection.execute(
        "SET allowed_paths = $files", {"files": [text for path in files for text in (str(path), pattern(path))]}
    )
    connection.execute("SET enable_external_access = false")
    # Without this, a name in an expression could be a Python variable of ours.
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET TimeZone = 'UTC'")
    # Reasons for refusal are kept beside the rows, by position.
    connection.execute("SET preserve_insertion_order = true")
    connection.execute("SET lock_configuration = true")
    return connection


def pattern(path: Path) -> str:
    """The path as DuckDB's functions take it, to which a bracket or an asterisk would be a pattern."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(path))


def require_scalar(connection: duckdb.DuckDBPyConnection, where: str, expression: str) -> None:
    """Refuse anything that is not one expression over one row."""
    query = f"SELECT ({expression}\n) FROM {_ROW}"  # noqa: S608 - is only parsed
    try:
        ((text,),) = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    except duckdb.Error as exc:
        raise MappingError(f"{where}: {_message(exc)}.", cure="Write one SQL expression.") from exc
    parsed = json.loads(text)
    if parsed.get("error"):
        raise MappingError(f"{where}: {parsed.get('error_message')}.", cure="Write one SQL expression.")
    node = parsed["statements"][0]["node"]
    if len(parsed["statements"]) != 1 or len(node.get("select_list", [])) != 1:
        raise MappingError(f"{where}: this is more than one expression.", cure="Give each its own name.")
    for part in _classes(node["select_list"][0]):
        if part in _FORBIDDEN:
            raise MappingError(
                f"{where}: uses {_FORBIDDEN[part]}.", cure="A derived column may use columns of its own row only."
            )


def _classes(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield str(node.get("class", ""))
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _classes(child)


def _as_lake(rows: pa.Table) -> pa.Table:
    for position, field in enumerate(rows.schema):
        to = _lake_type(field.type)
        column = rows.column(position)
        if to != field.type:
            column = column.cast(to)
        if pa.types.is_floating(to):
            column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, to))
        rows = rows.set_column(position, pa.field(field.name, to), column)
    return rows


def _lake_type(found: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_integer(found):
        return LAKE_TYPES["int64"]
    if types.is_floating(found) or types.is_decimal(found):
        return LAKE_TYPES["float64"]
    if types.is_timestamp(found):
        return LAKE_TYPES["timestamp"]
    if types.is_string(found) or types.is_large_string(found):
        return LAKE_TYPES["string"]
    if types.is_boolean(found) or types.is_date32(found):
        return found
    raise TypeError(f"a value of type {found}")


def _message(exc: duckdb.Error) -> str:
    return str(exc).split("\n\n", maxsplit=1)[0].replace("\n", " ").rstrip(". ")
