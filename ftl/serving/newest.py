"""Rows that have landed since the party's table was last checked, of a table that is `online`.

A stream lands rows long before the next quality check publishes them. Where the steward has set `online: true`, scoring
answers from them at once: the online store says in microseconds whether anything has landed, and holds the newest row
of each key. Everybody else is answered from the validated table.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from ftl.collect import Lake, OnlineStore
from ftl.collect.mapping import Mapping
from ftl.consortium import Node
from ftl.errors import LakeError
from ftl.features.encoder import texts

CURE = "Remove its folder; the next sync writes it anew."
Pseudonymise = Callable[[str], bytes]
"""Joined identifiers to the pseudonym that the gateway sends."""


@dataclass(frozen=True)
class Landed:
    """Rows newer than those of the validated table.

    Attributes:
        table: lake columns.
        rows: pseudonym to row.
    """

    table: pa.Table | None = None
    rows: dict[bytes, int] = field(default_factory=dict)

    def of(self, pseudonym: bytes) -> pa.Table | None:
        """A person's row; None where no newer one has landed."""
        place = self.rows.get(pseudonym)
        return None if place is None or self.table is None else self.table.slice(place, 1)


class Newest:
    """Follows the online store of a party's feature table; sees nothing where the table keeps none.

    Args:
        node: the party's own installation.
        table: lake name of its feature table.
        pseudonymise: makes the key of the index.

    Attributes:
        landed: what had landed at the last look; replaced as a whole.
    """

    def __init__(self, node: Node, table: str, pseudonymise: Pseudonymise) -> None:
        self.landed = Landed()
        self._node, self._table, self._pseudonymise = node, table, pseudonymise
        self._store = OnlineStore.of(node, table, Mapping(node, table)) if node.party.tables[table].online else None
        self._seen: tuple[int, int | None] | None = None

    def look(self, validated: int | None) -> bool:
        """See what has landed since the table was checked; blocks, for microseconds where nothing has.

        Args:
            validated: Delta version of the validated table that answers now; None before the first.

        Returns:
            whether anything had changed.

        Raises:
            LakeError: store or lake cannot be read; what was seen before answers on.
        """
        if self._store is None or not (self._node.home / "online" / self._table).exists():
            return False
        import lmdb

        try:
            with closing(self._store) as store:  # opened anew at each look: a process may open it only once at a time
                seen = store.number, validated
                if seen == self._seen:
                    return False
                self.landed, self._seen = self._read(store, validated), seen
        except (lmdb.Error, ValueError) as exc:  # a damaged page, or a value that was one
            raise LakeError(f"The online store of {self._table} is damaged: {type(exc).__name__}.", cure=CURE) from exc
        return True

    def _read(self, store: OnlineStore, validated: int | None) -> Landed:
        settings = self._node.party.tables[self._table]
        key = list(settings.key or self._node.consortium.identifiers)
        (checked,) = Lake(self._node.validated(self._table), validated).marks("checked")
        changed = Lake(self._node.landed(self._table)).read(key, since=checked)
        if not changed.num_rows:
            return Landed()
        keys = list(zip(*(changed.column(name).to_pylist() for name in key), strict=True))
        table = store.latest(keys)
        return Landed(table, indexed(table, self._node.consortium.identifiers, self._pseudonymise))


def indexed(table: pa.Table, identifiers: Sequence[str], pseudonymise: Pseudonymise) -> dict[bytes, int]:
    """Pseudonym to row; people without an identifier are left out.

    Args:
        table: with the identifiers' columns.
        identifiers: of the consortium, in its order.
        pseudonymise: joined identifiers to the pseudonym.
    """
    columns = [texts(table.column(name)) for name in identifiers]
    joined = columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, "|")
    return {pseudonymise(text): row for row, text in enumerate(joined.to_pylist()) if text is not None}
