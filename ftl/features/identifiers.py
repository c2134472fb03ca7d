"""By what a party's people are found at the other parties."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from ftl.errors import FeatureError
from ftl.features.encoder import texts

Ids = tuple[str | None, ...]


def read_identifiers(source: str, table: pa.Table, lists: Sequence[tuple[str, ...]]) -> tuple[Ids, ...]:
    """Per list of identifier columns the texts of all rows, several columns joined by ``"|"``.

    Args:
        source: names party and table in errors.
        table: holds all columns.
        lists: the consortium's identifiers, then further ones in falling precedence.

    Returns:
        per list n texts, None for a person who lacks one of its columns.

    Raises:
        FeatureError: a row has no identifier at all, or two rows have the same one.
    """
    found = [_joined(table, columns) for columns in lists]
    nameless = sum(all(text is None for text in row) for row in zip(*found, strict=True))
    if nameless:
        columns = " or ".join(", ".join(some) for some in lists)
        raise FeatureError(
            f"{source}: {nameless} rows have no value in an identifier column ({columns}).",
            cure="Let the table's suite quarantine them.",
        )
    for some, ids in zip(lists, found, strict=True):
        _require_unique(source, some, ids)
    return tuple(found)


def first_names(found: Sequence[Ids]) -> tuple[str, ...]:
    """What each row is called here: its first identifier; one of a further list stands after the list's number."""
    names = []
    for row in zip(*found, strict=True):
        number = next(number for number, text in enumerate(row) if text is not None)
        names.append(str(row[number]) if number == 0 else f"{number + 1}:{row[number]}")
    return tuple(names)


def _joined(table: pa.Table, columns: tuple[str, ...]) -> Ids:
    parts = [texts(table.column(column)) for column in columns]
    return tuple((parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, "|")).to_pylist())


def _require_unique(source: str, columns: tuple[str, ...], ids: Ids) -> None:
    given = [text for text in ids if text is not None]
    surplus = len(given) - len(set(given))
    if surplus:
        raise FeatureError(
            f"{source}: the identifier ({', '.join(columns)}) is not unique, {surplus} rows repeat one.",
            cure="Keep one row per person: correct the source, or set the table's key to the identifier columns.",
        )
