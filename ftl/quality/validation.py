"""Runs a suite with Great Expectations and says which rows fail what. Nothing it stores or renders lists a value."""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.collect import disk_full, disk_is_full, exclusive
from ftl.consortium import Node
from ftl.errors import FtlError, QualityError
from ftl.quality.pushed import Answer, answers
from ftl.quality.rows import Rows

log = logging.getLogger(__name__)

Severity = Literal["critical", "warning", "info"]

_STORED: dict[str, Any] = {"result_format": "SUMMARY", "partial_unexpected_count": 0}
"""Counts and percentages without examples: a Data Docs page names nobody."""

_POSITIONS: dict[str, Any] = {"result_format": "COMPLETE", "return_unexpected_index_query": False}

_PLACE = "place"
"""Under which a copy of an expectation notes where in its suite it stands."""

_ONE_CONTEXT = threading.Lock()
"""Great Expectations keeps the open context in a global of its own; threads would get each other's."""

_APART = {"id", "rendered_content", "notes", "meta"}
"""Settings of an expectation in which two may differ and still be the same one."""

_TURN_SECONDS = 600.0
"""Longest wait for the check of another table of the node to be done."""

_SETTINGS = "great_expectations.yml"
"""File in the context's folder."""

_STORES = ("expectations", "validation_definitions")
"""Folders of suites, and of what ties them to data."""

_PAGES = 100
"""Newest validations that the Data Docs index lists."""


@dataclass(frozen=True)
class Finding:
    """One expectation that failed.

    Attributes:
        severity: as the suite says; an expectation that could not be computed is critical.
        text: column and expectation, without any value of a row.
        rows: int64, ascending; places of the rows at fault. None where the expectation speaks of the table as a whole.
        unique: the columns that repeat, where that is what failed.
    """

    severity: Severity
    text: str
    rows: NDArray[np.int64] | None
    unique: tuple[str, ...] = ()


def validate(docs: "Docs", name: str, build: Callable[[Any], None], rows: Rows) -> list[Finding]:
    """Run a suite on `rows` and store the result.

    Args:
        docs: the node's.
        name: of the suite, for example ``bank.accounts``.
        build: adds the expectations to an empty `great_expectations.ExpectationSuite`.
        rows: nulls are *missing*.
    """
    definition, fresh = definition_of(docs.context, name, build)
    expectations = definition.suite.expectations
    found = answers(rows, expectations, _STORED)
    left = {place: one for place, one in enumerate(expectations) if place not in found}
    batch = _batch(definition, rows, list(left.values()))
    found |= {place: _on_frame(result, left[place], batch, rows) for place, result in _results(batch, left)}
    ordered = [found[place] for place in range(len(expectations))]
    docs.store(definition, batch, [answer.result for answer in ordered], fresh=fresh)
    return sorted(
        (_finding(one, answer) for one, answer in zip(expectations, ordered, strict=True) if not _good(answer)),
        key=lambda finding: finding.text,
    )


@dataclass
class Docs:
    """A node's Great Expectations context, and the pages of its Data Docs that are still to be written.

    Attributes:
        context: the open one.
        waiting: identifiers of what was stored.
    """

    context: Any
    waiting: list[Any] = field(default_factory=list)

    def store(self, definition: Any, batch: Any, results: list[Any], *, fresh: bool) -> None:
        """Keep the results as a validation of the suite.

        Args:
            definition: of the suite over a data frame.
            batch: that was looked at.
            results: of the suite's expectations, in their order.
            fresh: whether the suite has changed, so that it needs a new page as well.
        """
        place = store(self.context, definition, batch, results)
        self.waiting += [place, place.expectation_suite_identifier][: 1 + fresh]

    def write(self) -> None:
        """Write the pages that are waiting, and the index."""
        if self.waiting:
            self.context.build_data_docs(resource_identifiers=self.waiting)
            self.waiting = []


@contextmanager
def opened_docs(node: Node, name: str) -> Iterator[Docs]:
    """The node's Great Expectations context, held by one check at a time; pages are written when it is left.

    Pages take longer than the checks of a small batch do, so whoever publishes does it before. Two tables that are
    checked at once would overwrite each other's index page.

    Args:
        node: whose context and Data Docs.
        name: of the suite.
    """
    with _ONE_CONTEXT, exclusive(node.home / "gx", f"check {name}", patience=_TURN_SECONDS):
        try:
            docs = Docs(open_context(node.home / "gx", node.docs))
            try:
                yield docs
            finally:
                docs.write()
        except FtlError:
            raise
        except Exception as exc:  # Great Expectations has errors of its own for a file that it cannot write
            if disk_is_full(exc):
                raise disk_full("store the results of checks in", node.home) from exc
            raise


