"""Parquet files, read through pyarrow's datasets."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from ftl.collect.source import BATCH_ROWS, Since
from ftl.errors import SourceError


class ParquetFormat:
    """Reads Parquet files, with the lower bound of an incremental sync pushed down to them.

    Args:
        label: how messages name the source.
    """

    def __init__(self, label: str) -> None:
        self._label = label

    def columns(self, files: list[Path], asked: Iterable[str] = ()) -> dict[str, str]:  # noqa: ARG002 - all are known
        """Column name to Arrow type."""
        with self._translated(files):
            return {field.name: str(field.type) for field in _dataset(files).schema}

    def rows(self, files: list[Path], since: Since | None) -> int | None:
        """Number of rows at or after the bound."""
        with self._translated(files):
            dataset = _dataset(files)
            return int(dataset.count_rows(filter=_condition(dataset.schema, since)))

    def batches(self, files: list[Path], names: list[str], since: Since | None) -> Iterator[pa.RecordBatch]:
        """Rows at or after the bound, one file after the other."""
        with self._translated(files):
            dataset = _dataset(files)
            scan = dataset.scanner(
                columns=names,
                filter=_condition(dataset.schema, since),
                batch_size=BATCH_ROWS,
                batch_readahead=4,
                fragment_readahead=1,
            )
            yield from (batch for batch in scan.to_batches() if batch.num_rows)

    @contextmanager
    def _translated(self, files: list[Path]) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowInvalid, OSError) as exc:
            broken = next((path for path in files if not _whole(path)), files[0])
            raise SourceError(
                f"{self._label}: {broken.name} cannot be read as parquet: {type(exc).__name__}.",
                cure="It is cut off, damaged or no Parquet file, or its columns have other types than its siblings'.",
            ) from exc


def _dataset(files: list[Path]) -> ds.Dataset:
    return ds.dataset([str(path) for path in files], format="parquet")


def _whole(path: Path) -> bool:
    try:
        ds.dataset(str(path), format="parquet").count_rows()
    except (pa.ArrowInvalid, OSError):
        return False
    return True


def _condition(schema: pa.Schema, since: Since | None) -> Any:
    """A lower bound, where the file's own type has the cursor's order; text has not."""
    if since is None:
        return None
    column = schema.field(since.column).type
    value = since.value
    if isinstance(value, datetime):
        if not pa.types.is_timestamp(column):
            return None
        # Unzoned times are UTC, as in the mapping.
        return ds.field(since.column) >= pa.scalar(
            value if column.tz else value.replace(tzinfo=None), pa.timestamp("us", column.tz)
        )
    if isinstance(value, date):
        return ds.field(since.column) >= pa.scalar(value) if pa.types.is_date32(column) else None
    numeric = pa.types.is_integer(column) or pa.types.is_floating(column)
    return ds.field(since.column) >= pa.scalar(value) if numeric else None
