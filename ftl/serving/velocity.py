"""How often a subject has applied lately, over all gateway processes of one machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftl.serving.shared import SharedTable

FILE = "velocities.table"
DAY = 86_400
MONTH = 30 * DAY
MOST_TIMES = 24
"""Applications of one subject that are told apart; a further one counts in the place of the oldest."""
BUCKETS = 1 << 17
"""For a million subjects."""


class Velocity:
    """Times of applications by subject; subjects name nobody.

    Args:
        folder: where the gateway processes of one machine keep what they share.
        clock: seconds since 1970.
    """

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._times = SharedTable(folder / FILE, f"{MOST_TIMES}I", BUCKETS)

    def count(self, subject: str) -> tuple[int, int]:
        """Note an application.

        Args:
            subject: hex, 16 bytes.

        Returns:
            those of the last day and of the last 30 days before it, at most 24.
        """
        now, before = int(self._clock()), list[int]()

        def note(_: float, times: tuple[Any, ...] | None) -> list[int]:
            before.extend(at for at in times or () if at > now - MONTH)
            kept = [now, *before][:MOST_TIMES]
            return kept + [0] * (MOST_TIMES - len(kept))

        self._times.change(bytes.fromhex(subject), now, note)
        return sum(at > now - DAY for at in before), len(before)

    def close(self) -> None:
        """Close the file."""
        self._times.close()
