"""What a sync says of itself, on the way and at its end."""

from typing import Literal

import msgspec

Mode = Literal["full", "incremental"]
Step = Literal["started", "mapped", "prepared", "committed"]


class SyncProgress(msgspec.Struct, frozen=True):
    """Where a sync is.

    Attributes:
        party, table: what is synced.
        step: ``started`` before anything is read, ``mapped`` after each batch, ``prepared`` when all is written and
            only the commit is missing, ``committed``.
        rows: rows read so far.
        of: rows to read; None where the source cannot say.
        bytes: Arrow data read so far.
        seconds: since the sync began.
    """

    party: str
    table: str
    step: Step
    rows: int
    of: int | None
    bytes: int = 0
    seconds: float = 0.0

    @property
    def speed(self) -> float:
        """Megabytes of Arrow data per second so far."""
        return self.bytes / 1e6 / self.seconds if self.seconds > 0 else 0.0


class SyncReport(msgspec.Struct, frozen=True):
    """What one sync did.

    Attributes:
        party, table: what was synced.
        mode: as done: a first incremental sync, or one after a change of the mapping, is a full one.
        rows_read: rows that the source gave; of an incremental sync those at or after the watermark.
        rows_landed: rows written to the landed table.
        rows_quarantined: rows refused by the mapping.
        version: Delta version of the landed table that holds the result.
        position: the watermark as text; None for a table without cursor.
        seconds: duration.
        skipped: there was nothing new, so nothing was written.
        rows_deleted: rows that the source marks as deleted; of an incremental sync those that were landed until now.
    """

    party: str
    table: str
    mode: Mode
    rows_read: int
    rows_landed: int
    rows_quarantined: int
    version: int
    position: str | None
    seconds: float
    skipped: bool
    rows_deleted: int = 0
