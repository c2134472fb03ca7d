"""Reads resources of the dlt library: REST APIs, SaaS and whatever else its catalogue holds.

A function in the party's own Python file returns them. Their items are read as they are, before dlt would name, type or
unpack anything: the table's mapping does that, and the sync keeps the position.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from ftl.collect.cells import cells
from ftl.collect.mapping import number
from ftl.collect.own_code import run_file
from ftl.collect.password import secrets_of
from ftl.collect.source import BATCH_ROWS, Since, Snapshot, nearest, require_columns
from ftl.consortium.stores import DltSource
from ftl.errors import SourceError, SourceUnavailable


class DltReader:
    """The resources that one function returns.

    Args:
        label: how messages name this source.
        settings: its part of `consortium.yaml`.
        root: folder against which files are resolved.
    """

    def __init__(self, label: str, settings: DltSource, root: Path) -> None:
        self.label = label
        self.settings = settings
        self._root = root

    def ping(self) -> None:
        """Call the function; nothing of a resource is read."""
        self._resources(None)

    def tables(self) -> tuple[str, ...]:
        """Names of the resources."""
        return tuple(self._resources(None))

    def columns(self, table: str) -> dict[str, str]:
        """Column name to type: what the resource declares, and what its first items have."""
        resource = self._resource(table, None)
        found = {name: str(hint.get("data_type", "")) for name, hint in self._declared(resource).items()}
        first = next(self._batches(table, resource, None, set()), None)
        if first is not None:
            found |= {field.name: str(field.type) for field in first.schema}
        return found

    def key(self, table: str) -> tuple[str, ...]:
        """The primary key that the resource declares."""
        return tuple(
            name for name, hint in self._declared(self._resource(table, None)).items() if hint.get("primary_key")
        )

    def position(self, table: str, cursor: str | None) -> str | None:  # noqa: ARG002 - an API does not say
        """None: whether there is news shows when it is read."""
        return None

    @contextmanager
    def snapshot(self, table: str, columns: Iterable[str], since: Since | None = None) -> Iterator[Snapshot]:
        """Read the resource; from `since` on where the function takes that as an argument."""
        names, resource, seen = list(columns), self._resource(table, since), set[str]()
        batches = self._batches(table, resource, names, seen)
        first = next(batches, None)
        if first is not None:
            require_columns(self.label, table, names, seen.union(self._declared(resource)))
        yield Snapshot(None, _chained(first, batches))

    def _resource(self, table: str, since: Since | None) -> Any:
        resources = self._resources(since)
        if table not in resources:
            raise SourceError(
                f"{self.label}: there is no resource {table!r}.{nearest(table, resources)}",
                cure="Correct the table's `table` in consortium.yaml.",
            )
        return resources[table]

    def _resources(self, since: Since | None) -> dict[str, Any]:
        self._require_dlt()
        function, arguments = self._function(), {**self.settings.arguments}
        arguments |= secrets_of(self.label, self.settings.secrets, self._root)
        if self.settings.since is not None:
            arguments[self.settings.since] = None if since is None else _text(since.value)
        with self._translated(f"{self.settings.function}()"):
            made = function(**arguments)
        resources = getattr(made, "resources", None)
        if resources is None and hasattr(made, "compute_table_schema"):
            resources = {made.name: made}
        if resources is None:
            raise SourceError(
                f"{self.label}.function: {self.settings.function}() returns a {type(made).__name__}.",
                cure="Return what @dlt.source or @dlt.resource makes.",
            )
        return dict(resources)

    def _require_dlt(self) -> None:
        # Read when the library is imported. Nothing of what a party reads is reported to anyone, and an Airflow that
        # happens to be installed is not asked for every setting.
        os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "PROVIDERS__ENABLE_AIRFLOW_SECRETS": "false"}
        try:
            import dlt  # noqa: F401 - only whether it is there
        except ImportError as exc:
            raise SourceError(
                f"{self.label}: a source of kind dlt needs the package dlt, which is not installed.",
                cure="pip install 'ftl[dlt]' at this node.",
            ) from exc

    def _function(self) -> Callable[..., Any]:
        path = self._root / self.settings.module
        if not path.is_file():
            near = nearest(path.name, (entry.name for entry in path.parent.glob("*.py")))
            raise SourceError(f"{self.label}.module: there is no file {path}.{near}", cure="Correct `module`.")
        with self._translated(str(path)):
            module = run_file(f"ftl_source_{number(str(path))}", path)  # dlt looks its functions up in sys.modules
        function = getattr(module, self.settings.function, None)
        if not callable(function):
            near = nearest(self.settings.function, (name for name in vars(module) if not name.startswith("_")))
            raise SourceError(
                f"{self.label}.function: {path} has no function {self.settings.function!r}.{near}",
                cure="Correct `function`.",
            )
        return function  # type: ignore[no-any-return]

    @staticmethod
    def _declared(resource: Any) -> dict[str, Any]:
        return dict(resource.compute_table_schema().get("columns", {}))

    def _batches(self, table: str, resource: Any, names: list[str] | None, seen: set[str]) -> Iterator[pa.RecordBatch]:
        """Items gathered into batches, with the columns `names`, or with all that a batch has; `seen` gathers those."""
        rows: list[dict[str, Any]] = []
        with self._translated(table):
            for item in resource:
                arrow = _arrow(item)
                if arrow is None:
                    rows += self._rows(table, item)
                else:
                    seen.update(arrow.column_names)
                    yield from (_selected(batch, names) for batch in arrow.to_batches(BATCH_ROWS) if batch.num_rows)
                if len(rows) >= BATCH_ROWS:
                    yield _batch(rows, names, seen)
                    rows = []
        if rows:
            yield _batch(rows, names, seen)

    def _rows(self, table: str, item: Any) -> list[dict[str, Any]]:
        listed = list(item) if isinstance(item, list | tuple) else [item]
        if not all(isinstance(row, dict) for row in listed):
            raise SourceError(
                f"{self.label}: resource {table!r} yields items that are no rows.",
                cure="Yield mappings, lists of mappings, Arrow tables or pandas frames.",
            )
        return listed

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except SourceError:
            raise
        except Exception as exc:
            # The party's own code may raise anything, with a row or an address with a token in its message.
            cause = _root(exc)
            kind = SourceUnavailable if _passing(cause) else SourceError
            raise kind(
                f"{self.label}: {what} fails with {type(cause).__name__}.",
                cure=f"Run {self.settings.function} of {self.settings.module} by itself to see why.",
            ) from exc


def _arrow(item: Any) -> pa.Table | None:
    if isinstance(item, pa.Table):
        return item
    if isinstance(item, pa.RecordBatch):
        return pa.Table.from_batches([item])
    return pa.Table.from_pandas(item, preserve_index=False) if type(item).__name__ == "DataFrame" else None


def _batch(rows: list[dict[str, Any]], names: list[str] | None, seen: set[str]) -> pa.RecordBatch:
    present = list(dict.fromkeys(name for row in rows for name in row))
    seen.update(present)
    asked = present if names is None else names
    return pa.record_batch([cells([row.get(name) for row in rows]) for name in asked], names=asked)


def _selected(batch: pa.RecordBatch, names: list[str] | None) -> pa.RecordBatch:
    if names is None:
        return batch
    there = set(batch.schema.names)
    arrays = [batch.column(name) if name in there else pa.nulls(batch.num_rows) for name in names]
    return pa.record_batch(arrays, names=names)


def _chained(first: pa.RecordBatch | None, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    if first is not None:
        yield first
    yield from rest


def _text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _root(exc: BaseException) -> BaseException:
    while exc.__cause__ is not None:
        exc = exc.__cause__
    return exc


def _passing(exc: BaseException) -> bool:
    """Whether it looks like a network that is down for now."""
    if isinstance(exc, FileNotFoundError | PermissionError):
        return False
    status = getattr(getattr(exc, "response", None), "status_code", None)
    if status is not None:
        return bool(status == 429 or status >= 500)
    return isinstance(exc, OSError)  # those of sockets, and of requests
