"""The JSON Schema of `consortium.yaml`, for editors, and for naming what may stand at a place."""

from functools import cache
from typing import Any

from ftl.consortium.model import Consortium
from ftl.consortium.problem import Path

SCHEMA_FILE = "consortium.schema.json"


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that editors use to complete and check the file while it is written."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_closed(Consortium.model_json_schema(by_alias=True)),
    }


def _closed(part: Any) -> Any:
    """The same schema with names that match no pattern refused, which pydantic does and does not write down."""
    if isinstance(part, list):
        return [_closed(item) for item in part]
    if not isinstance(part, dict):
        return part
    closed = {key: _closed(value) for key, value in part.items()}
    return closed | {"additionalProperties": False} if "patternProperties" in part else closed


def names_at(path: Path, values: Any) -> tuple[str, ...]:
    """Settings that may stand in the mapping at `path`; empty where names are free.

    Args:
        path: from the top of the file.
        values: the whole file; tells by ``kind`` which sort of source stands there.
    """
    return tuple(_at(path, values).get("properties", ()))


@cache
def _schema() -> dict[str, Any]:
    return schema()


def _at(path: Path, values: Any) -> dict[str, Any]:
    here = _resolve(_schema(), values)
    for step in path:
        values = values.get(step) if isinstance(values, dict) else None
        named = here.get("properties", {}).get(step)
        here = _resolve(named or next(iter(here.get("patternProperties", {}).values()), {}), values)
    return here


def _resolve(part: dict[str, Any], value: Any) -> dict[str, Any]:
    """Follow references and choose among alternatives by ``kind``, else the one that is a mapping."""
    if "$ref" in part:
        return _resolve(_schema()["$defs"][part["$ref"].rsplit("/", 1)[1]], value)
    choices = part.get("oneOf") or part.get("anyOf")
    if not choices:
        return part
    if "discriminator" in part:
        kind = value.get("kind") if isinstance(value, dict) else None
        target = part["discriminator"]["mapping"].get(kind)
        return _resolve({"$ref": target}, value) if target else {}
    return next((r for r in (_resolve(choice, value) for choice in choices) if "properties" in r), {})
