"""The report of a run: one JSON object, the same for `ftl run`, DVC and the demo. Described in docs/report.md."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from ftl import quality
from ftl.consortium import Folder
from ftl.federation import Evaluated, Evaluation, Progress
from ftl.pipeline.journal import since_last_training
from ftl.pipeline.steps import Trained
from ftl.registry import ModelVersion
from ftl.registry.registration import TITLES


def report(folder: Folder, trained: Trained) -> dict[str, Any]:
    """Put the report together from what the steps left behind.

    Args:
        folder: the consortium.
        trained: the finished run.

    Returns:
        plain JSON types only.
    """
    result = trained.result
    led = since_last_training(folder, result.run_id)
    seconds = {step: sum(entry.seconds for entry in led if entry.step == step) for step in ("collect", "quality")}
    seconds |= {name: result.seconds[name] for name in ("align", "train")}
    seconds["evaluate"] = result.seconds["evaluate"] + trained.seconds
    seconds["total"] = sum(seconds.values())
    return {
        "recipe": result.recipe,
        "seed": result.seed,
        "run_id": result.run_id,
        "parties": {
            name: {
                "rows": result.rows[name],
                "columns": result.columns[name],
                "quarantined": _quarantined(folder, name),
            }
            for name in result.rows
        },
        "aligned": result.aligned,
        "metrics": {
            **{name: _figures(one) for name, one in result.metrics.items()},
            "pooled_reference": _figures(trained.pooled) if trained.pooled else None,
        },
        "gain": {name: {"value": v, "low": low, "high": high} for name, (v, low, high) in result.gain.items()},
        "settings": result.settings,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "bytes_sent": result.bytes_sent,
        "messages": result.messages,
        "model": _model(trained.model),
        "notes": [*result.notes, *([folder.consortium.simulation.notice] if folder.consortium.simulation else [])],
        **({} if result.report is None else {"report": result.report}),
    }


def _quarantined(folder: Folder, party: str) -> int:
    node = folder.node(party)
    return sum(quality.quarantined(node, table).num_rows for table in node.party.tables)


def _figures(evaluation: Evaluated) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(evaluation)
    plain.pop("curves", None)
    return plain


def _model(model: ModelVersion | None) -> dict[str, str] | None:
    """The registered version and the strongest alias it carries."""
    if model is None:
        return None
    alias = "champion" if "champion" in model.aliases else next(iter(model.aliases), "")
    return {"name": model.name, "version": model.version, "alias": alias}


def table(document: dict[str, Any]) -> Table:
    """The figures of a report for the terminal: one row per model, one column per metric with its interval."""
    titles = {"active_only": "active party only", "federated": "federated", "pooled_reference": "pooled reference"}
    found = {key: figures for key, figures in document["metrics"].items() if figures}
    metrics = [*next(iter(found.values()), {"intervals": ()})["intervals"]]
    shown = Table(title=f"{document['recipe']}, {document['aligned']['train']} shared training customers")
    shown.add_column("on the holdout")
    for name in metrics:
        shown.add_column(TITLES.get(name, name), justify="right")
    for key, figures in found.items():
        title = titles.get(key) or f"{key.removeprefix('alone:')} alone"
        shown.add_row(title, *(_with_interval(figures, name) for name in metrics))
    return shown


def _with_interval(figures: dict[str, Any], name: str) -> str:
    low, high = figures["intervals"][name]
    return f"{figures[name]:.4f} ({low:.3f} to {high:.3f})"


def write_curves(folder: Folder, trained: Trained, directory: Path) -> None:
    """Write roc.csv, calibration.csv and rounds.csv, one line per point, for plotting by DVC or a spreadsheet."""
    directory.mkdir(parents=True, exist_ok=True)
    models = dict(trained.result.metrics) | ({"pooled_reference": trained.pooled} if trained.pooled else {})
    curves = {name: one.curves for name, one in models.items() if isinstance(one, Evaluation)}
    roc = (
        (n, x, y) for n, c in curves.items() for x, y in zip(c.false_positive_rate, c.true_positive_rate, strict=True)
    )
    _write(directory / "roc.csv", ("model", "false_positive_rate", "true_positive_rate"), roc)
    calibration = ((n, *point) for n, c in curves.items() for point in c.calibration)
    _write(directory / "calibration.csv", ("model", "predicted", "observed", "people"), calibration)
    _write(directory / "rounds.csv", ("round", "validation_auc"), _rounds(folder, trained.result.run_id))


def _rounds(folder: Folder, run_id: str) -> Iterable[tuple[int, float]]:
    for line in (folder.run(run_id) / "progress.jsonl").read_bytes().splitlines():
        step = msgspec.json.decode(line, type=Progress).step
        if "validation_auc" in step.metrics:
            yield step.round, step.metrics["validation_auc"]


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
