"""Runs on numbers and classes, with answers of one party alone, and runs that leave a report and no model."""

import json
from pathlib import Path

import msgspec
import pytest
from mlflow.artifacts import download_artifacts

from ftl import registry
from ftl.consortium import Consortium, Folder
from ftl.errors import RegistryError
from ftl.federation import ClassEvaluation, Curves, Evaluation, NumberEvaluation, Request, Result
from ftl.pipeline.report import report, table, write_curves
from ftl.pipeline.steps import Trained
from ftl.protocols import Combiner
from ftl.registry import store


def two_lenders() -> Consortium:
    column = {"from": "x", "type": "float64"}
    party = {"sources": {"db": {"kind": "sqlite", "path": "x.db"}}, "features": {"table": "people", "columns": ["x"]}}
    columns = {"person": {"from": "id", "type": "string"}, "x": column, "y": column}
    table = {"people": {"source": "db", "table": "people", "columns": columns}}
    active = {**party, "role": "active", "tables": table, "label": {"column": "y", "kind": "number"}}
    parties = {"bank": active, "partner": {**party, "role": "passive", "tables": table}}
    return Consortium.model_validate({"version": 1, "name": "lenders", "identifiers": ["person"], "parties": parties})


NUMBER = NumberEvaluation(
    12.5, 9.0, 0.6, {"rmse": (12.0, 13.0), "mae": (8.5, 9.5), "r2": (0.5, 0.7)}, 600, [(1, 2, 600)]
)
CLASSES = ClassEvaluation(
    0.7, 0.6, 0.8, {"accuracy": (0.6, 0.8), "log_loss": (0.5, 0.7), "auc": (0.7, 0.9)}, 9, {"a": 9}
)
CURVES = Curves([0.0, 1.0], [0.0, 1.0], [(0.2, 0.2, 600)])
BINARY = Evaluation(
    0.74, 0.4, 0.14, 1.0, 0.0, {"auc": (0.7, 0.8), "ks": (0.3, 0.5), "brier": (0.1, 0.2)}, 600, 130, CURVES
)


def finished(root: Path, run_id: str, **changes: object) -> tuple[Folder, Result, dict[str, float]]:
    folder = Folder(root, two_lenders())
    plain = Result(
        run_id=run_id,
        recipe="some",
        seed=0,
        aligned={"train": 10, "test": 600},
        metrics={"federated": NUMBER},
        gain={},
        combiner=Combiner([], link="identity"),
        parts=[],
        rows={"bank": 20, "partner": 20},
        columns={"bank": 1, "partner": 1},
        settings={},
        seconds={"align": 1.0, "train": 4.0, "evaluate": 0.5},
        bytes_sent={"bank": 1, "partner": 2},
        messages={"bank": 1, "partner": 1},
    )
    result = msgspec.structs.replace(plain, **changes)
    tracking = registry.start_run(folder, Request(run_id, "some", 0))
    tracking.finish(result)
    run = store.client(tracking.uri).get_run(tracking.mlflow_run_id)
    assert run.info.status == "FINISHED"
    return folder, result, run.data.metrics


def test_figures_of_every_kind_of_label_are_logged_under_their_names(tmp_path: Path) -> None:
    _, _, logged = finished(tmp_path, "number", gain={"rmse": (-1.0, -2.0, -0.5)})
    assert (logged["federated.rmse"], logged["federated.r2.low"], logged["gain.rmse.high"]) == (12.5, 0.5, -0.5)
    _, _, logged = finished(tmp_path, "classes", metrics={"federated": CLASSES})
    assert (logged["federated.accuracy"], logged["federated.log_loss"]) == (0.7, 0.6)
    assert "federated.people" not in logged


def test_a_party_that_answers_alone_has_figures_plots_and_a_line_in_the_report(tmp_path: Path) -> None:
    metrics = {"federated": BINARY, "alone:partner": BINARY}
    folder, result, logged = finished(tmp_path, "alone", metrics=metrics)
    assert logged["alone:partner.auc"] == 0.74
    tracking = registry.resume_run(folder, "alone")
    assert {file.path for file in store.client(tracking.uri).list_artifacts(tracking.mlflow_run_id, "plots")} == {
        f"plots/{name}.png" for name in ("roc", "ks", "calibration", "gain")
    }
    document = report(folder, Trained(result, None, registry.ModelVersion("m", "1", ["challenger"]), 1.0))
    assert document["metrics"]["alone:partner"]["auc"] == 0.74
    assert document["model"] == {"name": "m", "version": "1", "alias": "challenger"}
    assert list(table(document).columns[0].cells) == ["federated", "partner alone"]
    (folder.run("alone")).mkdir(parents=True)
    (folder.run("alone") / "progress.jsonl").touch()
    write_curves(folder, Trained(result, None, None, 1.0), tmp_path / "curves")
    assert "alone:partner,0.0,0.0" in (tmp_path / "curves" / "roc.csv").read_text()


def test_a_run_without_a_model_has_its_report_and_cannot_be_registered(tmp_path: Path) -> None:
    found = {"columns": [{"name": "x", "information_value": 0.3}]}
    folder, result, _ = finished(tmp_path, "report", metrics={}, combiner=None, report=found)
    tracking = registry.resume_run(folder, "report")
    uri = f"runs:/{tracking.mlflow_run_id}/report.json"
    path = download_artifacts(uri, dst_path=str(tmp_path), tracking_uri=tracking.uri)
    assert json.loads(Path(path).read_text()) == found
    with pytest.raises(RegistryError, match="Run report left a report and no model"):
        registry.register(folder, tracking, result)
    document = report(folder, Trained(result, None, None, 1.0))
    assert (document["report"], document["model"], document["metrics"]) == (found, None, {"pooled_reference": None})
    assert not list(table(document).columns[0].cells)


def test_the_model_of_a_number_is_described_by_its_own_figures(tmp_path: Path) -> None:
    folder, result, _ = finished(tmp_path, "described", metrics={"federated": NUMBER})
    version = registry.register(folder, registry.resume_run(folder, "described"), result)
    client = store.client(store.tracking_uri(folder))
    text = client.get_model_version(version.name, version.version).description
    assert "| model | RMSE | MAE | R² |\n| --- | --- | --- | --- |\n| federated | 12.5000 | 9.0000 | 0.6000 |" in text
