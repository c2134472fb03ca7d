"""Which columns are summed together, so that a row is added once for several of them."""

from collections.abc import Sequence
from itertools import combinations


def column_groups(rows: int, buckets: Sequence[int]) -> list[list[int]]:
    """Columns in groups: rows are added by the group's joint cells, cells then by each column's buckets.

    Starts with every column alone and joins, as long as that saves additions, the two groups where it saves most.

    Args:
        rows: to be summed.
        buckets: of each column.
    """
    groups = [([column], number) for column, number in enumerate(buckets)]
    while len(groups) > 1:
        pairs = [
            (_cost(rows, a) + _cost(rows, b) - _cost(rows, _joined(a, b)), a, b) for a, b in combinations(groups, 2)
        ]
        saved, one, other = max(pairs, key=lambda pair: pair[0])
        if saved <= 0:
            break
        groups = [group for group in groups if group is not one and group is not other]
        groups.append(_joined(one, other))
    return [columns for columns, _ in groups]


_Group = tuple[list[int], int]
"""(columns, joint cells)."""


def _joined(one: _Group, other: _Group) -> _Group:
    return [*one[0], *other[0]], one[1] * other[1]


def _cost(rows: int, group: _Group) -> int:
    """Additions: of rows to cells, and of the cells that can be occupied to each column's buckets."""
    columns, cells = group
    return rows + (min(cells, rows) * len(columns) if len(columns) > 1 else 0)
