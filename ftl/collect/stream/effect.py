"""What a batch of changes comes to: at most one row or one deletion per key, whatever happened in between."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ftl.collect.identity import identities
from ftl.collect.leaving import Leaving
from ftl.collect.mapping import Mapped, Mapping
from ftl.collect.stream.change import Changes


@dataclass(frozen=True)
class Effect:
    """The net effect of a batch.

    Attributes:
        rows: new states, lake columns, at most one per key.
        removed: key columns of rows that are deleted, or whose new state is refused.
        refused: mapped batches with the places of refused rows in them.
    """

    rows: pa.Table
    removed: pa.Table
    refused: list[tuple[Mapped, NDArray[np.int64]]]

    @property
    def empty(self) -> bool:
        """Whether the lake stays as it is."""
        return not (self.rows.num_rows or self.removed.num_rows or self.refused)


def net_effect(mapping: Mapping, leaving: Leaving, changes: Sequence[Changes]) -> Effect:
    """Map changes and keep the last one of each key.

    Args:
        mapping: of the table.
        leaving: tells rows that the source marks as deleted.
        changes: in source order.

    Raises:
        MappingError: a cell cannot be cast where the policy is `stop`.
    """
    key = list(mapping.key)
    mapped = [mapping.apply(part.rows) for part in changes]
    rows = pa.concat_tables([mapping.schema.empty_table(), *(part.rows for part in mapped)])
    deleted = _joined([part.deleted for part in changes]) | leaving.rows(rows)
    fine = _joined([np.asarray(pc.is_null(p.reasons).to_numpy(zero_copy_only=False), dtype=bool) for p in mapped])
    identity = identities(rows, key)
    keyed = np.asarray(identity.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    last = _last(identity) & keyed
    lands = last & fine & ~deleted
    bad = ~fine & ~deleted & (last | ~keyed)
    return Effect(rows.filter(pa.array(lands)), rows.select(key).filter(pa.array(last & ~lands)), _places(mapped, bad))


def _last(identity: pa.Array) -> NDArray[np.bool_]:
    """bool, shape (n,): the cell is the last of its value. NumPy keeps the last one assigned to a place."""
    codes = np.asarray(pc.fill_null(identity, "").dictionary_encode().indices.to_numpy(zero_copy_only=False))
    newest = np.zeros(codes.max(initial=-1) + 1, dtype=np.int64)
    newest[codes] = np.arange(len(codes))
    found = np.zeros(len(codes), dtype=bool)
    found[newest] = True
    return found


def _places(mapped: Sequence[Mapped], chosen: NDArray[np.bool_]) -> list[tuple[Mapped, NDArray[np.int64]]]:
    first, found = 0, []
    for part in mapped:
        places = np.flatnonzero(chosen[first : first + len(part.reasons)])
        first += len(part.reasons)
        if len(places):
            found.append((part, places))
    return found


def _joined(parts: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    return np.concatenate([np.zeros(0, dtype=bool), *parts])
