"""The text of a learned suite file."""

import pprint
from collections.abc import Mapping, Sequence
from typing import Any

from ftl.quality.against import Comparison, Count, Fresh, Refers, Shift, Typed

_WIDTH = 110

_HEAD = '''"""What {name} was like in a load of {rows} rows, as a start: correct it, it is yours.

Severity decides: ``critical`` publishes nothing of a batch, ``warning`` sends the rows at fault to quarantine, ``info``
only tells. It takes effect once the table's `suite` in consortium.yaml names this file.
"""

import great_expectations as gx
import great_expectations.expectations as gxe

from ftl.quality.against import Count, Fresh, Refers, Shift, Typed  # noqa: F401 - for you to use

'''
_MEANT = {
    "KNOWN": "Columns without a gap.",
    "MOSTLY_KNOWN": "Column to the least share of rows that know it.",
    "RANGES": "Column to its lowest and highest number, with room on both sides.",
    "CODES": "Column to its few values.",
    "LENGTHS": "Column to its shortest and longest text.",
    "UNIQUE": "Columns of which no value comes twice.",
}
_TAIL = '''

def build(suite: gx.ExpectationSuite) -> None:
    """Add the expectations of `{name}`."""
    for expectation in (*_cells(), *_columns()):
        suite.add_expectation(expectation)


def _cells() -> list[gxe.Expectation]:
    """Rows at fault go to quarantine."""
    known = [gxe.ExpectColumnValuesToNotBeNull(column=c, severity="warning", description="is known") for c in KNOWN]
    ranges = [
        gxe.ExpectColumnValuesToBeBetween(
            column=column, min_value=low, max_value=high, severity="warning", description=f"is from {{low}} to {{high}}"
        )
        for column, (low, high) in RANGES.items()
    ]
    codes = [
        gxe.ExpectColumnValuesToBeInSet(
            column=column, value_set=values, severity="warning", description="is one of the known codes"
        )
        for column, values in CODES.items()
    ]
    return [*known, *ranges, *codes]


def _columns() -> list[gxe.Expectation]:
    """A repeated value stops the batch; the others only tell."""
    unique = [gxe.ExpectColumnValuesToBeUnique(column=c, severity="critical", description="is unique") for c in UNIQUE]
    mostly = [
        gxe.ExpectColumnValuesToNotBeNull(
            column=column, mostly=share, severity="info", description=f"is known for {{share:.0%}} of the rows"
        )
        for column, share in MOSTLY_KNOWN.items()
    ]
    lengths = [
        gxe.ExpectColumnValueLengthsToBeBetween(
            column=column, min_value=low, max_value=high, severity="info", description="is as long as it was"
        )
        for column, (low, high) in LENGTHS.items()
    ]
    return [*unique, *mostly, *lengths]
'''


def suite_text(name: str, rows: int, tables: Mapping[str, Any], compared: Sequence[Comparison]) -> str:
    """The file.

    Args:
        name: of the table, for example ``bank.accounts``.
        rows: of the load that it was learned from.
        tables: constant to its value; see :data:`_MEANT`.
        compared: for the constant ``COMPARED``.
    """
    constants = [
        f'{key} = {pprint.pformat(value, width=_WIDTH, sort_dicts=False)}\n"""{_MEANT[key]}"""\n'
        for key, value in tables.items()
    ]
    listed = "".join(f"    {_call(one)},\n" for one in compared)
    meant = '"""Next to other tables, to the clock, and to the loads accepted before."""\n'
    return (
        _HEAD.format(name=name, rows=rows)
        + "".join(constants)
        + f"COMPARED = [\n{listed}]\n{meant}"
        + _TAIL.format(name=name)
    )


def _call(one: Comparison) -> str:
    """As a person would write it, with its severity."""
    match one:
        case Typed(columns=columns):
            given = pprint.pformat(columns, width=_WIDTH - 10, sort_dicts=False).replace("\n", "\n      ")
        case Count(low=low, high=high):
            given = f"{low:g}, {high:g}"
        case Fresh(column=column, hours=hours):
            given = f"{column!r}, {hours:g}"
        case Refers(column=column, table=table, to=to):
            given = f"{column!r}, {table!r}, {to!r}"
        case Shift(column=column, limit=limit):
            given = f"{column!r}, {limit:g}"
    return f"{type(one).__name__}({given}, severity={one.severity!r})"
