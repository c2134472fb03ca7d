"""Which data files of a table are to be written anew.

Every merge adds a file, so that a followed table soon has thousands of small ones, and every changed row leaves a dead
one behind. Files are therefore joined once there are many small ones, and a large one is written anew once most of its
rows are dead: each row is rewritten a few times in its life, however many merges come. The rows themselves, the numbers
of the syncs that wrote them and the table's marks stay as they are.
"""

from collections.abc import Sequence

from ftl.collect.parts import Part

MOST_SMALL = 32
"""Small files that a table may have."""
SMALL_ROWS = 250_000
"""A file of fewer rows is small; one that has grown beyond it by joining is left alone."""


def worn(parts: Sequence[Part]) -> list[Part]:
    """The files to be written anew; none most of the time."""
    hollow = [part for part in parts if part.rows >= SMALL_ROWS and 2 * len(part.dead) > part.rows]
    small = [part for part in parts if part.rows < SMALL_ROWS]
    return hollow + small if len(small) > MOST_SMALL else hollow
