"""What is asked of the lake's files for an expectation: SQL, where that means exactly what it means on a data frame.

Left to the data frame are other kinds of expectations and subclasses, row conditions, and bounds or columns of other
types.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ftl.collect import quoted
from ftl.quality.rows import Rows

_PLAIN_PATTERN = re.compile(r"(?:[A-Za-z0-9_ \-^$\[\]{}()|+*,]|\\d)*")
"""Patterns that mean the same everywhere: no dot, no lazy repetition, no look-around, no class of Unicode."""

_NUMBERS, _TEXTS = ("int64", "double"), ("string",)


@dataclass(frozen=True)
class Question:
    """One expectation, and what is asked for it.

    Attributes:
        column: the column whose missing cells are told; None for an expectation of several.
        fault: SQL condition of a row at fault.
        figure: SQL aggregate, of an expectation of the column as a whole.
        repeated: columns that must not repeat.
        settled: whether the files' statistics show that no row is at fault.
    """

    expectation: Any
    column: str | None = None
    fault: str | None = None
    figure: str | None = None
    repeated: tuple[str, ...] = ()
    settled: bool = False


def question(rows: Rows, expectation: Any) -> Question | None:
    """What to ask for an expectation; None where it is left to the data frame."""
    import great_expectations.expectations as gxe

    if getattr(expectation, "row_condition", None):
        return None
    for name, ask in _ASKED.items():
        if type(expectation) is getattr(gxe, name):
            return ask(rows, expectation)
    return None


def _of_table(_: Rows, expectation: Any) -> Question:
    return Question(expectation)


def _of_cells(
    kinds: Sequence[str], fault: Callable[[Any, str, str], str | None]
) -> Callable[[Rows, Any], Question | None]:
    """An expectation of each cell of a column of these types.

    Args:
        kinds: names of the types; any where there is none.
        fault: gives, of expectation, quoted column and type, the SQL condition of a cell at fault, null or not true for
            a missing one.
    """

    def ask(rows: Rows, expectation: Any) -> Question | None:
        name = expectation.column
        kind = str(rows.schema.field(name).type) if name in rows.schema.names else ""
        condition = fault(expectation, quoted(name), kind) if kind and (not kinds or kind in kinds) else None
        if condition is None:
            return None
        return Question(expectation, name, condition, settled=_settled(rows, expectation))

    return ask


def _settled(rows: Rows, expectation: Any) -> bool:
    """Whether statistics alone show that no cell is at fault."""
    bounds, kind = rows.bounds(expectation.column), expectation.expectation_type
    if bounds is None:
        return False
    if kind == "expect_column_values_to_not_be_null":
        return bounds.nulls == 0
    if kind != "expect_column_values_to_be_between" or bounds.low is None or bounds.high is None:
        return False
    low, high = expectation.min_value, expectation.max_value
    return (low is None or low < bounds.low or (low == bounds.low and not expectation.strict_min)) and (
        high is None or high > bounds.high or (high == bounds.high and not expectation.strict_max)
    )


def _outside(expectation: Any, cell: str, _: str) -> str | None:
    low, high = expectation.min_value, expectation.max_value
    if not all(bound is None or _is_number(bound) for bound in (low, high)) or (low is None and high is None):
        return None
    if low is not None and high is not None and low > high:
        return None
    return _beyond(expectation, cell, low, high)


def _beyond(expectation: Any, what: str, low: Any, high: Any) -> str:
    below = "<=" if expectation.strict_min else "<"
    above = ">=" if expectation.strict_max else ">"
    sides = [] if low is None else [f"{what} {below} {_number(low)}"]
    return " OR ".join([*sides, *([] if high is None else [f"{what} {above} {_number(high)}"])])


def _in_set(expectation: Any, cell: str, kind: str) -> str | None:
    values = expectation.value_set
    if not isinstance(values, (list, tuple, set)) or not values:
        return None
    if kind == "string" and all(isinstance(value, str) and "\0" not in value for value in values):
        return f"{cell} IN ({', '.join(map(_text, values))})"
    if kind in _NUMBERS and all(map(_is_number, values)):
        return f"{cell} IN ({', '.join(map(_number, values))})"
    return None


def _not_in_set(expectation: Any, cell: str, kind: str) -> str | None:
    within = _in_set(expectation, cell, kind)
    return None if within is None else f"NOT ({within})"


def _length(expectation: Any, cell: str, _: str) -> str | None:
    value = expectation.value
    return f"length({cell}) <> {_number(value)}" if _is_number(value) else None


def _lengths(expectation: Any, cell: str, _: str) -> str | None:
    return _outside(expectation, f"length({cell})", "int64")


def _pattern(*, matches: bool) -> Callable[[Any, str, str], str | None]:
    def fault(expectation: Any, cell: str, _: str) -> str | None:
        pattern = expectation.regex
        if not isinstance(pattern, str) or not _PLAIN_PATTERN.fullmatch(pattern):
            return None
        found = f"regexp_matches({cell}, {_text(pattern)})"
        return found if matches else f"NOT {found}"

    return fault


def _of_column(aggregate: str) -> Callable[[Rows, Any], Question | None]:
    """An expectation of one figure of a column of numbers."""

    def ask(rows: Rows, expectation: Any) -> Question | None:
        name = expectation.column
        if name not in rows.schema.names or str(rows.schema.field(name).type) not in _NUMBERS or not rows.count:
            return None
        return Question(expectation, name, figure=aggregate.format(quoted(name)))

    return ask


def _unique(rows: Rows, expectation: Any) -> Question | None:
    one = getattr(expectation, "column", None)
    columns = (one,) if one else tuple(expectation.column_list)
    ignored = getattr(expectation, "ignore_row_if", "all_values_are_missing")
    if not set(columns) <= set(rows.schema.names) or ignored != "all_values_are_missing":
        return None
    return Question(expectation, one, repeated=columns)


_ASKED: dict[str, Callable[[Rows, Any], Question | None]] = {
    "ExpectTableRowCountToBeBetween": _of_table,
    "ExpectTableRowCountToEqual": _of_table,
    "ExpectTableColumnsToMatchSet": _of_table,
    "ExpectColumnValuesToNotBeNull": _of_cells((), lambda _, cell, __: f"{cell} IS NULL"),
    "ExpectColumnValuesToBeNull": _of_cells((), lambda _, cell, __: f"{cell} IS NOT NULL"),
    "ExpectColumnValuesToBeBetween": _of_cells(_NUMBERS, _outside),
    "ExpectColumnValuesToBeInSet": _of_cells((*_NUMBERS, *_TEXTS), _not_in_set),
    "ExpectColumnValuesToNotBeInSet": _of_cells((*_NUMBERS, *_TEXTS), _in_set),
    "ExpectColumnValueLengthsToEqual": _of_cells(_TEXTS, _length),
    "ExpectColumnValueLengthsToBeBetween": _of_cells(_TEXTS, _lengths),
    "ExpectColumnValuesToMatchRegex": _of_cells(_TEXTS, _pattern(matches=False)),
    "ExpectColumnValuesToNotMatchRegex": _of_cells(_TEXTS, _pattern(matches=True)),
    "ExpectColumnValuesToBeUnique": _unique,
    "ExpectCompoundColumnsToBeUnique": _unique,
    "ExpectColumnMeanToBeBetween": _of_column("avg({})"),
    "ExpectColumnMedianToBeBetween": _of_column("median({})"),
    "ExpectColumnMinToBeBetween": _of_column("min({})"),
    "ExpectColumnMaxToBeBetween": _of_column("max({})"),
}
"""Class of an expectation to what is asked for it."""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def _number(value: float) -> str:
    return f"({value})" if isinstance(value, int) else f"({value!r}::DOUBLE)"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
