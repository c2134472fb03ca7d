"""The data files of one version of a Delta table, read without the rows that its deletion vectors name."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ftl.collect.derive import pattern

SYNC = "_sync"
"""Lake column: number of the sync that wrote the row."""

_SQL = {
    "string": "VARCHAR",
    "int64": "BIGINT",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
    "date32[day]": "DATE",
    "timestamp[us, tz=UTC]": "TIMESTAMPTZ",
}
PLACE = "_place"
"""Column of a numbered view; see :func:`create_numbered_view`."""

_ROW = "file_row_number"
"""DuckDB's name of a row's place in its file."""


@dataclass(frozen=True)
class Part:
    """One data file.

    Attributes:
        path: where it lies.
        rows: rows in the file, deleted ones included.
        dead: int64, ascending; places of the deleted ones.
    """

    path: Path
    rows: int
    dead: NDArray[np.int64]

    @classmethod
    def whole(cls, path: Path, rows: int) -> "Part":
        """A file all of whose rows are part of the table."""
        return cls(path, rows, np.empty(0, np.int64))

    @property
    def alive(self) -> int:
        """Number of rows that are part of the table."""
        return self.rows - len(self.dead)

    def mask(self) -> pa.Array:
        """bool, `rows` cells: whether a row is part of the table."""
        alive = np.ones(self.rows, dtype=bool)
        alive[self.dead] = False
        return pa.array(alive)


def parts_of(folder: Path, table: Any) -> list[Part]:
    """The files of the version that `table` (a `deltalake.DeltaTable`) shows."""
    actions = pa.table(table.get_add_actions(flatten=True))
    dead = _dead(table)
    names = (unquote(name) for name in actions.column("path").to_pylist())
    nothing = np.empty(0, np.int64)
    return [
        Part(folder / name, rows, dead.get(name, nothing))
        for name, rows in zip(names, actions.column("num_records").to_pylist(), strict=True)
    ]


def _dead(table: Any) -> dict[str, NDArray[np.int64]]:
    if "deletionVectors" not in (table.protocol().reader_features or []):
        return {}
    vectors = pa.table(table.deletion_vectors())
    return {
        unquote(uri).rsplit("/", 1)[1]: np.flatnonzero(~np.asarray(alive.values, dtype=bool))
        for uri, alive in zip(vectors.column(0).to_pylist(), vectors.column(1), strict=True)
    }


def read(parts: Iterable[Part], schema: pa.Schema, columns: Sequence[str], since: int | None) -> pa.Table:
    """The rows of the files, in file order within a file.

    Args:
        parts: which files.
        schema: of the whole table.
        columns: to read.
        since: only rows of later syncs.
    """
    condition = None if since is None else ds.field(SYNC) > since
    wanted = pa.schema([schema.field(name) for name in columns])
    parts = list(parts)
    whole = [str(part.path) for part in parts if not len(part.dead)]
    found = [wanted.empty_table()]
    if whole:
        found.append(_dataset(whole, schema).to_table(columns=wanted.names, filter=condition).cast(wanted))
    found += [_alive(part, schema, wanted, condition) for part in parts if len(part.dead)]
    return pa.concat_tables(found)


def _alive(part: Part, schema: pa.Schema, wanted: pa.Schema, condition: ds.Expression | None) -> pa.Table:
    dataset = _dataset([str(part.path)], schema)
    if condition is None:
        return dataset.to_table(columns=wanted.names).filter(part.mask()).cast(wanted)
    (fragment,) = dataset.get_fragments()
    if not fragment.subset(condition, schema=schema).row_groups:
        return wanted.empty_table()
    rows = dataset.to_table(columns=list(dict.fromkeys([*wanted.names, SYNC]))).filter(part.mask())
    return rows.filter(condition).select(wanted.names).cast(wanted)


def _dataset(paths: list[str], schema: pa.Schema) -> ds.Dataset:
    return ds.dataset(paths, schema=schema, format="parquet")


def alive_rows(part: Part, schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of a file that are part of the table, in their order, a few megabytes at a time.

    Args:
        part: the file.
        schema: of the table; a column that is younger than the file is null.
    """
    mask, first = part.mask(), 0
    with pq.ParquetFile(part.path) as file:
        for batch in file.iter_batches():
            rows = pa.table(batch).filter(mask[first : first + batch.num_rows])
            first += batch.num_rows
            yield pa.table([_column(rows, field) for field in schema], schema=schema)


