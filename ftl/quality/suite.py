"""A table's expectations: those that follow from its mapping, and those of the party's own suite file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ftl.collect import Mapping, nearest, number, run_file
from ftl.consortium import Node
from ftl.errors import QualityError
from ftl.quality.against import Comparison

_GENERATION = 1
"""Raised when the generated expectations change, so that every table is checked anew."""


@dataclass(frozen=True)
class Rules:
    """What the rows of a table are checked against.

    Attributes:
        node: the party's node.
        table: lake name of the table.
        mapping: its mapping.
    """

    node: Node
    table: str
    mapping: Mapping

    @property
    def name(self) -> str:
        """Name of the suite, for example ``bank.accounts``."""
        return f"{self.node.name}.{self.table}"

    @property
    def identifiers(self) -> tuple[str, ...]:
        """The consortium's identifiers where this table is the one that features come from; else nothing."""
        return self.node.consortium.identifiers if self.table == self.node.party.features.table else ()

    @property
    def fingerprint(self) -> int:
        """A 63-bit number that changes with the rules; all rows are then checked again."""
        path = self._path
        text = path.read_text(encoding="utf-8") if path is not None and path.is_file() else ""
        label = self.node.party.label
        return number(f"{_GENERATION} {self.mapping.fingerprint} {self.identifiers} {label!r} {text}")

    def build(self, suite: Any) -> None:
        """Add all expectations to an empty `great_expectations.ExpectationSuite`.

        Raises:
            QualityError: the suite file is missing or fails.
        """
        for expectation in self._generated():
            suite.add_expectation(expectation)
        if self._path is not None:
            with _named(self._path):
                run_file(f"ftl_suite_{number(str(self._path))}", self._path).build(suite)

    @cached_property
    def compared(self) -> tuple[Comparison, ...]:
        """Comparisons with other tables, the clock and earlier loads, which the suite file lists as ``COMPARED``.

        Raises:
            QualityError: the suite file is missing or fails.
        """
        if self._path is None:
            return ()
        with _named(self._path):
            return tuple(getattr(run_file(f"ftl_suite_{number(str(self._path))}", self._path), "COMPARED", ()))

    @property
    def _path(self) -> Path | None:
        suite = self.mapping.settings.suite
        return None if suite is None else self.node.root / suite

    def _generated(self) -> Iterator[Any]:
        import great_expectations.expectations as gxe

        key = self.mapping.key
        yield gxe.ExpectTableRowCountToBeBetween(min_value=1, severity="critical", description="the table has rows")
        yield gxe.ExpectTableColumnsToMatchSet(
            column_set=self.mapping.schema.names, severity="critical", description="the mapping's columns are there"
        )
        # Whom a further identifier can name may lack the first one.
        named = () if self.node.consortium.alignment.otherwise else self.identifiers
        for column in dict.fromkeys((*key, *named)):
            yield gxe.ExpectColumnValuesToNotBeNull(column=column, severity="warning", description="is given")
        for columns in dict.fromkeys(filter(None, (key, self.identifiers))):
            yield _unique(columns)
        label = self._label_values()
        if label is not None:
            column = self.node.party.label.column if self.node.party.label else ""
            yield gxe.ExpectColumnValuesToBeInSet(
                column=column,
                value_set=label,
                severity="warning",
                description="the label is one of its declared values",
            )

    def _label_values(self) -> list[Any] | None:
        """Values the label may have, as far as the mapping says: those it is recoded to, or 0 and 1."""
        label = self.node.party.label
        if label is None or label.kind == "number" or self.table != self.node.party.features.table:
            return None
        if label.kind == "classes":
            return list(label.classes) or None
        column = self.mapping.settings.columns.get(label.column)
        if column is not None and column.recode:
            return [value for value in dict.fromkeys(column.recode.values()) if value is not None]
        kind = str(self.mapping.schema.field(label.column).type) if label.column in self.mapping.schema.names else ""
        return [0, 1] if kind in {"int64", "double"} and label.positive in {0, 1} else None


def _unique(columns: tuple[str, ...]) -> Any:
    import great_expectations.expectations as gxe

    if len(columns) == 1:
        return gxe.ExpectColumnValuesToBeUnique(column=columns[0], severity="critical", description="is unique")
    return gxe.ExpectCompoundColumnsToBeUnique(
        column_list=list(columns), severity="critical", description="are unique together"
    )


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Failures of the suite file name it."""
    if not path.is_file():
        near = nearest(path.name, (entry.name for entry in path.parent.glob("*.py")))
        raise QualityError(f"There is no suite file {path}.{near}", cure="Correct the table's `suite`.")
    try:
        yield
    except Exception as exc:
        raise QualityError(
            f"The suite file {path} fails: {type(exc).__name__}: {exc}",
            cure="It must define `build(suite)` that adds Great Expectations expectations.",
        ) from exc
