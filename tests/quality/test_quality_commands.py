import json
from typing import Any

from collect_bank import customer
from quality_checked import Checked
from ruamel.yaml import YAML
from typer.testing import CliRunner

from ftl.cli import app


def written(checked: Checked, columns: dict[str, Any]) -> str:
    """The consortium as a file, with a second party that the file must have."""
    values = checked.node.consortium.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    bank = values["parties"]["bank"]
    for name, changes in columns.items():
        bank["tables"]["customers"]["columns"][name] |= changes
    values["parties"]["shop"] = {key: value for key, value in bank.items() if key not in {"label", "home"}}
    values["parties"]["shop"] |= {"role": "passive"}
    YAML().dump(json.loads(json.dumps(values)), checked.node.root / "consortium.yaml")
    return str(checked.node.root)


def ran(*words: str) -> Any:
    done = CliRunner().invoke(app, [*words, "--party", "bank", "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


def test_quality_and_quarantine_are_commands_and_groups_of_commands(checked: Checked) -> None:
    checked.bank.write([customer(1), customer(2, SCORE="?"), customer(3)])
    folder = written(checked, {})
    ran("collect", folder)
    (report,) = ran("quality", folder)
    assert (report["passed"], report["quarantined"]) == (2, 1)
    reason = {"table": "customers", "stage": "collect", "reason": "score: cannot be read as int64", "rows": 1}
    assert ran("quarantine", folder) == ran("quarantine", "list", folder) == [reason]
    written(checked, {"score": {"missing": ["-1", "?"]}})
    (replayed,) = ran("quarantine", "replay", folder)
    assert (replayed["landed"], replayed["refused"]) == (1, 0)
    assert ran("quality", "check", folder)[0]["passed"] == 3
    assert ran("quarantine", folder) == []
    (learned,) = ran("quality", "learn", folder)
    assert (learned["suite"], learned["rows"]) == ("expectations/bank_customers_learned.py", 3)
