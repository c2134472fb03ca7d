"""A table of MariaDB or MySQL read in the order of its primary key, so that a read that was cut off can go on.

A piece is a range of the key. Its name holds what was read in it: rows, total of the key and total of the cursor. The
server is asked for the same; whatever was inserted, deleted, or changed with its cursor in the meantime shows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from ftl.collect.pieces import PIECE_ROWS, WHOLE, Earlier, Totals

WHOLE_NUMBERS = {"tinyint", "smallint", "mediumint", "int", "bigint"}
KEY, TOTALS = "_ftl_key", "_ftl_totals"
"""Columns beside those that are asked for."""
_DAYS = 719_528
"""`TO_DAYS('1970-01-01')`."""
_MICROSECONDS = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', {})"


@dataclass(frozen=True)
class KeyOrder:
    """How one table is read.

    Attributes:
        table: its name, quoted.
        key: the column of its primary key, quoted; of whole numbers.
        place: the column of a batch that holds it: the same where it is asked for anyway, else :data:`KEY`.
        cursor: SQL of the cursor as a whole number.
        after: the key up to which an earlier read holds; None for the beginning.
        control: source column to SQL of its control total.
    """

    table: str
    key: str
    place: str
    cursor: str
    after: int | None
    control: dict[str, str]

    @property
    def rest(self) -> str:
        """The condition that a row is still to be read."""
        return "" if self.after is None else f" WHERE {self.key} > {self.after}"

    @property
    def text(self) -> str:
        """SQL of a text for :meth:`told`, of the table as the statement sees it."""
        controls = ", ".join(f"coalesce({total}, 0)" for total in self.control.values())
        asked = f"concat_ws(' ', {', '.join(filter(None, ['count(*)', controls]))})"
        held = "''" if self.after is None else f"({self.proof(f'{self.key} <= {self.after}')})"
        return f"concat((SELECT {asked} FROM {self.table}), '|', {held})"  # noqa: S608 - quoted names

    def proof(self, where: str) -> str:
        """SQL of what a piece's name ends with, for the rows of a condition."""
        sums = f"count(*), coalesce(sum({self.key}), 0), coalesce(sum({self.cursor}), 0)"
        return f"SELECT concat_ws(' ', {sums}) FROM {self.table} WHERE {where}"  # noqa: S608 - quoted names

    def query(self, columns: Sequence[str]) -> str:
        """The statement that reads the rest; its first row also has the text.

        Args:
            columns: SQL of each.
        """
        first = f"{self.key} = (SELECT min({self.key}) FROM {self.table}{self.rest})"  # noqa: S608 - quoted names
        beside = [
            *([f"{self.key} AS {KEY}"] if self.place == KEY else []),
            f"IF({first}, {self.text}, NULL) AS {TOTALS}",
        ]
        return f"SELECT {', '.join([*columns, *beside])} FROM {self.table}{self.rest} ORDER BY {self.key}"  # noqa: S608

    def told(self, text: str) -> tuple[int, Totals, str]:
        """Number of rows, control totals, and the proof of what is held already."""
        totals, _, held = text.partition("|")
        rows, *found = map(int, totals.split(" "))
        return rows, {name: total % WHOLE for name, total in zip(self.control, found, strict=True)}, held

    def held(self, earlier: Earlier, ask: Callable[[str], str]) -> frozenset[str]:
        """The first pieces of an earlier read, up to one that no longer holds."""
        broken = False

        def holds(name: str, _: int) -> bool:
            nonlocal broken
            low, high, proof = _parts(name)
            where = f"{self.key} <= {high}" + ("" if low is None else f" AND {self.key} > {low}")
            broken = broken or not _same(ask(self.proof(where)), [proof])
            return not broken

        return earlier.held(holds)

    def items(self, batches: Iterator[pa.RecordBatch], names: list[str], cursor: str) -> Iterator[pa.RecordBatch | str]:
        """The asked columns of each batch; after the batches of each piece its name."""
        low, high, rows, keys, cursors = self.after, self.after, 0, 0, 0
        for batch in batches:
            yield batch.select(names)
            rows += batch.num_rows
            high = batch.column(self.place)[-1].as_py()
            keys += _sum(batch.column(self.place))
            cursors += _sum(batch.column(cursor))
            if rows >= PIECE_ROWS:
                yield _name(low, high, f"{rows} {keys % WHOLE} {cursors % WHOLE}")
                low, rows, keys, cursors = high, 0, 0, 0
        if rows:
            yield _name(low, high, f"{rows} {keys % WHOLE} {cursors % WHOLE}")


def watched(column: str, declared: str, expression: str) -> str | None:
    """SQL of a cursor as a whole number; None for a type of which there is none.

    Args:
        column: its name, quoted.
        declared: its type's name, without length.
        expression: SQL of its values, null where they mean *unknown*.
    """
    if declared in WHOLE_NUMBERS:
        return column
    if declared == "date":
        return f"to_days({expression}) - {_DAYS}"
    return _MICROSECONDS.format(expression) if declared in {"datetime", "timestamp"} else None


def last_key(held: frozenset[str]) -> int | None:
    """The key up to which pieces hold."""
    return max((_parts(name)[1] for name in held), default=None)


def holds_still(proof: str, held: frozenset[str]) -> bool:
    """Whether what the server says of all held pieces together is what their names say."""
    return not held or _same(proof, [_parts(name)[2] for name in held])


def _same(found: str, proofs: list[str]) -> bool:
    sums = [sum(column) % WHOLE for column in zip(*(map(int, proof.split(" ")) for proof in proofs), strict=True)]
    return [int(number) % WHOLE for number in found.split(" ")] == sums


def _sum(values: pa.Array) -> int:
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.timestamp("us", values.type.tz)).cast(pa.int64())
    elif pa.types.is_date(values.type):
        values = values.cast(pa.date32()).cast(pa.int32()).cast(pa.int64())
    return int(pc.sum(values).as_py() or 0)


def _name(low: int | None, high: int | None, proof: str) -> str:
    return f"{'' if low is None else low}..{high}:{proof}"


def _parts(name: str) -> tuple[int | None, int, str]:
    ends, _, proof = name.partition(":")
    low, _, high = ends.partition("..")
    return int(low) if low else None, int(high), proof
