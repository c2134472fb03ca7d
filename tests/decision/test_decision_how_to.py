"""The commands that the how-to pages name do what they say, in a consortium's folder."""

import json
import re
import shlex
import shutil
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from ftl import registry
from ftl.cli import app
from ftl.consortium import Folder, load
from ftl.decision.policy import SHIPPED
from ftl.federation import Curves, Evaluation, PartManifest, Request, Result, keep_part
from ftl.protocols import Combiner
from ftl.serving import provision_scoring

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
OURS = ("add-a-reason-code", "change-a-rule", "run-an-ab-test")
LONG = ("ftl train DIR",)
"""What other tests run from end to end."""
IDENTIFIERS = {"id_number": "from-page", "phone": "from-page"}


def commands(page: str) -> list[str]:
    """Every command of a page that names a folder, in order; a bare name is only a mention."""
    found = re.findall(r"`(ftl [^`]+)`", (PAGES / f"{page}.md").read_text())
    return [command for command in found if "DIR" in command]


def run(command: str, folder: Folder, code: int = 0) -> str:
    filled = command.replace("DIR", str(folder.root))
    done = CliRunner().invoke(app, shlex.split(filled)[1:])
    assert done.exit_code == code, (command, done.output, done.exception)
    return done.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Two lenders with two registered versions and a policy of their own."""
    root = tmp_path_factory.mktemp("lenders")
    (root / "consortium.yaml").write_text(json.dumps(declared()))
    (root / "data").mkdir()
    (root / "data" / "people.csv").write_text("id_number,phone,amount,bad\n1,2,3,0\n")
    made = load(root)
    for run_id in ("first", "second"):
        tracking = registry.start_run(made, Request(run_id, "transfer_boost", 0))
        registry.register(made, tracking, result(made, run_id))
    provision_scoring(made, datetime.now(UTC))
    shutil.copytree(SHIPPED / "standard", root / "policies" / "2027-01")
    return made


def declared() -> dict[str, object]:
    columns = {name: {"from": name, "type": "string"} for name in IDENTIFIERS}
    columns["amount"] = {"from": "amount", "type": "float64"}
    sources = {"db": {"kind": "csv", "path": "data"}}
    features = {
        "table": "people",
        "columns": ["amount"],
        "reasons": {"amount": {"code": "AMT", "text": "The amount is high"}},
    }
    table = {"source": "db", "table": "people.csv", "columns": columns}
    bad = {**table, "columns": {**columns, "bad": {"from": "bad", "type": "int64"}}}
    plain = {"sources": sources, "features": features}
    bank = {**plain, "role": "active", "tables": {"people": bad}, "label": {"column": "bad"}}
    shop = {**plain, "role": "passive", "tables": {"people": table}}
    return {"version": 1, "name": "lenders", "identifiers": list(IDENTIFIERS), "parties": {"bank": bank, "shop": shop}}


def result(folder: Folder, run_id: str) -> Result:
    manifests = [PartManifest(run_id, "transfer_boost", 0, party, "", ["amount"]) for party in ("bank", "shop")]
    parts = [keep_part(folder.node(one.party), one, b"{}", b"{}") for one in manifests]
    curves = Curves([0.0, 1.0], [0.0, 1.0], [(0.2, 0.2, 100)])
    figures = Evaluation(0.8, 0.4, 0.14, 1.0, 0.0, {"auc": (0.79, 0.81)}, 600, 130, curves)
    return Result(
        run_id=run_id,
        recipe="transfer_boost",
        seed=0,
        aligned={"train": 1000, "test": 600},
        metrics={"active_only": figures, "federated": figures},
        gain={},
        combiner=Combiner([[0.1, -0.2]], parties=["bank", "shop"]),
        parts=parts,
        rows={"bank": 1000, "shop": 1000},
        columns={"bank": 1, "shop": 1},
        settings={},
        seconds={"align": 1.0, "train": 4.0, "evaluate": 0.5},
        bytes_sent={},
        messages={},
    )


@pytest.mark.parametrize("page", OURS)
def test_every_command_of_a_page_ends_well(folder: Folder, page: str) -> None:
    found = commands(page)
    assert found
    for command in found:
        if command in LONG:
            continue
        if command.startswith("ftl rollback"):  # what the page undoes is a promotion
            promoted = run("ftl promote DIR 2 --reason 'it won' --by 'A. Modeller'", folder)
            assert promoted == "credit_risk version 2: challenger, champion\n"
        run(command, folder)


def test_pages_name_no_command_that_does_not_exist() -> None:
    for page in OURS:
        for words in re.findall(r"`ftl ([a-z]+(?: [a-z]+)?)", (PAGES / f"{page}.md").read_text()):
            done = CliRunner().invoke(app, [*words.split(), "--help"])
            assert done.exit_code == 0, words


def test_a_policy_whose_example_fails_ends_with_one_and_says_which(folder: Folder, tmp_path: Path) -> None:
    place = tmp_path / "broken"
    shutil.copytree(SHIPPED / "standard", place)
    rows = json.loads((place / "examples.json").read_text())
    rows[0]["expect"]["limit"] = 1
    (place / "examples.json").write_text(json.dumps(rows))
    said = run(f"ftl policy test DIR --policy {place}", folder, code=1)
    assert f"{rows[0]['name']}: limit is 50000, 1 was expected" in said


def test_an_experiment_is_listed_with_how_it_ended(folder: Folder) -> None:
    run("ftl experiment start DIR autumn --challenger 2=0.1 --mode shadow", folder)
    assert "autumn: version 1 against 2; shadow since" in run("ftl experiment list DIR", folder)
    assert msgspec.json.decode(run("ftl experiment judge DIR autumn --json", folder))["decision"] == "continue"
    run("ftl experiment end DIR autumn --reason withdrawn", folder)
    assert "withdrawn" in run("ftl experiment list DIR", folder)
