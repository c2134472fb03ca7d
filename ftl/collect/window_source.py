"""Reads views with windowed aggregates over the party's own validated tables, as if they were tables of a source."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ftl.collect.derive import sandbox
from ftl.collect.lake import Lake
from ftl.collect.mapping import Mapping, number
from ftl.collect.source import Since, Snapshot, nearest, require_columns
from ftl.collect.windows import Windows
from ftl.consortium import Node
from ftl.consortium.windows import WindowSource
from ftl.errors import MappingError, SourceError, SourceUnavailable


class WindowReader:
    """The views of one source of kind ``windows``.

    Args:
        label: how messages name this source.
        settings: its part of `consortium.yaml`.
        node: whose tables it reads.
    """

    def __init__(self, label: str, settings: WindowSource, node: Node) -> None:
        self.label = label
        self.settings = settings
        self.node = node

    def ping(self) -> None:
        """Check every view against the columns that the mappings declare; nothing need have landed yet."""
        for name in self.settings.views:
            self._windows(name)

    def tables(self) -> tuple[str, ...]:
        """Names of the views."""
        return tuple(self.settings.views)

    def columns(self, table: str) -> dict[str, str]:
        """Column name to its Arrow type."""
        return {field.name: str(field.type) for field in self._windows(table).schema}

    def position(self, table: str, cursor: str | None) -> str | None:  # noqa: ARG002 - a view is read as a whole
        """Versions of the tables that the view reads, and the view's settings."""
        lakes = self._lakes(self._windows(table))
        settings = number(self.settings.views[table].model_dump_json())
        return "+".join([*(f"{name}@{lake.version}" for name, lake in lakes.items()), str(settings)])

    @contextmanager
    def snapshot(self, table: str, columns: Iterable[str], since: Since | None = None) -> Iterator[Snapshot]:  # noqa: ARG002
        """Compute the view from one version of each table."""
        windows, asked = self._windows(table), tuple(columns)
        require_columns(self.label, table, asked, windows.schema.names)
        lakes = self._lakes(windows)
        with sandbox(part.path for lake in lakes.values() for part in lake.parts()) as connection:
            for place, (name, lake) in enumerate(lakes.items()):
                lake.create_view(connection, f'"{name}"', f"_{place}_")
            rows = windows.run(connection, asked)
        yield Snapshot(rows.num_rows, iter(rows.combine_chunks().to_batches()))

    def _windows(self, table: str) -> Windows:
        if table not in self.settings.views:
            raise SourceError(
                f"{self.label}: there is no view {table!r}.{nearest(table, self.settings.views)}",
                cure="Correct the table's `table` in consortium.yaml.",
            )
        view = self.settings.views[table]
        named = dict.fromkeys([view.parent, *(child.table for child in view.children.values())])
        known = [name for name in named if name in self.node.party.tables]
        try:
            schemas = {name: Mapping(self.node, name).schema for name in known}
            return Windows(f"{self.label}.views.{table}", view, schemas)
        except MappingError as error:
            raise SourceError(error.message, cure=error.cure) from error

    def _lakes(self, windows: Windows) -> dict[str, Lake]:
        """Each table at the version that it has now.

        Raises:
            SourceUnavailable: one has no published rows yet.
        """
        lakes = {}
        for name in windows.tables:
            lake = Lake(self.node.validated(name))
            if lake.version is None or lake.marks("checked") == (None,):
                raise SourceUnavailable(
                    f"{self.label}: {self.node.name}.{name} has no published rows yet.",
                    cure="Collect it and let it pass its quality check first; list it above in consortium.yaml.",
                )
            lakes[name] = Lake(self.node.validated(name), lake.version)
        return lakes
