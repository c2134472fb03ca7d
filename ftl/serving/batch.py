"""Scores a file of applicants with the numbers that the gateway would answer.

The file has one column per identifier, under its consortium name, and may have columns of the active party's fields;
an empty cell there leaves what the party has stored.
"""

import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ftl import registry
from ftl.consortium import Folder
from ftl.errors import InvalidRequest
from ftl.registry import Bundle
from ftl.serving.blocking import BlockingScorer
from ftl.serving.wire import Fields


class BatchReport(msgspec.Struct, frozen=True):
    """What became of a file.

    Attributes:
        rows: people in it.
        scored: people the active party knows.
        unknown: people it does not know.
        degraded: scored by the active party alone, because another did not answer.
        seconds: for all of it.
        model: ``name/version``.
        out: the file that was written, or ``-``.
    """

    rows: int
    scored: int
    unknown: int
    degraded: int
    seconds: float
    model: str
    out: str


def score_file(folder: Folder, path: Path, out: Path | None = None, alias: str = registry.CHAMPION) -> BatchReport:
    """Score every row of a CSV or Parquet file.

    The result has the input's order and no identifier: columns ``row`` (1, 2, …), ``probability_of_default``,
    ``score``, ``reasons`` (codes, costliest first, separated by ``;``), ``degraded`` and ``why``.

    Args:
        folder: the consortium, as the coordinator has it.
        path: ``.csv`` or ``.parquet``.
        out: ``.csv`` or ``.parquet``; standard output, as CSV, when None.
        alias: which version scores.

    Returns:
        counts and time.

    Raises:
        InvalidRequest: the file cannot be read or lacks an identifier column.
        PartyUnavailable: the active party did not answer.
        RegistryError: there is no such model.
    """
    start = time.perf_counter()
    name = folder.consortium.training.model_name
    version, bundle = registry.resolve(registry.tracking_uri(folder), name, alias)
    applicants = _read(path, bundle)
    scorer = BlockingScorer(folder, bundle)
    try:
        texts = [applicants.column(one.name).combine_chunks() for one in bundle.identifiers]
        scored = scorer.score_columns(texts, _fields(applicants, bundle))
    finally:
        scorer.close()
    _write(out, scored.add_column(0, "row", pa.array(np.arange(1, len(scored) + 1))))
    unknown = scored.column("score").null_count
    return BatchReport(
        rows=len(scored),
        scored=len(scored) - unknown,
        unknown=unknown,
        degraded=pc.sum(scored.column("degraded")).as_py() or 0,
        seconds=time.perf_counter() - start,
        model=f"{version.name}/{version.version}",
        out=str(out or "-"),
    )


def _read(path: Path, bundle: Bundle) -> pa.Table:
    names = [one.name for one in bundle.identifiers]
    try:
        table = _table(path, names)
    except (OSError, pa.ArrowException) as exc:
        raise InvalidRequest(f"{path} cannot be read: {_first_line(exc)}", cure="Give a CSV or Parquet file.") from exc
    for name in names:
        if name not in table.column_names:
            raise InvalidRequest(
                f"{path} has no column {name!r}; it has {', '.join(table.column_names)}.",
                cure=f"Identifiers are {', '.join(names)}.",
                field=name,
            )
        if table.column(name).null_count:
            raise InvalidRequest(f"{path}: {table.column(name).null_count} rows have no {name}.", field=name)
    return table


def _table(path: Path, text: list[str]) -> pa.Table:
    """Identifiers are read as text, so that leading zeros stay."""
    if path.suffix.lower() in {".parquet", ".pq"}:
        table = pa.parquet.read_table(path)
        schema = pa.schema([pa.field(f.name, pa.string()) if f.name in text else f for f in table.schema])
        return table.cast(schema)
    options = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(text, pa.string()), strings_can_be_null=True, quoted_strings_can_be_null=True
    )
    return pa.csv.read_csv(path, convert_options=options)


def _fields(applicants: pa.Table, bundle: Bundle) -> list[Fields]:
    given = [name for name in applicants.column_names if name in bundle.fields]
    if not given:
        return []
    rows: list[dict[str, Any]] = applicants.select(given).to_pylist()
    return [{name: _scalar(value) for name, value in row.items() if value is not None} for row in rows]


def _scalar(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def _write(out: Path | None, table: pa.Table) -> None:
    if out is None:
        pa.csv.write_csv(table, sys.stdout.buffer)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix.lower() in {".parquet", ".pq"}:
        pa.parquet.write_table(table, out)
    else:
        pa.csv.write_csv(table, out)


def _first_line(exc: Exception) -> str:
    """Without Arrow's rows: its message may hold a cell of the file."""
    return type(exc).__name__ if isinstance(exc, pa.ArrowException) else str(exc)
