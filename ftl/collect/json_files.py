"""JSON lines: one object a line, plain or compressed, streamed by DuckDB.

Every value is read as the text that it has in the file, whatever its type in that line, and an absent key as missing:
the mapping casts them, so that a number written as text on line 7 does not stop a file. A nested value is its JSON.
"""

import glob
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from ftl.collect.source import BATCH_ROWS, Since
from ftl.errors import SourceError

_SAMPLE_LINES = 20_480
"""So many lines tell the columns, unless one is asked for that is not in them."""


class JsonLinesFormat:
    """Reads files of JSON objects, one a line, in UTF-8.

    Args:
        label: how messages name the source.
    """

    def __init__(self, label: str) -> None:
        self._label = label

    def columns(self, files: list[Path], asked: Iterable[str] = ()) -> dict[str, str]:
        """Key to DuckDB's name of the type that its values share."""
        found = self._described(files, _SAMPLE_LINES)
        return found if set(asked) <= set(found) else self._described(files, -1)

    def rows(self, files: list[Path], since: Since | None) -> int | None:  # noqa: ARG002 - a format's signature
        """None: counting the lines means reading them."""
        return None

    def batches(self, files: list[Path], names: list[str], since: Since | None) -> Iterator[pa.RecordBatch]:  # noqa: ARG002 - text has no order
        """All objects, one file after the other."""
        kinds = dict.fromkeys(names, "VARCHAR")
        for path in files:
            with self._translated(path), duckdb.connect() as connection:
                reader = _read(connection, path, columns=kinds).to_arrow_reader(BATCH_ROWS)
                yield from (batch for batch in reader if batch.num_rows)

    def _described(self, files: list[Path], lines: int) -> dict[str, str]:
        found = dict[str, str]()
        for path in files:
            with self._translated(path), duckdb.connect() as connection:
                relation = _read(connection, path, sample_size=lines)
                found |= dict(zip(relation.columns, map(str, relation.types), strict=True))
        return found

    @contextmanager
    def _translated(self, path: Path) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as exc:
            # DuckDB's message may quote the object, which holds a person's data.
            raise SourceError(
                f"{self._label}: {path.name}{_fault(path) or f' cannot be read as json_lines: {type(exc).__name__}'}.",
                cure="Write one JSON object a line, in UTF-8.",
            ) from exc


def _read(connection: duckdb.DuckDBPyConnection, path: Path, **options: Any) -> duckdb.DuckDBPyRelation:
    connection.execute("SET preserve_insertion_order = true")
    return connection.read_json(glob.escape(str(path)), format="newline_delimited", records="true", **options)


def _fault(path: Path) -> str:
    """Line, column and expectation of the first line at fault; empty where none is."""
    try:
        with pa.input_stream(path, compression="detect") as stream:
            for number, line in enumerate(_lines(stream), 1):
                said = _fault_of(line)
                if said:
                    return f", line {number}{said}"
    except OSError:
        return " is cut off or damaged: it cannot be decompressed"
    return ""


def _lines(stream: Any) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(1 << 20):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    yield rest


def _fault_of(line: bytes) -> str:
    try:
        value = json.loads(line.decode("utf-8"), object_pairs_hook=_each_once) if line.strip() else {}
    except UnicodeDecodeError as exc:
        return f", byte {exc.start + 1}: expected UTF-8 text"
    except json.JSONDecodeError as exc:
        return f", column {exc.colno}: expected JSON ({exc.msg})"
    except KeyError as exc:
        return f": the key {exc} is there twice"
    return "" if isinstance(value, dict) else ": expected an object"


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for place, (key, _) in enumerate(pairs):
        if any(key == other for other, _ in pairs[:place]):
            raise KeyError(key)
    return dict(pairs)
