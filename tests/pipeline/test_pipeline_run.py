"""`ftl run` from the command line, over the in-memory channel: the same programs as in a federation."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FTL = (sys.executable, "-m", "ftl.cli")


def ftl(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FTL, *map(str, words)], capture_output=True, text=True, timeout=280, check=False)


def done(*words: str | Path) -> str:
    told = ftl(*words)
    assert told.returncode == 0, told.stderr
    return told.stdout


def report_of(root: Path, *words: str) -> dict[str, Any]:
    done("run", root, "--in-process", "--report", root / "report.json", *words)
    document: dict[str, Any] = json.loads((root / "report.json").read_text())
    return document


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("german") / "three"
    done("new", root, "--scenario", "german", "--set", "parties=3")
    return root


def test_three_parties_with_text_columns_train_and_register_one_model(german: Path) -> None:
    report = report_of(german)
    assert report["recipe"] == "transfer_boost"
    assert set(report["parties"]) == {"bank", "savings", "registry"}
    assert report["parties"]["bank"]["rows"] == 1000
    assert report["aligned"]["train"] + report["aligned"]["test"] == 800
    for model in ("active_only", "federated", "pooled_reference"):
        figures = report["metrics"][model]
        assert 0.6 < figures["auc"] < 0.95
        assert 0.1 < figures["brier"] < 0.25
        assert figures["intervals"]["auc"][0] < figures["auc"] < figures["intervals"]["auc"][1]
    assert report["model"] == {"name": "german_credit", "version": "1", "alias": "champion"}
    assert all(report["bytes_sent"][party] > 0 for party in report["parties"])
    steps = ("collect", "quality", "align", "train", "evaluate")
    assert report["seconds"]["total"] == pytest.approx(sum(report["seconds"][step] for step in steps), abs=0.01)


def test_a_second_run_syncs_nothing_and_registers_the_next_version_with_the_same_figures(german: Path) -> None:
    first = json.loads((german / "report.json").read_text())
    told = ftl("run", german, "--in-process", "--report", german / "again.json")
    assert told.returncode == 0, told.stderr
    assert told.stderr.count("nothing new") == 3
    again = json.loads((german / "again.json").read_text())
    assert again["metrics"] == first["metrics"]
    assert again["model"] == {"name": "german_credit", "version": "2", "alias": "challenger"}


def test_two_parties_without_a_shared_customer_fall_back_to_the_active_one_and_say_so(tmp_path: Path) -> None:
    root = tmp_path / "none"
    done("new", root, "--scenario", "german", "--set", "shared=0")
    report = report_of(root)
    assert report["aligned"]["train"] == 0
    assert report["metrics"]["federated"] == report["metrics"]["active_only"]
    assert any("active party alone" in note or "bank alone" in note for note in report["notes"]), report["notes"]


def test_an_id_that_is_not_unique_is_refused_with_the_count_and_no_value(german: Path, tmp_path: Path) -> None:
    root = shutil.copytree(german, tmp_path / "twice")
    shutil.rmtree(root / "var")
    source = next(iter(sorted((root / "data/bank").glob("*.csv"))))
    lines = source.read_text().splitlines()
    repeated = lines[1]
    source.write_text("\n".join([*lines, repeated]) + "\n")
    told = ftl("run", root, "--in-process")
    assert told.returncode == 1
    assert "bank" in told.stderr
    assert "loans" in told.stderr
    assert "not unique" in told.stderr or "more than once" in told.stderr
    customer = repeated.split(";")[lines[0].split(";").index("KUNDE")].strip('"')
    assert customer not in told.stderr + told.stdout


def test_a_label_with_one_class_is_refused_with_both_classes_named(german: Path, tmp_path: Path) -> None:
    root = shutil.copytree(german, tmp_path / "one_class")
    shutil.rmtree(root / "var")
    path = root / "consortium.yaml"
    path.write_text(path.read_text().replace("positive: bad", "positive: awful"))
    told = ftl("run", root, "--in-process")
    assert told.returncode == 1
    assert "outcome" in told.stderr
    assert "awful" in told.stderr


def test_check_reports_every_problem_of_file_and_sources_at_once(german: Path, tmp_path: Path) -> None:
    root = shutil.copytree(german, tmp_path / "wrong", ignore=shutil.ignore_patterns("var"))
    path = root / "consortium.yaml"
    text = (
        path.read_text()
        .replace("from: KUNDE,", "from: KUNDDE,")
        .replace("from: savings_account_and_bonds", "from: nothing_like")
    )
    path.write_text(text)
    told = ftl("check", root, "--json")
    assert told.returncode == 1
    problems = json.loads(told.stdout)["problems"]
    assert {problem["path"].rsplit(".", 2)[1] for problem in problems} == {"customer", "savings_account"}
    first = next(problem for problem in problems if "KUNDDE" in problem["message"])
    assert first["suggestion"] == "KUNDE"
    assert text.splitlines()[first["line"] - 1].strip().startswith("customer:")


@pytest.mark.parametrize(
    "command",
    ["new", "check", "collect", "quality", "run", "train", "serve", "score", "promote", "up", "down", "status", "demo"],
)
def test_every_command_shows_an_example(command: str) -> None:
    assert "Example: ftl " + command in done(command, "--help")


def test_an_unknown_setting_of_the_recipe_names_the_nearest_one(german: Path) -> None:
    told = ftl("train", german, "--in-process", "--set", "learning_rat=0.1")
    assert told.returncode == 1
    assert "learning_rate" in told.stderr
