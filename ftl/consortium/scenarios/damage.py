"""Rows that are wrong on purpose, and the list of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Damage:
    """One way in which a row can be wrong.

    Attributes:
        column: at the source.
        value: what stands there.
        reason: why the row must end in quarantine, in words.
        caught_by: ``mapping`` when the value cannot become the declared type, ``suite`` when an expectation refuses it.
    """

    column: str
    value: Any
    reason: str
    caught_by: str


def damaged(rows: pd.DataFrame, people: Sequence[int], kinds: Sequence[Damage]) -> pd.DataFrame:
    """A copy of `rows`, indexed by person, in which the people's rows are damaged by each kind in turn."""
    rows = rows.astype(object)
    for place, person in enumerate(people):
        kind = kinds[place % len(kinds)]
        rows.loc[person, kind.column] = kind.value
    return rows


def manifest(
    party: str, table: str, key: pd.Series, people: Sequence[int], kinds: Sequence[Damage]
) -> list[dict[str, Any]]:
    """One entry per damaged row; `key` is the table's primary key by person."""
    return [
        {
            "party": party,
            "table": table,
            "key": key[person],
            "column": kinds[place % len(kinds)].column,
            "value": kinds[place % len(kinds)].value,
            "reason": kinds[place % len(kinds)].reason,
            "caught_by": kinds[place % len(kinds)].caught_by,
        }
        for place, person in enumerate(people)
    ]
