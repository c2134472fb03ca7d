"""A policy that was approved counts as it was approved, or not at all."""

import json
import shutil
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from ftl.cli import app
from ftl.decision.approval import approve, trusted
from ftl.decision.policy import SHIPPED, Policy
from ftl.errors import PolicyError
from ftl.serving.decisions import LOOK_SECONDS, Decisions

NOW = datetime(2030, 3, 1, tzinfo=UTC).timestamp()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    shutil.copytree(SHIPPED / "standard", tmp_path / "policies" / "own")
    return tmp_path / "policies" / "own"


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def fail_an_example(place: Path) -> None:
    rows = json.loads((place / "examples.json").read_text())
    rows[0]["expect"]["limit"] = 1
    (place / "examples.json").write_text(json.dumps(rows))


def test_an_approval_says_who_and_from_when_and_leaves_the_rest_as_it_was(own: Path) -> None:
    before = json.loads((own / "policy.json").read_text())
    made = approve(own, "A. Manager", date(2029, 1, 1)).declared
    assert (made.approved_by, made.effective_from) == ("A. Manager", date(2029, 1, 1))
    after = json.loads((own / "policy.json").read_text())
    assert set(after) - set(before) == {"approved_digest"}
    assert {name for name in before if before[name] != after[name]} <= {"approved_by", "effective_from"}


@pytest.mark.parametrize(
    ("file", "values"), [("policy.json", {"retries": 3}), ("policy.json", {"effective_from": "2020-01-01"})]
)
def test_a_policy_that_was_changed_after_its_approval_is_refused_until_it_is_approved_again(
    own: Path, file: str, values: dict[str, Any]
) -> None:
    approve(own, "A. Manager")
    change(own / file, **values)
    with pytest.raises(PolicyError, match=r"was changed after A\. Manager approved it"):
        trusted(own)
    assert Policy(own).failures() == []
    assert approve(own, "B. Manager").declared.approved_by == "B. Manager"


def test_a_changed_rule_breaks_the_approval_and_another_layout_of_the_file_does_not(own: Path) -> None:
    approve(own, "A. Manager")
    graph = json.loads((own / "decision.json").read_text())
    (own / "decision.json").write_text(json.dumps(graph, indent=7))
    trusted(own)
    graph["nodes"][0]["name"] += " "
    (own / "decision.json").write_text(json.dumps(graph))
    with pytest.raises(PolicyError, match="was changed after"):
        trusted(own)


def test_a_policy_that_fails_an_example_is_neither_approved_nor_trusted(own: Path) -> None:
    fail_an_example(own)
    for doing in (lambda: approve(own, "A. Manager"), lambda: trusted(own)):
        with pytest.raises(PolicyError, match="limit is 50000, 1 was expected"):
            doing()


def test_a_gateway_goes_on_with_the_last_good_policy_and_takes_the_next_approved_one(own: Path) -> None:
    now = [NOW]
    folder: Any = SimpleNamespace(root=own.parent.parent, coordinator=own.parent.parent / "var")
    made = Decisions(folder, lambda: now[0])
    approve(own, "A. Manager")
    assert made.policy.declared.retries == 1
    change(own / "policy.json", retries=4, version="9")
    now[0] += LOOK_SECONDS
    assert made.policy.declared.retries == 1
    approve(own, "A. Manager")
    now[0] += LOOK_SECONDS
    assert (made.policy.declared.retries, made.policy.declared.version) == (4, "9")


def test_nobody_approves_nothing(own: Path) -> None:
    said = CliRunner().invoke(app, ["policy", "approve", str(own), "--by", " "])
    assert said.exit_code != 0
    assert "approved_digest" not in (own / "policy.json").read_text()
