"""CSV files of a declared dialect, plain or compressed, streamed by pyarrow.

Every cell is read as text and an empty one as missing: the mapping casts them, so that one damaged cell does not stop
a file. A damaged *file* does; it is then read again, slowly, for the line at fault.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from ftl.collect.source import BATCH_ROWS, Since
from ftl.consortium.stores import FileSource
from ftl.errors import SourceError

_BLOCK_BYTES = 1 << 20
"""pyarrow reads dozens of blocks ahead, so that small ones keep memory flat; a row must fit into one."""
_UNDECODED = re.compile("[\udc80-\udcff]")
"""What Python's ``surrogateescape`` leaves in the place of a byte that is no text."""


class CsvFormat:
    """Reads CSV files.

    Args:
        label: how messages name the source.
        settings: the dialect.
    """

    def __init__(self, label: str, settings: FileSource) -> None:
        self._label = label
        self._settings = settings
        self._quoting: dict[str, Any] = {"quotechar": settings.quote} if settings.quote else {"quoting": csv.QUOTE_NONE}

    def columns(self, files: list[Path], asked: Iterable[str] = ()) -> dict[str, str]:  # noqa: ARG002 - all are known
        """The column names, which must be the same in every file of the table; all of type `string`."""
        headers = [self._header(path) for path in files]
        for path, header in zip(files, headers, strict=True):
            if set(header) != set(headers[0]):
                different = ", ".join(sorted(set(header) ^ set(headers[0])))
                raise SourceError(
                    f"{self._label}: {path.name} and {files[0].name} belong to one table but differ in: {different}.",
                    cure="Give each kind of file its own table.",
                )
        return dict.fromkeys(headers[0], "string")

    def rows(self, files: list[Path], since: Since | None) -> int | None:  # noqa: ARG002 - a format's signature
        """None: counting a CSV file means parsing it."""
        return None

    def batches(self, files: list[Path], names: list[str], since: Since | None) -> Iterator[pa.RecordBatch]:  # noqa: ARG002 - text has no order
        """All rows, one file after the other."""
        for path in files:
            with self._translated(path), pa.input_stream(path, compression="detect") as stream:
                if self._settings.column_names and not self._first_line(path):
                    continue
                reader = pa_csv.open_csv(stream, *self._options(names))
                yield from _gathered(reader)

    def _options(self, names: list[str]) -> tuple[pa_csv.ReadOptions, pa_csv.ParseOptions, pa_csv.ConvertOptions]:
        declared = list(self._settings.column_names) or None
        return (
            pa_csv.ReadOptions(encoding=self._settings.encoding, block_size=_BLOCK_BYTES, column_names=declared),
            pa_csv.ParseOptions(
                delimiter=self._settings.delimiter, quote_char=self._settings.quote or False, newlines_in_values=True
            ),
            pa_csv.ConvertOptions(
                null_values=[""],
                strings_can_be_null=True,
                include_columns=names,
                column_types=dict.fromkeys(names, pa.string()),
            ),
        )

    def _header(self, path: Path) -> list[str]:
        if self._settings.column_names:
            return list(self._settings.column_names)
        with self._translated(path):
            header = self._first_line(path)
        if not header or len(set(header)) < len(header):
            what = "is empty" if not header else "names a column twice in its first line"
            raise SourceError(
                f"{self._label}: {path} {what}.",
                cure="The first line must name the columns, each once; or declare `column_names`.",
            )
        return header

    def _first_line(self, path: Path) -> list[str]:
        with self._text(path) as file:
            return next(self._records(file), [])

    @contextmanager
    def _text(self, path: Path, errors: str = "strict") -> Iterator[io.TextIOWrapper]:
        # utf-8-sig also reads files without a byte order mark; pyarrow drops the mark by itself.
        encoding = "utf-8-sig" if self._settings.encoding.lower() in {"utf-8", "utf8"} else self._settings.encoding
        with (
            pa.input_stream(path, compression="detect") as stream,
            io.TextIOWrapper(stream, encoding=encoding, newline="", errors=errors) as file,
        ):
            yield file

    def _records(self, file: io.TextIOWrapper) -> Any:
        return csv.reader(file, delimiter=self._settings.delimiter, **self._quoting)

    @contextmanager
    def _translated(self, path: Path) -> Iterator[None]:
        try:
            yield
        except LookupError as exc:
            raise SourceError(
                f"{self._label}.encoding: there is no encoding {self._settings.encoding!r}.",
                cure="Name the files' encoding, for example gb18030 or latin-1.",
            ) from exc
        except (UnicodeDecodeError, csv.Error, pa.ArrowInvalid, OSError) as exc:
            # The library's message quotes the row, which holds a person's data: only its place and shape are told.
            raise SourceError(
                f"{self._label}: {path.name}{self._fault(path) or f' cannot be read as csv: {type(exc).__name__}'}.",
                cure="Correct the file, or `delimiter`, `quote`, `encoding` or `column_names` of the source.",
            ) from exc

    def _fault(self, path: Path) -> str:
        """Line, column and expectation of the first row at fault; empty where no row is."""
        try:
            with self._text(path, "surrogateescape") as file:
                return self._first_fault(file)
        except (csv.Error, OSError, UnicodeError):
            return ""

    def _first_fault(self, file: io.TextIOWrapper) -> str:
        reader = self._records(file)
        names = list(self._settings.column_names) or next(reader, [])
        line = reader.line_num + 1
        for row in reader:
            if len(row) not in {0, len(names)}:
                return f", line {line}: expected {len(names)} fields, found {len(row)}"
            for name, cell in zip(names, row, strict=False):
                if _UNDECODED.search(cell):
                    return f", line {line}, column {name!r}: expected {self._settings.encoding} text"
            line = reader.line_num + 1
        return ""


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows of small batches in batches of some size, for what is done once a batch."""
    waiting, rows = list[pa.RecordBatch](), 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= BATCH_ROWS:
            yield pa.concat_batches(waiting)
            waiting, rows = [], 0
    if rows:
        yield pa.concat_batches(waiting)
