"""The demo's story through Airflow's API, as a person would click it: sync, gate, let time pass, sync again, train.

Every part is done once. A story that was broken off goes on where it stood: a run that is under way is followed, one
that has succeeded is not repeated.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from ftl import consortium
from ftl.consortium import Folder
from ftl.errors import ServiceError
from ftl.pipeline.airflow_client import ENDED, AirflowClient, Run, TaskState

DAGS = {"collect_full", "collect_incremental", "check_quality", "train_federated", "promote_model"}
DAGS_SECONDS = 180.0
SYNC_SECONDS = 600.0
TRAIN_SECONDS = 1800.0
STARTED_SECONDS = 60.0
"""Airflow starts what news of an asset start sooner."""

Await = Callable[[str], None]
Step = Callable[[str], AbstractContextManager[Await]]
"""Opens a step of the display under its title; what it gives is told what is being waited for."""


@dataclass
class Story:
    """What the demo does through Airflow.

    Args:
        folder: the consortium.
        airflow: a session with its API.
        step: shows a step while it is under way.
        sleep: waits between two looks.
    """

    folder: Folder
    airflow: AirflowClient
    step: Step
    sleep: Callable[[float], None] = field(default=time.sleep)

    def tell(self) -> str:
        """Do whatever has not been done.

        Returns:
            the id of the training run.

        Raises:
            RunFailed: a DAG run failed.
        """
        with self.step("Airflow reads its DAGs") as say:
            say("the DAG processor")
            self.airflow.await_dags(DAGS, DAGS_SECONDS)
        trained = self._succeeded("train_federated")
        # Its first training is started by hand below, with a form; afterwards news from all parties start it.
        self.airflow.pause("train_federated", paused=trained is None)
        if trained is None:
            self._bring_data()
            self.airflow.pause("train_federated", paused=False)
        if trained is None:
            trained = self._do("train_federated", "Train", TRAIN_SECONDS)
        return self._run_id(trained)

    def _bring_data(self) -> None:
        if self._succeeded("collect_full") is None:
            self._check(self._do("collect_full", "Full sync", SYNC_SECONDS), "Quality gate")
        else:
            # Broken off somewhere after the first sync: what has landed may not have been gated.
            self._do("check_quality", "Quality gate", SYNC_SECONDS)
        with self.step("Time passes at the sources") as say:
            say("the scenario")
            consortium.advance(self.folder.root)
        # Not one that is under way, started by its schedule: it may have read the sources before.
        synced = self._do("collect_incremental", "Incremental sync", SYNC_SECONDS, anew=True)
        self._check(synced, "Quality gate of what is new")

    def _do(self, dag: str, title: str, timeout: float, *, anew: bool = False) -> Run:
        """Trigger a DAG, or unless `anew` find the run of it that is under way, and follow it to its good end."""
        with self.step(title) as say:
            under_way = [] if anew else self._under_way(dag)
            run_id = under_way[0].id if under_way else self.airflow.trigger(dag)
            self._follow(dag, run_id, timeout, say)
            return self.airflow.run(dag, run_id)

    def _check(self, synced: Run, title: str) -> None:
        """Follow the quality checks that the news of a sync have started."""
        with self.step(title) as say:
            say("Airflow to start check_quality")
            started = self._started(synced, "check_quality")
            # Those of a sync that was started by its schedule meanwhile count too.
            for run_id in dict.fromkeys([*started, *(run.id for run in self._under_way("check_quality"))]):
                self._follow("check_quality", run_id, SYNC_SECONDS, say)

    def _started(self, run: Run, dag: str) -> list[str]:
        deadline = time.monotonic() + STARTED_SECONDS
        while True:
            events = self.airflow.events(run.dag, run.id)
            started = [event.runs_of(dag) for event in events]
            if all(started):
                return sorted({run_id for runs in started for run_id in runs})
            if time.monotonic() > deadline:
                waiting = ", ".join(event.uri for event, runs in zip(events, started, strict=True) if not runs)
                raise ServiceError(f"Airflow started no {dag} for {waiting}.", cure="Is the DAG paused?")
            self.sleep(0.5)

    def _follow(self, dag: str, run_id: str, timeout: float, say: Await) -> None:
        for tasks in self.airflow.follow(dag, run_id, timeout):
            say(awaited(tasks) + self._last_round(tasks))

    def _last_round(self, tasks: Iterable[TaskState]) -> str:
        """What a training task that has stepped aside said last in its log."""
        waiting = [task for task in tasks if task.dag == "train_federated" and task.state == "deferred"]
        if not waiting:
            return ""
        self.sleep(1.0)
        lines = self.airflow.log(waiting[0])
        return f": {lines[-1]}" if lines else ""

    def _under_way(self, dag: str) -> list[Run]:
        return [run for run in self.airflow.runs(dag) if run.state not in ENDED]

    def _succeeded(self, dag: str) -> Run | None:
        return next(iter(self.airflow.runs(dag, "success")), None)

    def _run_id(self, trained: Run) -> str:
        tasks = self.airflow.tasks(trained.dag, trained.id)
        return str(self.airflow.result(next(task for task in tasks if task.task == "train")))


def awaited(tasks: Iterable[TaskState]) -> str:
    """What a run waits for, in words: ``collect_bank (running), collect_partner (queued)``."""
    open_ones = [task for task in tasks if task.state not in {"success", "skipped", "failed", "upstream_failed"}]
    now = [f"{task.task} ({task.state})" for task in open_ones if task.state not in {None, "none", "removed"}]
    return ", ".join(now) or ("the scheduler" if open_ones else "the last task")
