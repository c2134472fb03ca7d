"""The pipeline as DVC stages, in a copy of the checkout."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".venv", ".git", "var", "__pycache__", ".*_cache", ".hypothesis")


def run(root: Path, *command: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    told = subprocess.run(
        command, cwd=root, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=500, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dvc") / "checkout"
    shutil.copytree(CHECKOUT, root, ignore=LEFT_OUT)
    (root / "dvc.lock").unlink(missing_ok=True)
    run(root, "git", "init", "--quiet")
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("shared: 1000", "shared: 150"))
    run(root, "dvc", "repro")
    return root


@pytest.mark.slow
def test_the_stages_train_a_model_with_metrics_and_plots(copy: Path) -> None:
    metrics = json.loads(run(copy, "dvc", "metrics", "show", "--json"))
    report = metrics[""]["data"]["var/dvc/report.json"]["data"]
    assert report["aligned"] == {"train": 150, "test": 6000}
    assert report["parties"]["bank"]["rows"] == 29_976
    plots = run(copy, "dvc", "plots", "show", "--out", "plots")
    html = Path(plots.strip().removeprefix("file://")).read_text()
    assert "ROC on the holdout" in html
    assert "active_only" in html


@pytest.mark.slow
def test_a_changed_parameter_reruns_only_what_depends_on_it(copy: Path) -> None:
    assert "up to date" in run(copy, "dvc", "status")
    params = copy / "params.yaml"
    params.write_text(params.read_text().replace("max_shared: 24000", "max_shared: 100"))
    changed = json.loads(run(copy, "dvc", "status", "--json"))
    assert set(changed) == {"train"}
