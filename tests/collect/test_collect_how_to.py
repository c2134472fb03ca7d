"""The pages about collection name commands and settings that there are."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ftl.cli import app
from ftl.collect.sync import FILE_KINDS
from ftl.consortium import schema

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [
    "collect.md",
    "how-to/connect-your-database.md",
    "how-to/fix-a-quarantined-batch.md",
    "how-to/stream-changes.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_names_and_its_options_exist(page: str) -> None:
    named = set(re.findall(r"(?:`|^    )ftl ([a-z][^`\n]*)", (DOCS / page).read_text(), re.MULTILINE))
    assert named
    for command in named:
        words = re.match(r"[a-z]+(?: [a-z]+(?= |$))?", command)
        assert words
        known = ("map", "quality", "quarantine", "policy", "experiment")
        parts = words[0].split() if words[0].split()[0] in known else words[0].split()[:1]
        shown = CliRunner().invoke(app, [*parts, "--help"], env={"COLUMNS": "200"})
        if parts in (["quality"], ["quarantine"]):
            shown = CliRunner().invoke(app, [*parts, {"quality": "check"}.get(parts[0], "list"), "--help"])
        assert shown.exit_code == 0, command
        assert [option for option in re.findall(r"--[a-z]+", command) if option not in shown.output] == [], command


def test_the_page_has_every_kind_of_source() -> None:
    page = (DOCS / "collect.md").read_text()
    kinds = {kind for part in schema()["$defs"].values() for kind in _kinds(part)}
    assert set(FILE_KINDS) < kinds
    assert sorted(kind for kind in kinds if f"`{kind}`" not in page) == []


def _kinds(part: dict[str, object]) -> list[str]:
    setting = part.get("properties", {}).get("kind", {})  # type: ignore[attr-defined]
    described = "sort of source" in setting.get("description", "")
    return [*setting.get("enum", []), *([setting["const"]] if "const" in setting else [])] if described else []
