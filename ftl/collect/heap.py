"""Where PostgreSQL keeps the rows of a table, and how ranges of its blocks are read and known again."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

HEAP = """
SELECT c.oid::bigint, pg_relation_filenode(c.oid)::bigint,
  pg_relation_size(c.oid) / current_setting('block_size')::bigint,
  pg_snapshot_xmin(pg_current_snapshot())::text::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am a ON a.oid = c.relam
WHERE n.nspname = {schema} AND c.relname = {table} AND c.relkind IN ('r', 'm') AND a.amname = 'heap'
  AND current_setting('server_version_num')::int >= 140000
"""
"""Before 14 a range of blocks cost a read of the whole table."""

BLOCKS = 8192
"""Of a piece: 64 MB of the table's file."""
_TRANSACTIONS = 1_000_000_000
"""So many later, the age of a row can no longer be compared: transactions are numbered in a circle."""


@dataclass(frozen=True)
class Heap:
    """Where a table's rows lie.

    Attributes:
        table: its number.
        file: of its file, which changes when it is written anew.
        blocks: in that file.
        oldest: transactions before this one are over.
        next: transactions from this one on had not begun.
    """

    table: int
    file: int
    blocks: int
    oldest: int
    next: int

    @property
    def state(self) -> str:
        """What a later read needs to compare its own with."""
        return f"{self.table}/{self.file}/{self.oldest}"

    def oldest_of(self, state: str) -> int | None:
        """The oldest transaction of a read that began in that state; None where this one cannot be compared with it."""
        same, _, oldest = state.rpartition("/")
        if same != f"{self.table}/{self.file}" or self.next - int(oldest) > _TRANSACTIONS:
            return None
        return int(oldest)

    def ranges(self, held: Iterable[str]) -> list[str]:
        """Pieces that cover all blocks which no held one covers."""
        first, found = 0, list[str]()
        for low, high in [*sorted(map(_ends, held)), (self.blocks, self.blocks)]:
            found += [f"{start}-{min(start + BLOCKS, low)}" for start in range(first, low, BLOCKS)]
            first = high
        return found


def within(piece: str) -> str:
    """The condition that a row lies in a piece."""
    low, high = _ends(piece)
    return f"ctid >= '({low},0)' AND ctid < '({high},0)'"


def young(oldest: int) -> str:
    """The number of rows that a snapshot whose oldest transaction was this one may not have seen."""
    return f"count(*) FILTER (WHERE age(xmin) <= age('{oldest}'::xid8::xid))"


def in_order(
    pool: ThreadPoolExecutor, read: Callable[[str], list[pa.RecordBatch]], pieces: Sequence[str], ahead: int
) -> Iterator[pa.RecordBatch | str]:
    """What `read` gives for each piece, then its name, while the next ones are read."""
    under_way = deque[tuple[str, Future[list[pa.RecordBatch]]]]()
    waiting = iter(pieces)
    try:
        for piece in islice(waiting, ahead):
            under_way.append((piece, pool.submit(read, piece)))
        while under_way:
            piece, found = under_way.popleft()
            yield from found.result()
            yield piece
            for later in islice(waiting, 1):
                under_way.append((later, pool.submit(read, later)))
    finally:
        for _, found in under_way:
            found.cancel()


def _ends(piece: str) -> tuple[int, int]:
    low, _, high = piece.partition("-")
    return int(low), int(high)