def open_context(home: Path, docs: Path) -> Any:
    """The node's Great Expectations context, a folder of files; the only place where one is opened.

    Args:
        home: its folder.
        docs: folder of the Data Docs site.
    """
    # Read when the library is imported: nothing of a party's checks is reported to anyone.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    home.mkdir(parents=True, exist_ok=True)
    _forget_damaged(home)
    try:
        context = gx.get_context(mode="file", context_root_dir=home)
    except Exception as exc:
        if disk_is_full(exc):
            raise
        # The library writes its settings in place: a process that was killed meanwhile has left a part of them.
        log.warning("quality.settings damaged", extra={"folder": str(home)})
        (home / _SETTINGS).unlink(missing_ok=True)
        context = gx.get_context(mode="file", context_root_dir=home)
    known, sites = context.variables, {"data_docs": _site(docs)}
    if known.analytics_enabled is not False or known.config_variables_file_path or known.data_docs_sites != sites:
        context.variables.analytics_enabled = False
        # Else the file that this names is read at every look at a setting, dozens of times a check.
        context.variables.config_variables_file_path = None
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        context.variables.data_docs_sites = sites
        context.variables.save()
    return context


def _forget_damaged(home: Path) -> None:
    """Remove all stored suites once one of them is half written, as a process that was killed may leave it.

    The next check of each table stores its own again and takes it for a changed one.
    """
    stored = [path for folder in _STORES for path in (home / folder).rglob("*.json")]
    if not all(map(_is_object, stored)):
        log.warning("quality.suites damaged", extra={"folder": str(home)})
        for path in stored:
            path.unlink()


def _is_object(path: Path) -> bool:
    try:
        return isinstance(msgspec.json.decode(path.read_bytes()), dict)
    except msgspec.DecodeError:
        return False


def _site(docs: Path) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder", "validation_results_limit": _PAGES},
    }


def definition_of(context: Any, name: str, build: Callable[[Any], None]) -> tuple[Any, bool]:
    """(the suite over a data frame, whether it is another suite than the last time).

    Args:
        context: the node's.
        name: of the suite.
        build: adds the expectations to an empty `great_expectations.ExpectationSuite`.
    """
    import great_expectations as gx

    draft = _draft(f"{name}.draft")
    build(draft)
    known = _known(context, name)
    if known is not None and _settings(known.suite) == _settings(draft):
        return known, False
    suite = gx.ExpectationSuite(name, expectations=draft.expectations)
    asset = context.data_sources.add_or_update_pandas("lake").add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe("new_rows")
    stored = context.suites.add_or_update(suite)
    definition = gx.ValidationDefinition(name=name, data=batch, suite=stored)
    return context.validation_definitions.add_or_update(definition), True


def _draft(name: str) -> Any:
    """An empty `great_expectations.ExpectationSuite` that no store knows: a known one is written at every addition."""
    import great_expectations as gx

    class Draft(gx.ExpectationSuite):  # type: ignore[misc]
        """Takes an expectation once, as its parent does, but without comparing it with every other one."""

        def add_expectation(self, expectation: Any) -> Any:
            if expectation.id:
                return super().add_expectation(expectation)  # says that it belongs to another suite
            stated = repr((expectation.expectation_type, expectation.dict(exclude=_APART)))
            if stated not in added:
                added.add(stated)
                self.expectations.append(expectation)
            return expectation

    added = set[str]()
    return Draft(name)


def _known(context: Any, name: str) -> Any:
    """What the context stored of this name before; None where that is nothing, or cannot be read any more."""
    from great_expectations.exceptions import DataContextError

    try:
        known = context.validation_definitions.get(name)
        known.data.data_asset  # noqa: B018 - fails where the data frame's definition is gone
    except (DataContextError, LookupError, ValueError):
        return None
    return known


def _settings(suite: Any) -> list[Any]:
    """The suite's expectations as they are stored, without the names that storing gives them."""
    stated = [one.configuration.to_json_dict() for one in suite.expectations]
    return [{name: value for name, value in one.items() if name != "id"} for one in stated]


def _batch(definition: Any, rows: Rows, expectations: list[Any]) -> Any:
    """A data frame of the columns that these expectations need, as a batch."""
    return definition.data.get_batch(batch_parameters={"dataframe": rows.frame(_needed(rows, expectations))})


def _results(batch: Any, expectations: Mapping[int, Any]) -> Iterator[tuple[int, Any]]:
    """Place and result of each expectation, run on a batch; Great Expectations gives them in an order of its own."""
    import great_expectations as gx

    draft = gx.ExpectationSuite("draft")
    for place, one in expectations.items():
        draft.add_expectation(one.copy(update={"id": None, "meta": {_PLACE: place}}))
    for result in batch.validate(draft, result_format=_STORED).results if expectations else ():
        place = result.expectation_config.meta[_PLACE]
        result.expectation_config = expectations[place].configuration
        yield place, result


