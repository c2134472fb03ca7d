"""New data files of a table, not yet part of any version."""

import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ftl.collect.parts import Part

ROWS_PER_FILE = 2_000_000
"""After so many a new file begins."""
_SAMPLE_ROWS, _REPEATS = 10_000, 10
"""A column gets a dictionary where a value comes so many times on average in so many rows."""


def write_parts(
    folder: Path, prefix: str, batches: Iterable[pa.RecordBatch | pa.Table], schema: pa.Schema
) -> Iterator[Part]:
    """Write rows to files of a table's folder, one file after the other.

    Args:
        folder: of the table.
        prefix: of the files' names.
        batches: streamed; never all in memory.
        schema: of every batch.

    Yields:
        each file when it is whole.
    """
    file = None
    for batch in batches:
        if file is not None and file.rows >= ROWS_PER_FILE:
            yield file.close()
            file = None
        if file is None:
            file = DataFile(folder / f"{prefix}{uuid.uuid4().hex}.parquet", schema, batch)
        file.write(batch)
    if file is not None:
        yield file.close()


class DataFile:
    """One Parquet file being written.

    Args:
        path: where.
        schema: of its rows.
        sample: rows as they will be.
    """

    def __init__(self, path: Path, schema: pa.Schema, sample: pa.RecordBatch | pa.Table) -> None:
        self._path = path
        # LZ4 costs half of what Snappy does here. A dictionary of values that hardly repeat is work for nothing.
        self._writer = pq.ParquetWriter(path, schema, compression="lz4", use_dictionary=_repeating(sample))
        self.rows = 0

    def write(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Add the rows of one batch."""
        self._writer.write(batch)
        self.rows += batch.num_rows

    def close(self) -> Part:
        """Finish the file."""
        self._writer.close()
        return Part.whole(self._path, self.rows)


def _repeating(sample: pa.RecordBatch | pa.Table) -> list[str]:
    few = sample.slice(0, _SAMPLE_ROWS)
    most = few.num_rows // _REPEATS
    return [name for name in few.column_names if pc.count_distinct(few.column(name)).as_py() <= most]
