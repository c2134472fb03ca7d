"""Excel workbooks (xlsx, xlsm, xlsb, xls, ods), read by calamine: one sheet of each file.

A cell keeps the kind that it has in the file: text stays text, also where it looks like a number, a date is a date. A
column of several kinds becomes text as a whole; the mapping casts it. Formulas are read as their last result; an error
in one is missing.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from ftl.collect.cells import cells
from ftl.collect.source import BATCH_ROWS, Since, nearest
from ftl.consortium.stores import FileSource
from ftl.errors import SourceError


class ExcelFormat:
    """Reads one sheet of each workbook. A sheet, which has at most 1,048,576 rows, is held in memory as a whole.

    Args:
        label: how messages name the source.
        settings: which sheet, and where its header is.
    """

    def __init__(self, label: str, settings: FileSource) -> None:
        self._label = label
        self._settings = settings

    def columns(self, files: list[Path], asked: Iterable[str] = ()) -> dict[str, str]:
        """The column names, the same in every file of the table, to the Arrow type in the first one.

        The type is empty for columns that are asked for: only people want to see it.
        """
        headers = [self._read(path)[0] for path in files]
        for path, header in zip(files, headers, strict=True):
            if set(header) != set(headers[0]):
                different = ", ".join(sorted(set(header) ^ set(headers[0])))
                raise SourceError(
                    f"{self._label}: {path.name} and {files[0].name} belong to one table but differ in: {different}.",
                    cure="Give each kind of file its own table.",
                )
        if asked:
            return dict.fromkeys(headers[0], "")
        first = next(self.batches(files[:1], list(headers[0]), None), None)
        return {name: "null" if first is None else str(first.column(name).type) for name in headers[0]}

    def rows(self, files: list[Path], since: Since | None) -> int | None:  # noqa: ARG002 - a format's signature
        """None: counting the rows means reading the sheet."""
        return None

    def batches(self, files: list[Path], names: list[str], since: Since | None) -> Iterator[pa.RecordBatch]:  # noqa: ARG002 - cells have no order
        """All rows but empty ones, one file after the other."""
        for path in files:
            header, rows = self._read(path)
            places = [header.index(name) for name in names]
            columns = [cells([row[place] for row in rows]) for place in places]
            whole = pa.record_batch(columns, names=names)
            yield from (whole.slice(start, BATCH_ROWS) for start in range(0, len(rows), BATCH_ROWS))

    def _read(self, path: Path) -> tuple[list[str], list[list[Any]]]:
        """(column names, rows with None for empty cells; rows without any value left out)."""
        with self._translated(path):
            sheet = self._sheet(path)
            found = sheet.to_python(skip_empty_area=False)
        given = [[None if cell == "" else cell for cell in row] for row in found[self._settings.header_row - 1 :]]
        declared = list(self._settings.column_names)
        header = declared or self._header(path, given[0] if given else [])
        body = [row[: len(header)] for row in (given if declared else given[1:]) if any(c is not None for c in row)]
        return header, [row + [None] * (len(header) - len(row)) for row in body]

    def _sheet(self, path: Path) -> Any:
        from python_calamine import CalamineWorkbook

        book, wanted = CalamineWorkbook.from_path(str(path)), self._settings.sheet
        if wanted is not None and wanted not in book.sheet_names:
            raise SourceError(
                f"{self._label}.sheet: {path.name} has no sheet {wanted!r}.{nearest(wanted, book.sheet_names)}",
                cure="Correct `sheet`; without it the first one is read.",
            )
        return book.get_sheet_by_index(0) if wanted is None else book.get_sheet_by_name(wanted)

    def _header(self, path: Path, cells_of_row: list[Any]) -> list[str]:
        named = [cells([cell]).cast(pa.string())[0].as_py() for cell in cells_of_row]
        while named and named[-1] is None:
            named.pop()
        where = f"{self._label}: row {self._settings.header_row} of {self._shown(path)}"
        cure = "That row must name the columns, each once; set `header_row`, or declare `column_names`."
        if not named or None in named:
            what = f"names no column {named.index(None) + 1}" if named else "is empty"
            raise SourceError(f"{where} {what}.", cure=cure)
        if len(set(named)) < len(named):
            twice = next(name for name in named if named.count(name) > 1)
            raise SourceError(f"{where} names the column {twice!r} twice.", cure=cure)
        return [str(name) for name in named]

    def _shown(self, path: Path) -> str:
        sheet = self._settings.sheet
        return f"the first sheet of {path.name}" if sheet is None else f"sheet {sheet!r} of {path.name}"

    @contextmanager
    def _translated(self, path: Path) -> Iterator[None]:
        from python_calamine import CalamineError

        try:
            yield
        except (CalamineError, OSError) as exc:
            raise SourceError(
                f"{self._label}: {self._shown(path)} cannot be read as excel: {type(exc).__name__}.",
                cure="It is cut off, damaged, locked with a password or no workbook: open it in Excel, save it anew.",
            ) from exc
