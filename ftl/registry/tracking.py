"""One MLflow run per federated run, filled while it trains."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ftl.consortium import Folder
from ftl.errors import RegistryError
from ftl.federation import Evaluated, Progress, Request, Result
from ftl.registry import store
from ftl.registry.plots import figures

RUN_TAG = "ftl.run_id"
"""Ties the MLflow run and the model version to the federated run; a retried caller finds them by it."""


@dataclass(frozen=True)
class Tracking:
    """An open MLflow run.

    Attributes:
        uri: of the store.
        run_id: of the federated run.
        mlflow_run_id: MLflow's own.
        experiment_id: MLflow's; one experiment per consortium.
        start: milliseconds since 1970, when the MLflow run began.
    """

    uri: str
    run_id: str
    mlflow_run_id: str
    experiment_id: str
    start: int

    def progress(self, progress: Progress) -> None:
        """Log one report as metrics ``party.phase.name`` at its round.

        A report that is logged again is the same row to MLflow: its time follows from the report, not from the clock.

        Args:
            progress: as the engine yields it.

        Raises:
            RegistryUnavailable: MLflow does not answer.
        """
        from mlflow.entities import Metric

        step = progress.step
        at = self.start + int(progress.elapsed * 1000)
        figures_now = dict(step.metrics) | ({"rounds": float(step.round)} if step.round else {})
        metrics = [
            Metric(f"{progress.party}.{step.phase}.{name}", value, at, step.round)
            for name, value in figures_now.items()
        ]
        if metrics:
            with store.asking("logging a round", self.uri):
                store.client(self.uri).log_batch(self.mlflow_run_id, metrics=metrics)

    def finish(
        self, result: Result, pooled: Evaluated | None = None, seconds: Mapping[str, float] | None = None
    ) -> None:
        """Log settings, metrics, plots and the whole result, and close the run. Doing it again changes nothing.

        Args:
            result: what the federation said.
            pooled: the reference over all data, where one may be computed.
            seconds: of steps outside the federation, by name.

        Raises:
            RegistryUnavailable: MLflow does not answer.
        """
        from mlflow.entities import Metric, Param, RunTag

        evaluations = {**result.metrics, **({"pooled_reference": pooled} if pooled else {})}
        at = self.start + int(sum(result.seconds.values()) * 1000)
        metrics = [Metric(name, value, at, 0) for name, value in _metrics(result, evaluations, seconds or {}).items()]
        params = [Param(name, str(value)) for name, value in _params(result).items()]
        tags = [RunTag("ftl.finished", "true"), *(RunTag(f"ftl.note.{i}", n) for i, n in enumerate(result.notes))]
        with store.asking("logging the result", self.uri):
            client = store.client(self.uri)
            client.log_batch(self.mlflow_run_id, metrics=metrics, params=params, tags=tags)
            for name, figure in figures(evaluations).items():
                client.log_figure(self.mlflow_run_id, figure, name)
            text = msgspec.json.format(msgspec.json.encode(result), indent=1).decode()
            client.log_text(self.mlflow_run_id, text, "result.json")
            if result.report is not None:
                client.log_dict(self.mlflow_run_id, result.report, "report.json")
            client.set_terminated(self.mlflow_run_id, "FINISHED")

    def keep(self, path: Path, folder: str) -> None:
        """Log a file.

        Args:
            path: the file.
            folder: of the run's artefacts.

        Raises:
            RegistryUnavailable: MLflow does not answer.
        """
        with store.asking("logging a file", self.uri):
            store.client(self.uri).log_artifact(self.mlflow_run_id, str(path), folder)

    def fail(self, reason: str) -> None:
        """Close the run as failed.

        Args:
            reason: one sentence, shown as a tag.

        Raises:
            RegistryUnavailable: MLflow does not answer.
        """
        with store.asking("closing a failed run", self.uri):
            client = store.client(self.uri)
            client.set_tag(self.mlflow_run_id, "ftl.failed", reason)
            client.set_terminated(self.mlflow_run_id, "FAILED")


def start_run(folder: Folder, request: Request) -> Tracking:
    """Open the MLflow run of a request, or find the one that was opened for it before.

    Args:
        folder: the consortium.
        request: what is about to be trained.

    Returns:
        where to log.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    uri = store.tracking_uri(folder)
    with store.asking(f"opening run {request.run_id}", uri):
        client = store.client(uri)
        experiment = _experiment(client, folder)
        found = _find(client, experiment, request.run_id)
        run = found or client.create_run(experiment, run_name=request.run_id, tags=_tags(folder, request))
        return Tracking(uri, request.run_id, run.info.run_id, experiment, run.info.start_time)


def resume_run(folder: Folder, run_id: str) -> Tracking:
    """The tracking of a run that :func:`start_run` opened.

    Args:
        folder: the consortium.
        run_id: of the federated run.

    Returns:
        where to log.

    Raises:
        RegistryError: no such run was opened.
        RegistryUnavailable: MLflow does not answer.
    """
    uri = store.tracking_uri(folder)
    with store.asking(f"looking for run {run_id}", uri):
        client = store.client(uri)
        experiment = _experiment(client, folder)
        run = _find(client, experiment, run_id)
    if run is None:
        raise RegistryError(f"MLflow at {uri} has no run {run_id!r}.", cure="Submit the run first.")
    return Tracking(uri, run_id, run.info.run_id, experiment, run.info.start_time)


def _experiment(client: Any, folder: Folder) -> str:
    """Id of the consortium's experiment.

    Its artifacts are given a place on the coordinator's own disk, so that they can be read with and without a server.
    """
    name = folder.consortium.name
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    return str(client.create_experiment(name, artifact_location=store.artifacts(folder)))


def _find(client: Any, experiment: str, run_id: str) -> Any:
    runs = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{run_id}'", max_results=1)
    return runs[0] if runs else None


def _tags(folder: Folder, request: Request) -> dict[str, str]:
    simulation = folder.consortium.simulation
    return {
        RUN_TAG: request.run_id,
        "ftl.recipe": request.recipe,
        "ftl.parties": ", ".join(folder.consortium.parties),
        **({"mlflow.note.content": simulation.notice} if simulation else {}),
    }


def _params(result: Result) -> dict[str, Any]:
    chosen = {f"settings.{name}": value for name, value in result.settings.items()}
    return {"recipe": result.recipe, "seed": result.seed, **chosen}


def _metrics(result: Result, evaluations: Mapping[str, Evaluated], seconds: Mapping[str, float]) -> dict[str, float]:
    """Every figure under a dotted name: ``federated.auc``, ``gain.auc.low``, ``seconds.train``."""
    found: dict[str, float] = {}
    for model, one in evaluations.items():
        found |= {f"{model}.{name}": value for name, value in one.figures.items()}
        for name, (low, high) in one.intervals.items():
            found |= {f"{model}.{name}.low": low, f"{model}.{name}.high": high}
    for name, (value, low, high) in result.gain.items():
        found |= {f"gain.{name}": value, f"gain.{name}.low": low, f"gain.{name}.high": high}
    groups: dict[str, Mapping[str, float]] = {
        "aligned": result.aligned,
        "rows": result.rows,
        "columns": result.columns,
        "bytes_sent": result.bytes_sent,
        "messages": result.messages,
        "seconds": {**result.seconds, **seconds},
    }
    return found | {f"{group}.{name}": float(value) for group, its in groups.items() for name, value in its.items()}
