"""Features of a row out of the many rows of its children: aggregates over windows that end before the row's date.

Nothing that happened on that date or later has any influence (point-in-time correctness): a model that learns from
such features sees of the past only what would have been known when it is asked.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain

import duckdb
import pyarrow as pa

from ftl.collect.derive import require_scalar, sandbox
from ftl.collect.source import nearest
from ftl.consortium.windows import Aggregate, Child, View
from ftl.errors import MappingError

_NEEDS_COLUMN = {"sum": "fsum", "mean": "favg", "min": "min", "max": "max", "distinct": "count"}
"""DuckDB's functions; `fsum` and `favg` give the same sum whatever the order of the rows, but for the last digit."""
_NONE_IS_ZERO = {"count", "sum", "distinct"}


class Windows:
    """One view, checked against the columns of its tables.

    Args:
        label: how messages name the view.
        view: its settings.
        schemas: lake table to its columns; holds the parent and the children.

    Attributes:
        schema: columns of the parent, then of the aggregates in the order of the settings.

    Raises:
        MappingError: a table, column or expression is not possible, or two features have one name.
    """

    def __init__(self, label: str, view: View, schemas: Mapping[str, pa.Schema]) -> None:
        self._label, self._view = label, view
        self.tables = tuple(dict.fromkeys([view.parent, *(child.table for child in view.children.values())]))
        for table in self.tables:
            _require(f"{label}: there is no table", table, schemas)
        self._check(schemas)
        self._query = self._select(schemas[view.parent].names)
        with sandbox() as connection:
            for table in self.tables:
                connection.register(table, schemas[table].empty_table())
            self.schema: pa.Schema = self.run(connection).schema

    def run(self, connection: duckdb.DuckDBPyConnection, columns: tuple[str, ...] | None = None) -> pa.Table:
        """The view's rows, or some of its columns, on a connection that has the tables under their names.

        Raises:
            MappingError: an expression fails.
        """
        listed = "*" if columns is None else ", ".join(f'"{column}"' for column in columns)
        try:
            return connection.sql(f"SELECT {listed} FROM ({self._query})").to_arrow_table()  # noqa: S608 - in the sandbox
        except duckdb.BinderException as exc:
            said = str(exc).split("\n", maxsplit=1)[0]
            raise MappingError(f"{self._label}: {said}.", cure="Correct the view's columns or expressions.") from exc
        except duckdb.Error as exc:
            # DuckDB's message quotes the value at fault; it stays out of ours.
            raise MappingError(
                f"{self._label}: an expression fails on a row ({type(exc).__name__}).", cure="Use TRY_CAST."
            ) from None

    def _check(self, schemas: Mapping[str, pa.Schema]) -> None:
        view, parent = self._view, schemas[self._view.parent]
        if (view.at is None) == (view.day is None):
            raise MappingError(f"{self._label}: needs either `at` or `day`.", cure="Name a column, or give one date.")
        if view.at is not None:
            _require_time(f"{self._label}.at", view.at, parent)
        for name, child in view.children.items():
            self._check_child(f"{self._label}.children.{name}", child, parent, schemas[child.table])
        made = [
            *parent.names,
            *(column for name, child in view.children.items() for column, _ in _columns(name, child)),
        ]
        for column in made:
            if made.count(column) > 1:
                raise MappingError(f"{self._label}: two columns are named {column!r}.", cure="Rename a feature.")

    def _check_child(self, label: str, child: Child, parent: pa.Schema, schema: pa.Schema) -> None:
        for one, other in child.on.items():
            _require(f"{label}.on: the parent has no column", one, parent.names)
            _require(f"{label}.on: {child.table} has no column", other, schema.names)
        for column in filter(None, (child.date, child.known)):
            _require_time(f"{label}.date", column, schema)
        wheres = [("where", child.where)]
        for name, feature in child.features.items():
            where = f"{label}.features.{name}"
            if feature.column is not None:
                _require(f"{where}.column: {child.table} has no column", feature.column, schema.names)
            if (feature.column is None) == (feature.of in _NEEDS_COLUMN):
                said = "needs a `column`" if feature.column is None else "takes no `column`"
                raise MappingError(f"{where}: `of: {feature.of}` {said}.", cure="Correct it.")
            if feature.of == "share" and feature.where is None:
                raise MappingError(f"{where}: a share needs `where`.", cure="Say which rows it is the share of.")
            wheres.append((f"features.{name}.where", feature.where))
        with sandbox() as connection:
            for place, expression in wheres:
                if expression is not None:
                    require_scalar(connection, f"{label}.{place}", expression)

    def _select(self, parent: list[str]) -> str:
        """The query; ``#`` cannot start a name of the file, so the helping columns meet no other."""
        view = self._view
        at = f'CAST("{view.at}" AS TIMESTAMP)' if view.at is not None else f"TIMESTAMP '{view.day} 00:00:00'"
        kept = ", ".join(f'"{column}"' for column in parent)
        parts = [f'"#parent" AS (SELECT {kept}, {at} AS "#at", row_number() OVER () AS "#row" FROM "{view.parent}")']  # noqa: S608 - names are checked
        parts += [f'"#{name}" AS ({_grouped(name, child)})' for name, child in view.children.items()]
        made = chain.from_iterable(_filled(name, child) for name, child in view.children.items())
        columns = ", ".join([*(f'"#parent"."{column}"' for column in parent), *made])
        joins = " ".join(f'LEFT JOIN "#{name}" USING ("#row")' for name in view.children)
        return f'WITH {", ".join(parts)} SELECT {columns} FROM "#parent" {joins}'  # noqa: S608 - names are checked


