"""A party's answers about all its people, ready as rows: what a model part says of a stored person does not change."""

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ftl.protocols import SubScores
from ftl.serving.wire import Layout

MOST_BYTES = 1 << 30
"""Of one board; a larger population is computed whenever it is asked for."""
PEOPLE_AT_ONCE = 64
"""Filled in between two requests, so that nobody waits long."""

Compute = Callable[[NDArray[np.int64]], SubScores]
"""Sub-scores, with reasons, of the people in given rows of the party's table."""


class Board:
    """Rows of everybody for one model part; filled when asked for, and in the background.

    Args:
        layout: of a row.
        people: how many the party has.
        compute: sub-scores of some of them.
    """

    def __init__(self, layout: Layout, people: int, compute: Compute) -> None:
        self.layout = layout
        self._compute = compute
        self._fits = people * layout.row.itemsize <= MOST_BYTES
        # The last row stands for people whom the party does not know.
        self._rows = np.zeros(people + 1 if self._fits else 1, dtype=layout.row)
        self._there = np.zeros(len(self._rows), dtype=bool)
        self._rows[-1:], self._there[-1] = unknown(layout), True
        self._one_at_a_time = threading.Lock()

    def of(self, people: NDArray[np.int64]) -> NDArray[np.void]:
        """Rows of some people, shape (m,).

        Args:
            people: int64, shape (m,): their rows in the party's table, -1 where it does not know them.
        """
        if not self._fits:
            rows = np.repeat(self._rows[-1:], len(people))
            rows[people >= 0] = self.layout.pack(self._compute(people[people >= 0]))
            return rows
        absent = people[~self._there[people]]
        if len(absent):
            self._fill(np.unique(absent))
        return np.asarray(self._rows[people])

    def fill(self) -> bool:
        """Compute some people who are not there yet.

        Returns:
            whether there was anybody left.
        """
        absent = np.flatnonzero(~self._there)[:PEOPLE_AT_ONCE]
        if len(absent):
            self._fill(absent)
        return bool(len(absent))

    def _fill(self, people: NDArray[np.int64]) -> None:
        rows = self.layout.pack(self._compute(people))
        with self._one_at_a_time:
            self._rows[people] = rows
            self._there[people] = True


def unknown(layout: Layout) -> NDArray[np.void]:
    """The row, shape (1,), of somebody whom the party does not know: nothing added, every leaf open."""
    row = np.zeros(1, dtype=layout.row)
    for name in ("leaves", "relaxed", "own_leaves"):
        if name in (layout.row.names or ()):
            row[name] = ~np.zeros_like(row[name])
    return row
