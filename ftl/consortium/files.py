"""Whether the files that a `consortium.yaml` names exist on this machine."""

from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

from ftl.consortium.problem import Finding, Path, nearest
from ftl.consortium.values import mapping

_FILES = ("csv", "parquet", "json_lines", "excel")


def missing_files(root: FilePath, values: Any) -> Iterator[Finding]:
    """Source files and folders, suites, password files and links that are not there.

    Args:
        root: the folder that relative paths start from.
        values: the whole file.
    """
    for name, party in mapping(values, "parties").items():
        path: Path = ("parties", name)
        for source_name, source in mapping(party, "sources").items():
            yield from _source(root, (*path, "sources", source_name), source)
        for table_name, table in mapping(party, "tables").items():
            here = (*path, "tables", table_name)
            yield from _file(root, (*here, "suite"), mapping(table).get("suite"))
            source = mapping(party, "sources").get(str(mapping(table).get("source")))
            yield from _table(root, (*here, "table"), mapping(table).get("table"), mapping(source))
    yield from _file(root, ("simulation", "links"), mapping(values, "simulation").get("links"))


def _source(root: FilePath, path: Path, source: Any) -> Iterator[Finding]:
    kind, place = mapping(source).get("kind"), mapping(source).get("path")
    if kind == "sqlite":
        yield from _file(root, (*path, "path"), place)
    elif kind in _FILES and isinstance(place, str) and "://" not in place and not (root / place).is_dir():
        yield Finding((*path, "path"), f"there is no folder {root / place}")
    elif kind == "dlt":
        yield from _file(root, (*path, "module"), mapping(source).get("module"))
    for name, secret in mapping(source, "secrets").items():
        yield from _file(root, (*path, "secrets", name, "file"), mapping(secret).get("file"))
    yield from _file(root, (*path, "password_file"), mapping(source).get("password_file"))


def _table(root: FilePath, path: Path, table: Any, source: Any) -> Iterator[Finding]:
    folder = source.get("path")
    if source.get("kind") not in _FILES or not isinstance(folder, str) or not isinstance(table, str):
        return
    if "://" in folder:
        return
    if table.startswith("/"):
        yield Finding(path, f"{table!r} is an absolute path", f"a name or pattern in {root / folder}")
    elif (root / folder).is_dir() and not any((root / folder).glob(table)):
        present = [file.name for file in (root / folder).iterdir()]
        yield Finding(path, f"no file in {root / folder} is named {table!r}", "", nearest(table, present))


def _file(root: FilePath, path: Path, place: Any) -> Iterator[Finding]:
    if isinstance(place, str) and not (root / place).is_file():
        folder = (root / place).parent
        present = [file.name for file in folder.iterdir()] if folder.is_dir() else []
        yield Finding(path, f"there is no file {root / place}", "", nearest(FilePath(place).name, present))