def aggregated(label: str, view: View, tables: Mapping[str, pa.Table]) -> pa.Table:
    """The view over tables in memory; rows of the parent in no particular order.

    Raises:
        MappingError: the view is not possible over these tables.
    """
    windows = Windows(label, view, {name: table.schema for name, table in tables.items()})
    with sandbox() as connection:
        for name in windows.tables:
            connection.register(name, tables[name])
        return windows.run(connection)


def _columns(name: str, child: Child) -> Iterator[tuple[str, Callable[[str], str]]]:
    """(column, condition of its rows → SQL of the aggregate) of every feature and window."""
    for feature_name, feature in child.features.items():
        if feature.of == "days_since":
            yield f"{name}_{feature_name}", _aggregate(feature_name, feature)
            continue
        for days in child.windows:
            yield f"{name}_{feature_name}_{days}", _windowed(_aggregate(feature_name, feature), days)


def _windowed(aggregate: Callable[[str], str], days: int) -> Callable[[str], str]:
    return lambda condition: aggregate(f'"#date" >= "#at" - INTERVAL {days} DAY AND {condition}')


def _aggregate(name: str, feature: Aggregate) -> Callable[[str], str]:
    """SQL of one feature over the rows for which a condition holds."""
    counted = "TRUE" if feature.where is None else f'"#if_{name}"'
    if feature.of == "share":
        return lambda condition: f"avg(CASE WHEN {counted} THEN 1.0 ELSE 0.0 END) FILTER (WHERE {condition})"
    if feature.of == "days_since":
        return lambda condition: (
            f'date_diff(\'day\', max("#date") FILTER (WHERE {condition} AND {counted}), any_value("#at"))'
        )
    if feature.of == "count":
        return lambda condition: f"count(*) FILTER (WHERE {condition} AND {counted})"
    distinct = "DISTINCT " if feature.of == "distinct" else ""
    call = f'{_NEEDS_COLUMN[feature.of]}({distinct}"{feature.column}")'
    return lambda condition: f"{call} FILTER (WHERE {condition} AND {counted})"


def _grouped(name: str, child: Child) -> str:
    """One row per row of the parent that has any child before its date."""
    flags = "".join(f', ({f.where}\n) AS "#if_{n}"' for n, f in child.features.items() if f.where is not None)
    known = "TRUE" if child.known is None else f'CAST("{child.known}" AS TIMESTAMP)'
    rows = f'SELECT *, CAST("{child.date}" AS TIMESTAMP) AS "#date", {known} AS "#known"{flags} FROM "{child.table}"'  # noqa: S608
    rows += "" if child.where is None else f" WHERE ({child.where}\n)"
    meets = [f'"#parent"."{one}" = child."{other}"' for one, other in child.on.items()]
    meets += ['child."#date" < "#parent"."#at"', *(['child."#known" < "#parent"."#at"'] if child.known else [])]
    made = ", ".join(f'{aggregate("TRUE")} AS "{column}"' for column, aggregate in _columns(name, child))
    # The parent's other columns are left out: a child may have columns of the same name.
    keys = ", ".join(dict.fromkeys([*(f'"{one}"' for one in child.on), '"#at"', '"#row"']))
    parent = f'(SELECT {keys} FROM "#parent") AS "#parent"'  # noqa: S608
    condition = " AND ".join(meets)
    both = f'SELECT child.*, "#at", "#row" FROM {parent} JOIN ({rows}) AS child ON {condition}'  # noqa: S608
    return f'SELECT "#row", {made} FROM ({both}) GROUP BY "#row"'  # noqa: S608


def _filled(name: str, child: Child) -> Iterator[str]:
    """No rows are a count and a sum of zero, where the date is known; anything else of none is missing."""
    zero = {f"{name}_{n}_{days}" for n, f in child.features.items() if f.of in _NONE_IS_ZERO for days in child.windows}
    for column, _ in _columns(name, child):
        filled = f'CASE WHEN "#at" IS NOT NULL THEN coalesce("{column}", 0) END'
        yield f'{filled} AS "{column}"' if column in zero else f'"{column}"'


def _require(said: str, name: str, known: Mapping[str, pa.Schema] | list[str]) -> None:
    if name not in known:
        raise MappingError(f"{said} {name!r}.{nearest(name, known)}", cure="Correct the name in consortium.yaml.")


def _require_time(label: str, column: str, schema: pa.Schema) -> None:
    _require(f"{label}: there is no column", column, schema.names)
    kind = schema.field(column).type
    if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        raise MappingError(f"{label}: {column} is a {kind}.", cure="Map it as a date or timestamp.")