def _needed(rows: Rows, expectations: list[Any]) -> list[str]:
    """Columns that the expectations name; all where one of them may look at any."""
    known: list[str] = rows.schema.names
    found = set[str]()
    for one in expectations:
        settings = one.configuration.kwargs
        named = [settings[name] for name in ("column", "column_A", "column_B") if settings.get(name)]
        named += settings.get("column_list") or []
        if not named or getattr(one, "row_condition", None):
            return known
        found |= set(named)
    return [name for name in known if name in found]


def _on_frame(result: Any, expectation: Any, batch: Any, rows: Rows) -> Answer:
    """With the rows at fault, from a second run whose result is kept nowhere."""
    if result.success or "unexpected_count" not in result.result:
        return Answer(result, None)
    again = batch.validate(expectation, result_format=_POSITIONS).result
    if "unexpected_index_list" not in again:
        return Answer(result, None)
    return Answer(result, rows.places[np.unique(np.asarray(again["unexpected_index_list"], dtype=np.int64))])


def store(context: Any, definition: Any, batch: Any, results: list[Any]) -> Any:
    """Keep the results as a validation of the suite; gives the validation's identifier.

    Args:
        context: the node's.
        definition: of the suite over a data frame.
        batch: that was looked at.
        results: of the suite's expectations, in their order.
    """
    from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResult
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.data_context.types.resource_identifiers import (
        ExpectationSuiteIdentifier,
        ValidationResultIdentifier,
    )

    good, run = sum(bool(result.success) for result in results), RunIdentifier(run_time=datetime.now(UTC))
    stored = ExpectationSuiteValidationResult(
        results=results,
        success=good == len(results),
        suite_name=definition.suite.name,
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": good,
            "unsuccessful_expectations": len(results) - good,
            "success_percent": 100 * good / len(results) if results else None,
        },
        meta={
            "great_expectations_version": version("great_expectations"),
            "active_batch_definition": batch.batch_definition.to_json_dict(),
            "validation_id": definition.id,
            "run_id": run,
            "validation_time": run.run_time,
        },
        batch_id=batch.id,
    )
    suite = ExpectationSuiteIdentifier(name=definition.suite.name)
    place = ValidationResultIdentifier(batch_identifier=batch.id, expectation_suite_identifier=suite, run_id=run)
    context.validation_results_store.store_validation_results(stored, place, suite)
    return place


def _good(answer: Answer) -> bool:
    return bool(answer.result.success)


def _finding(expectation: Any, answer: Answer) -> Finding:
    result = answer.result
    if "unexpected_count" not in result.result and "observed_value" not in result.result:
        return Finding("critical", f"{_text(expectation)} could not be computed: {_failure(result)}", None)
    rows = answer.rows if "unexpected_count" in result.result else None
    return Finding(_severity(expectation), _text(expectation), rows, _unique(expectation))


def _severity(expectation: Any) -> Severity:
    value = str(getattr(expectation.severity, "value", expectation.severity)).lower()
    if value not in {"critical", "warning", "info"}:
        raise QualityError(f"{_text(expectation)} has the severity {value!r}.", cure="Use critical, warning or info.")
    return value  # type: ignore[return-value]


def _unique(expectation: Any) -> tuple[str, ...]:
    if expectation.expectation_type == "expect_column_values_to_be_unique":
        return (expectation.column,)
    if expectation.expectation_type == "expect_compound_columns_to_be_unique":
        return tuple(expectation.column_list)
    return ()


def _text(expectation: Any) -> str:
    """``limit_bal: between 10000 and 1000000``: the suite's own description, or the expectation with its settings."""
    settings = expectation.configuration.kwargs
    columns = [settings[name] for name in ("column", "column_A", "column_B") if name in settings]
    columns += settings.get("column_list", [])
    where = ", ".join(columns) or "table"
    if expectation.description:
        return f"{where}: {expectation.description}"
    rest = {name: value for name, value in settings.items() if not name.startswith("column") and name != "batch_id"}
    stated = ", ".join(f"{name}={value!r}" for name, value in rest.items())
    return f"{where}: {expectation.expectation_type}({stated})"


def _failure(one: Any) -> str:
    info = one.exception_info or {}
    messages = [info.get("exception_message")] if "exception_message" in info else []
    messages += [value.get("exception_message") for value in info.values() if isinstance(value, dict)]
    return next((str(message).splitlines()[0] for message in messages if message), "no reason given")
