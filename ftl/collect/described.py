"""What a Delta table says of itself: its columns, and the texts kept with it."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from ftl.collect.commit import Action, metadata

PROPERTY = "ftl."
"""Before the names of texts that we keep."""


def grown(table: Any, schema: pa.Schema, properties: Mapping[str, str]) -> list[Action]:
    """What tells the table of columns and texts that it does not have yet."""
    known, kept = plain_schema(table), table.metadata().configuration
    fresh = [field for field in schema if field.name not in known.names]
    named = {f"{PROPERTY}{name}": value for name, value in properties.items()}
    if not fresh and named.items() <= kept.items():
        return []
    return [metadata(table, json_of(pa.schema([*known, *fresh])), named)]


def json_of(schema: pa.Schema) -> str:
    """Delta's text of a schema."""
    from deltalake import Schema

    text: str = Schema.from_arrow(schema).to_json()
    return text


def plain_schema(table: Any) -> pa.Schema:
    """The Delta schema with pyarrow's plain types; the reader may otherwise hand out string views."""
    found = pa.schema(table.schema().to_arrow())
    return pa.schema([pa.field(f.name, pa.string() if pa.types.is_string_view(f.type) else f.type) for f in found])
