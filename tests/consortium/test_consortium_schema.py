"""The JSON Schema for editors says what the loader says."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from ftl import consortium

PUBLISHED = Path(__file__).parents[2] / "docs" / "consortium.schema.json"


@pytest.fixture
def blank(tmp_path: Path) -> dict[str, Any]:
    consortium.new(tmp_path)
    return YAML(typ="safe").load(tmp_path / "consortium.yaml")  # type: ignore[no-any-return]


def test_the_published_schema_is_that_of_the_models() -> None:
    assert json.loads(PUBLISHED.read_text()) == consortium.schema(), (
        'stale: python -c "import json, ftl.consortium as c; print(json.dumps(c.schema(), indent=2))" '
        "> docs/consortium.schema.json"
    )


def test_a_new_file_satisfies_the_schema_it_points_to(tmp_path: Path, blank: dict[str, Any]) -> None:
    first = (tmp_path / "consortium.yaml").read_text().splitlines()[0]
    schema = json.loads((tmp_path / first.split("$schema=")[1]).read_text())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(blank)


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        ((), "identifers", ["id"]),
        (("parties",), "Bank", {}),
        (("parties", "bank"), "role", "activ"),
        (("parties", "bank", "sources", "core"), "kind", "oracle"),
        (("parties", "bank", "tables", "accounts", "columns", "balance"), "type", "double"),
        (("parties", "bank", "tables", "accounts", "columns"), "Bad Name", {"from": "X", "type": "string"}),
        (("coordinator",), "gateway_port", 70000),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(
    path: tuple[str, ...], key: str, value: object, blank: dict[str, Any]
) -> None:
    place: Any = blank
    for step in path:
        place = place[step]
    place[key] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(consortium.schema()).validate(blank)


def test_every_setting_is_explained() -> None:
    unexplained = [
        f"{model}.{name}"
        for model, part in consortium.schema()["$defs"].items()
        for name, setting in part["properties"].items()
        if "description" not in setting
    ]
    assert unexplained == []


def test_the_guide_explains_every_setting() -> None:
    guide = (PUBLISHED.parent / "consortium.md").read_text()
    settings = {name for part in consortium.schema()["$defs"].values() for name in part["properties"]}
    settings |= set(consortium.schema()["properties"])
    assert sorted(name for name in settings if f"`{name}`" not in guide) == []
