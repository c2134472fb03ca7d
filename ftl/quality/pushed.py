"""Expectations answered by the lake's own files instead of a data frame.

Great Expectations states, of each expectation, which figures ("metrics") it judges by: a number of rows at fault, a
mean. Those that are common come from here: from the statistics that every Parquet file keeps of its columns where they
settle the matter, else from one pass of DuckDB over the columns concerned. The verdict stays with Great Expectations:
its own expectation judges the figures and gives its own validation result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ftl.collect import PLACE, quoted
from ftl.quality.questions import Question, question
from ftl.quality.rows import Rows


@dataclass(frozen=True)
class Answer:
    """What came out of one expectation.

    Attributes:
        result: its `great_expectations.core.ExpectationValidationResult`.
        rows: int64, places of the rows at fault; None where it speaks of the table as a whole.
    """

    result: Any
    rows: NDArray[np.int64] | None


def answers(rows: Rows, expectations: Sequence[Any], result_format: Mapping[str, Any]) -> dict[int, Answer]:
    """The place of an expectation in `expectations` to its answer; those left to the data frame are not named.

    Args:
        rows: what is checked.
        expectations: `great_expectations` expectations.
        result_format: of the results; its examples of unexpected values stay empty.
    """
    asked = {place: put for place, one in enumerate(expectations) if (put := question(rows, one)) is not None}
    figures = _figures(rows, list(asked.values()))
    faults = _faults(rows, [one for one in asked.values() if one.fault and figures.get(one.fault, 0)])
    found = dict[int, Answer]()
    for place, one in asked.items():
        at = _at_fault(rows, one, faults)
        metrics = _metrics(rows, one, figures, at)
        result = _judged(one.expectation, metrics, result_format)
        found[place] = Answer(result, at)
    return found


def _figures(rows: Rows, asked: Sequence[Question]) -> dict[str, Any]:
    """SQL aggregate, or fault of a cell, to its figure over all rows; one query for all."""
    counted = {f"count({quoted(one.column)})" for one in asked if one.column and _missing(rows, one.column) is None}
    faults = {one.fault for one in asked if one.fault and not one.settled}
    figures = {one.figure for one in asked if one.figure}
    named = {what: what for what in sorted(counted | figures)}
    named |= {what: f"count(*) FILTER ({what})" for what in sorted(faults)}
    if not named or not rows.parts:
        return dict.fromkeys(named, 0)
    answer = rows.ask(f"SELECT {', '.join(named.values())} FROM checked")  # noqa: S608 - built above
    return {what: column[0].as_py() for what, column in zip(named, answer.columns, strict=True)}


def _faults(rows: Rows, asked: Sequence[Question]) -> dict[str, NDArray[np.int64]]:
    """Fault to the places of the rows at fault."""
    conditions = sorted({one.fault for one in asked if one.fault})
    if not conditions:
        return {}
    columns = ", ".join(f"coalesce({condition}, false)" for condition in conditions)
    any_of = " OR ".join(f"({condition})" for condition in conditions)
    found = rows.ask(f"SELECT {PLACE}, {columns} FROM checked WHERE {any_of} ORDER BY {PLACE}")  # noqa: S608
    places = found.column(0).to_numpy()
    return {
        condition: places[np.asarray(column.to_numpy(), dtype=bool)]
        for condition, column in zip(conditions, found.columns[1:], strict=True)
    }


def _at_fault(rows: Rows, one: Question, faults: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64] | None:
    if one.repeated:
        return _repeating(rows, one.repeated)
    return faults.get(one.fault, np.empty(0, np.int64)) if one.fault else None


def _repeating(rows: Rows, columns: Sequence[str]) -> NDArray[np.int64]:
    """Places of the rows whose values in these columns come more than once; rows without any value do not count.

    Sorted hashes show most often that there are none. Only rows whose hash repeats are compared.
    """
    named = ", ".join(map(quoted, columns))
    given = " OR ".join(f"{quoted(name)} IS NOT NULL" for name in columns)
    if not rows.parts or (len(columns) == 1 and _ascending(rows, columns[0])):
        return np.empty(0, np.int64)
    asked = rows.ask(f"SELECT hash({named}) AS h FROM checked WHERE {given}").column("h")  # noqa: S608 - quoted names
    hashes = np.concatenate([chunk.to_numpy() for chunk in asked.chunks] or [np.empty(0, np.uint64)])
    del asked
    hashes.sort()
    again = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    if not len(again):
        return np.empty(0, np.int64)
    found = rows.ask(
        f"SELECT {PLACE} FROM checked SEMI JOIN again ON h = hash({named}) WHERE {given} "  # noqa: S608 - quoted names
        f"QUALIFY count(*) OVER (PARTITION BY {named}) > 1 ORDER BY {PLACE}",
        again=pa.table({"h": again}),
    )
    return np.asarray(found.column(0).to_numpy(), dtype=np.int64)


def _ascending(rows: Rows, column: str) -> bool:
    """Whether whole numbers come in ascending order, as those of a primary key mostly do: then none repeats."""
    if str(rows.schema.field(column).type) != "int64" or _missing(rows, column) != 0:
        return False
    last = None
    for chunk in rows.ask(f"SELECT {quoted(column)} AS v FROM checked").column("v").chunks:  # noqa: S608 - quoted name
        values = chunk.to_numpy()
        if (values[1:] <= values[:-1]).any() or (last is not None and (values[:1] <= last).any()):
            return False
        last = values[-1] if len(values) else last
    return True


def _metrics(
    rows: Rows, one: Question, figures: Mapping[str, Any], at_fault: NDArray[np.int64] | None
) -> dict[str, Any]:
    """Great Expectations' name of a figure to its value, without the prefix of the expectation's own kind."""
    found = {"table.row_count": rows.count, "table.columns": rows.schema.names}
    if one.column is not None:
        missing = _missing(rows, one.column)
        if missing is None:
            missing = rows.count - figures[f"count({quoted(one.column)})"]
        found["column_values.nonnull.unexpected_count"] = missing
    if one.figure is not None:
        found["figure"] = figures[one.figure]
    if at_fault is not None:
        found |= {"unexpected_count": len(at_fault), "unexpected_values": [], "unexpected_index_list": []}
        found |= {"unexpected_index_query": None, "filtered_row_count": _given(rows, one)}
    return found


def _given(rows: Rows, one: Question) -> int:
    """Rows that have a value in one of the columns that must not repeat; only asked where there are several."""
    if len(one.repeated) < 2 or any(_missing(rows, name) == 0 for name in one.repeated) or not rows.parts:
        return rows.count
    given = " OR ".join(f"{quoted(name)} IS NOT NULL" for name in one.repeated)
    return int(rows.ask(f"SELECT count(*) FROM checked WHERE {given}").column(0)[0].as_py())  # noqa: S608


def _missing(rows: Rows, column: str) -> int | None:
    """Cells without a value, where the files' statistics tell."""
    bounds = rows.bounds(column)
    return bounds.nulls if bounds is not None and (rows.untouched or not bounds.nulls) else None


class _Metrics(dict[str, Any]):
    """Figures by Great Expectations' own identifiers, each a tuple that begins with the metric's name."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        super().__init__()
        self._found = found

    def __contains__(self, _: object) -> bool:
        return True

    def __missing__(self, identifier: tuple[str, ...]) -> Any:
        names = identifier[0], identifier[0].rsplit(".", 1)[-1], "figure"
        return next(self._found[name] for name in names if name in self._found)


def _judged(expectation: Any, found: Mapping[str, Any], result_format: Mapping[str, Any]) -> Any:
    """Great Expectations' own verdict on the figures."""
    runtime = {"result_format": dict(result_format)}
    result = expectation.metrics_validate(_Metrics(found), runtime_configuration=runtime)
    result.exception_info = {"raised_exception": False, "exception_traceback": None, "exception_message": None}
    return result
