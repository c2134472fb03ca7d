"""Settings of sources that are files, here or in a store, and of those that a party's own Python code reads."""

from pathlib import PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Option = str | int | float | bool | None


class Store(BaseModel):
    """Base: frozen, strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Secret(Store):
    """Where a secret is kept; one of the two."""

    env: str | None = None
    """Environment variable that holds it."""
    file: PurePosixPath | None = None
    """File that holds it and nothing else."""


class FileSource(Store):
    """A folder of files; a table names a file or a glob in it. CSV and JSON may be compressed: `.gz`, `.zst`."""

    kind: Literal["csv", "parquet", "json_lines", "excel"]
    """Which sort of source this is."""
    path: str
    """The folder that holds the files, or the URL of one in any store that fsspec knows, such as `s3://bucket/loans`."""
    options: dict[str, Option] = {}
    """Passed to the store behind a URL, as its fsspec implementation names them."""
    secrets: dict[str, Secret] = {}
    """Further options of the store, whose values do not stand here."""
    delimiter: str = Field(",", min_length=1, max_length=1)
    """Between the fields of a CSV file."""
    quote: str = Field('"', max_length=1)
    """Around a field of a CSV file that holds the delimiter or a line break; empty where nothing is quoted."""
    column_names: tuple[str, ...] = ()
    """Of CSV files and Excel sheets without a header: their columns in order. When empty, the header names them."""
    encoding: str = "utf-8"
    """Of a CSV file, as Python names it."""
    sheet: str | None = None
    """Of an Excel file: the sheet to read; the first one when null."""
    header_row: int = Field(1, ge=1)
    """Row of an Excel sheet, from 1, that names the columns; with `column_names` the first row that is read."""

    @property
    def remote(self) -> bool:
        """Whether the path is a URL."""
        return "://" in self.path


class DltSource(Store):
    """Resources of the dlt library, which a function of the party's own Python file returns; a table names one."""

    kind: Literal["dlt"]
    """Which sort of source this is."""
    module: PurePosixPath
    """Python file."""
    function: str
    """Function in it that returns a `dlt` source or resource."""
    arguments: dict[str, Option | list[Option]] = {}
    """Passed to the function by name."""
    secrets: dict[str, Secret] = {}
    """Further arguments, whose values do not stand here."""
    since: str | None = None
    """Argument that takes the moment or number from which an incremental sync wants rows, as text; null in a full one.
    """