def _column(rows: pa.Table, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    if field.name not in rows.column_names:
        return pa.nulls(rows.num_rows, field.type)
    return rows.column(field.name).cast(field.type)


def create_view(
    connection: duckdb.DuckDBPyConnection, view: str, parts: Sequence[Part], schema: pa.Schema, prefix: str
) -> None:
    """Make the rows of the files a view of DuckDB, which reads only what a query needs.

    Args:
        connection: may read the files.
        view: its name, quoted as needed.
        parts: which files.
        schema: of the table.
        prefix: of helping tables' names, free of quotes.
    """
    if not parts:
        connection.register(prefix, schema.empty_table())
        connection.execute(f'CREATE VIEW {view} AS FROM "{prefix}"')
        return
    selects = []
    for columns, whole in _by_columns([part for part in parts if not len(part.dead)], schema).items():
        selects.append(f"SELECT {columns} FROM read_parquet([{', '.join(_literal(p.path) for p in whole)}])")  # noqa: S608
    for place, part in enumerate(part for part in parts if len(part.dead)):
        connection.register(f"{prefix}_{place}", pa.table({"dead": part.dead}))
        (columns,) = _by_columns([part], schema)
        selects.append(
            f"SELECT {columns} FROM read_parquet({_literal(part.path)}, file_row_number = true) "  # noqa: S608
            f'ANTI JOIN "{prefix}_{place}" ON dead = {_ROW}'
        )
    connection.execute(f"CREATE VIEW {view} AS {' UNION ALL '.join(selects)}")


def create_numbered_view(
    connection: duckdb.DuckDBPyConnection, view: str, parts: Sequence[Part], schema: pa.Schema, prefix: str
) -> None:
    """As :func:`create_view`, with a column :data:`PLACE`: the row's place among all rows of the files, dead ones too.

    Args:
        connection: may read the files.
        view: its name, quoted as needed.
        parts: which files, at least one.
        schema: of the table.
        prefix: of helping tables' names, free of quotes.
    """
    selects, first = [], 0
    for number, part in enumerate(parts):
        (columns,) = _by_columns([part], schema)
        select = (
            f"SELECT {columns}, {first} + {_ROW} AS {PLACE} "  # noqa: S608 - quoted names
            f"FROM read_parquet({_literal(part.path)}, file_row_number = true)"
        )
        if len(part.dead):
            connection.register(f"{prefix}_{number}", pa.table({"dead": part.dead}))
            select += f' ANTI JOIN "{prefix}_{number}" ON dead = {_ROW}'
        selects.append(select)
        first += part.rows
    connection.execute(f"CREATE VIEW {view} AS {' UNION ALL '.join(selects)}")


def _by_columns(parts: Sequence[Part], schema: pa.Schema) -> dict[str, list[Part]]:
    """What to select so that a file has the table's columns; a column that is younger than the file is null in it."""
    found: dict[str, list[Part]] = {}
    for part in parts:
        there = set(pq.read_schema(part.path).names)
        columns = (
            quoted(n) if n in there else f"NULL::{_SQL[str(schema.field(n).type)]} AS {quoted(n)}" for n in schema.names
        )
        found.setdefault(", ".join(columns), []).append(part)
    return found


def locate(
    connection: duckdb.DuckDBPyConnection, parts: Sequence[Part], keys: pa.Table
) -> dict[Path, NDArray[np.int64]]:
    """Where rows with these keys lie.

    Args:
        connection: may read the files.
        parts: which files.
        keys: key columns, named as in the files.

    Returns:
        file to the places of such rows that are not deleted yet, int64, ascending; files without any are not named.
    """
    connection.register("_sought", keys)
    same = " AND ".join(f"t.{quoted(name)} = s.{quoted(name)}" for name in keys.column_names)
    found = {}
    for part in parts if keys.num_rows else ():
        source = f"read_parquet({_literal(part.path)}, file_row_number = true)"
        rows = connection.sql(f"SELECT t.{_ROW} FROM {source} t SEMI JOIN _sought s ON {same}").to_arrow_table()  # noqa: S608
        places = np.setdiff1d(rows.column(0).to_numpy(), part.dead)
        if len(places):
            found[part.path] = places
    return found


def outdated(
    connection: duckdb.DuckDBPyConnection, parts: Sequence[Part], key: Sequence[str], cursor: str | None
) -> list[Part]:
    """The files, with every row dead whose key comes again with a greater cursor, or with an equal one later on.

    Args:
        connection: may read the files.
        parts: in the order in which they were written.
        key: columns that identify a row.
        cursor: column that says which of two is newer; None where the later one is.
    """
    if not parts:
        return []
    keys = ", ".join(map(quoted, key))
    latest = f"{quoted(cursor)} DESC NULLS LAST, " if cursor else ""
    columns = f"{keys}, {quoted(cursor)}" if cursor else keys
    rows = " UNION ALL ".join(
        f"SELECT {columns}, {place} AS part, {_ROW} FROM read_parquet({_literal(part.path)}, file_row_number = true)"  # noqa: S608
        for place, part in enumerate(parts)
    )
    found = connection.sql(
        f"SELECT part, {_ROW} FROM ({rows}) QUALIFY row_number() OVER "  # noqa: S608
        f"(PARTITION BY {keys} ORDER BY {latest} part DESC, {_ROW} DESC) > 1 ORDER BY ALL"
    ).to_arrow_table()
    of, places = found.column(0).to_numpy(), found.column(1).to_numpy()
    return [Part(p.path, p.rows, np.union1d(p.dead, places[of == place])) for place, p in enumerate(parts)]


def dead_rows(part: Part, schema: pa.Schema, places: NDArray[np.int64]) -> pa.Table:
    """Rows of a file that are no longer part of the table."""
    mask = np.zeros(part.rows, dtype=bool)
    mask[places] = True
    return _dataset([str(part.path)], schema).to_table().filter(pa.array(mask)).cast(schema)


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def _literal(path: Path) -> str:
    return "'" + pattern(path).replace("'", "''") + "'"


def duplicates(rows: pa.Table, key: Sequence[str]) -> int:
    """How many keys appear more than once; rows with a null in the key do not count."""
    complete = rows.select(list(key)).drop_null()
    counts = complete.group_by(list(key)).aggregate([([], "count_all")])
    return int(pc.sum(pc.greater(counts.column("count_all"), 1).cast(pa.int64())).as_py() or 0)
