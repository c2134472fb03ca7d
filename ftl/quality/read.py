"""What other rooms read of a table: its published rows, and what stands in quarantine."""

from collections import Counter
from collections.abc import Sequence

import msgspec
import pyarrow as pa

from ftl.collect import SYNC, Lake, current, nearest
from ftl.consortium import Node
from ftl.errors import LakeError


def read_validated(
    node: Node, table: str, columns: Sequence[str] | None = None, *, version: int | None = None
) -> pa.Table:
    """Published rows of a table, ordered by key, so that the same rows always come in the same order.

    Args:
        node: the party's node.
        table: lake name of the table.
        columns: in the wanted order; all of the mapping's when None.
        version: Delta version to read; the newest when None.

    Raises:
        LakeError: nothing was published yet, or there is no such column.
    """
    lake = Lake(node.validated(table), version)
    schema = lake.schema()
    if schema is None or validated_version(node, table) is None:
        raise LakeError(
            f"{node.name}.{table} has no published rows.", cure="Collect the table and let it pass its quality check."
        )
    known = [name for name in schema.names if name != SYNC]
    wanted = known if columns is None else list(columns)
    for name in wanted:
        if name not in known:
            raise LakeError(
                f"{node.name}.{table} has no column {name!r}.{nearest(name, known)}", cure="Map it in consortium.yaml."
            )
    key = node.party.tables[table].key or node.consortium.identifiers
    rows = lake.read(list(dict.fromkeys([*wanted, *key])))
    return rows.sort_by([(name, "ascending") for name in key]).select(wanted)


def validated_version(node: Node, table: str) -> int | None:
    """Delta version of the published rows; None before the first publication."""
    lake = Lake(node.validated(table))
    # A first publication that was killed leaves an empty table without a mark.
    return None if lake.marks("checked") == (None,) and not lake.count() else lake.version


def quarantined(node: Node, table: str) -> pa.Table:
    """Rows that stand refused now, one per refused record.

    Columns: `stage` (``collect``, ``quality`` or ``blocked``), `decision` and `batch` (numbers of the refusing commit
    and of the sync that read the row), `key`, `reason`, `raw` (the record as JSON) and `at`. Holds personal data; stays
    at the node.
    """
    return current(node, table)


class Refusals(msgspec.Struct, frozen=True):
    """How many rows of a table stand refused now for one reason.

    Attributes:
        table: lake name.
        stage: who refused them: ``collect``, ``quality`` or ``blocked``.
        reason: one of theirs; a row with two reasons counts under both.
        rows: how many.
    """

    table: str
    stage: str
    reason: str
    rows: int


def refusals(node: Node, table: str) -> list[Refusals]:
    """Refused rows of a table by stage and reason, the most frequent first. Names nobody."""
    rows = current(node, table)
    pairs = zip(rows.column("stage").to_pylist(), rows.column("reason").to_pylist(), strict=True)
    counted = Counter((stage, reason) for stage, reasons in pairs for reason in reasons.split("; "))
    return [Refusals(table, stage, reason, count) for (stage, reason), count in counted.most_common()]
