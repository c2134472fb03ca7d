"""What every change stream gives: changed rows in source order, and the position after them."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ftl.collect.source import Snapshot
from ftl.collect.stream.terms import Terms


@dataclass(frozen=True)
class Changes:
    """Row changes of one table in the order of the source's transactions.

    Attributes:
        rows: n rows of source columns; the new state of an inserted or updated row, of a deleted one at least the
            columns that its key is made of. An update that moves a row to another key is a deletion and an insertion.
        deleted: bool, shape (n,).
    """

    rows: pa.RecordBatch
    deleted: NDArray[np.bool_]


@dataclass(frozen=True)
class Broken:
    """An event that cannot be read at all.

    Attributes:
        reason: without a value of the event.
        raw: its content, for the quarantine.
    """

    reason: str
    raw: str


@dataclass(frozen=True)
class Slice:
    """A piece of a stream.

    Attributes:
        changes: in source order; their types may differ where the source's schema has changed in between.
        broken: events that are no changes.
        marks: the position after the last of them: names and 63-bit numbers, kept in the commit that lands them.
        written: when the source committed the last of them; None where nothing changed.
        behind: how much more the source has, in the source's own unit; None where it does not say.
        anew: whether the stream cannot go on from here and the table has to be read again, as after a TRUNCATE.
    """

    changes: tuple[Changes, ...]
    marks: Mapping[str, int]
    broken: tuple[Broken, ...] = ()
    written: datetime | None = None
    behind: int | None = None
    anew: bool = False

    @property
    def events(self) -> int:
        """How many changes there are."""
        return sum(len(changes.deleted) for changes in self.changes) + len(self.broken)


@dataclass(frozen=True)
class Start:
    """A consistent read of the whole table and the stream's position at that very moment."""

    snapshot: Snapshot
    marks: Mapping[str, int]


@dataclass(frozen=True)
class Pace:
    """How large a batch grows and how long we wait.

    Attributes:
        rows: most changes of a batch. Nothing more is read before it has landed, so that memory stays flat.
        seconds: how long a change may wait for further ones.
        catching_up: seconds for which a batch grows while further changes are there already.
        silence: seconds without a sign of life after which a connection counts as dead.
        patience: seconds for which an absent source is tried again before the stream gives up.
    """

    rows: int = 100_000
    seconds: float = 0.2
    catching_up: float = 1.0
    silence: float = 30.0
    patience: float = 600.0


class Feed(Protocol):
    """The change stream of one table. One thread uses it."""

    @property
    def terms(self) -> Terms | None:
        """What watches the source's columns; None where the source does not describe any."""
        ...

    def begin(self) -> AbstractContextManager[Start]:
        """Start anew: the whole table, and a position without gap or overlap after it.

        Raises:
            SourceError: the source is not set up for a stream; says what to set or grant.
        """
        ...

    def resume(self, marks: Mapping[str, int]) -> None:
        """Go on after a position.

        Raises:
            SourceError: the source no longer has what came after it.
        """
        ...

    def mark_names(self) -> tuple[str, ...]:
        """The marks that make up a position."""
        ...

    def take(self, pace: Pace) -> Slice:
        """What comes next; returns after `pace.seconds` even when that is nothing.

        Raises:
            SourceUnavailable: the connection is lost, or silent for longer than `pace.silence`.
            SourceError: a column that the mapping needs is gone.
        """
        ...

    def landed(self, marks: Mapping[str, int]) -> None:
        """Everything up to this position is in the lake; the source need not keep it for us."""
        ...

    def close(self) -> None:
        """Close the connection; the position at the source is kept."""
        ...

    def drop(self) -> None:
        """Remove what :meth:`begin` created at the source."""
        ...


@dataclass
class Gathered:
    """A slice while it is being put together.

    Attributes:
        rows: changes so far.
    """

    changes: list[Changes] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    rows: int = 0
    written: datetime | None = None

    def slice(self, marks: Mapping[str, int], behind: int | None, *, anew: bool = False) -> Slice:
        """Finish it."""
        return Slice(tuple(self.changes), dict(marks), tuple(self.broken), self.written, behind, anew)


def nothing() -> Snapshot:
    """Of a source that has no state, only events."""
    batches: Iterator[pa.RecordBatch] = iter(())
    return Snapshot(0, batches)
