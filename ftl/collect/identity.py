"""What tells rows apart: their key as one text, and the source columns behind it."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from ftl.collect.mapping import Mapping


def identity_of(mapping: Mapping) -> tuple[str, ...]:
    """Source columns of which a row's key is made; all that are read where a part of the key is derived."""
    columns = mapping.settings.columns
    if not all(name in columns for name in mapping.key):
        return mapping.source_columns
    return tuple(dict.fromkeys(columns[name].source for name in mapping.key))


def identities(rows: pa.Table, key: Sequence[str]) -> pa.Array:
    """string, n cells: one text per key, no two keys the same; null where a part of the key is null."""
    parts = [_text(rows.column(name)) for name in key]
    if len(parts) == 1:
        return parts[0]
    sized = [pc.binary_join_element_wise(pc.binary_length(p).cast(pa.string()), p, ":") for p in parts]
    return pc.binary_join_element_wise(*sized, "")


def _text(column: pa.ChunkedArray) -> pa.Array:
    text = column.cast(pa.string()).combine_chunks()
    return pa.concat_arrays(text.chunks) if isinstance(text, pa.ChunkedArray) else text
