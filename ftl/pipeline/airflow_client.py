"""Airflow through its REST API, the way its own pages use it: start a DAG run, follow it, read what went wrong."""

import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from ftl.errors import ServiceError

REQUEST_SECONDS = 30.0
POLL_SECONDS = 1.0
LOG_LINES = 25
SERVER_ERROR_ATTEMPTS = 60
ENDED = frozenset({"success", "failed"})
"""States in which a DAG run stays."""
FAILED = frozenset({"failed", "upstream_failed"})

Clock = Callable[[], float]


class Run(msgspec.Struct, frozen=True, rename={"id": "dag_run_id", "dag": "dag_id"}):
    """One run of a DAG."""

    dag: str
    id: str
    state: str
    start_date: str | None = None
    end_date: str | None = None


class TaskState(msgspec.Struct, frozen=True, rename={"task": "task_id", "dag": "dag_id", "run": "dag_run_id"}):
    """One task instance of a run; `map_index` is -1 where the task is not mapped."""

    dag: str
    run: str
    task: str
    map_index: int
    try_number: int
    state: str | None = None


class Event(msgspec.Struct, frozen=True):
    """News of an asset, and the runs that it started."""

    uri: str
    extra: dict[str, Any]
    created_dagruns: list[dict[str, Any]]

    def runs_of(self, dag: str) -> list[str]:
        """Ids of the runs of `dag` that it started."""
        return [str(run["run_id"]) for run in self.created_dagruns if run["dag_id"] == dag]


class RunFailed(ServiceError):
    """A DAG run ended in failure; the message holds the end of the failed task's log."""


class AirflowClient:
    """A session with Airflow's API.

    Args:
        url: for example ``http://127.0.0.1:8080``.
        user: who asks.
        password: of that user.
        sleep: waits between two looks.
        clock: seconds that only grow.

    Raises:
        ServiceError: Airflow does not answer, or refuses the password.
    """

    def __init__(
        self,
        url: str,
        user: str,
        password: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Clock = time.monotonic,
    ) -> None:
        self.url = url
        self._sleep, self._clock = sleep, clock
        self._http = httpx.Client(base_url=url, timeout=REQUEST_SECONDS, trust_env=False)
        token = self._ask("POST", "/auth/token", {"username": user, "password": password})["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def await_dags(self, wanted: set[str], timeout: float) -> None:
        """Wait until Airflow has read all of `wanted`.

        Raises:
            ServiceError: one could not be read, with Airflow's reason, or they did not appear in time.
        """
        deadline = self._clock() + timeout
        while True:
            there = {str(dag["dag_id"]) for dag in self._ask("GET", "/api/v2/dags")["dags"]}
            if wanted <= there:
                return
            errors = self._ask("GET", "/api/v2/importErrors")["import_errors"]
            if errors:
                reasons = "\n".join(f"{error['filename']}:\n{error['stack_trace']}" for error in errors)
                raise ServiceError(f"Airflow cannot read its DAGs.\n{reasons}", cure="Correct the file it names.")
            if self._clock() > deadline:
                missing = ", ".join(sorted(wanted - there))
                raise ServiceError(f"Airflow did not find {missing} within {timeout:.0f} s.", cure="See `ftl status`.")
            self._sleep(POLL_SECONDS)

    def pause(self, dag: str, *, paused: bool) -> None:
        """Pause a DAG, or let it go on. News of an asset do not start a paused DAG, neither now nor later."""
        self._ask("PATCH", f"/api/v2/dags/{dag}", {"is_paused": paused})

    def trigger(self, dag: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run with the values of the trigger form.

        Returns:
            its id.
        """
        body = {"logical_date": None, "conf": dict(conf or {})}
        return str(self._ask("POST", f"/api/v2/dags/{dag}/dagRuns", body)["dag_run_id"])

    def run(self, dag: str, run_id: str) -> Run:
        """One run as it stands."""
        return msgspec.convert(self._ask("GET", f"/api/v2/dags/{dag}/dagRuns/{_quoted(run_id)}"), Run)

    def runs(self, dag: str, state: str | None = None) -> list[Run]:
        """Runs of a DAG, newest first, at most 50."""
        query = "?order_by=-run_after&limit=50" + (f"&state={state}" if state else "")
        return msgspec.convert(self._ask("GET", f"/api/v2/dags/{dag}/dagRuns{query}")["dag_runs"], list[Run])

    def tasks(self, dag: str, run_id: str) -> list[TaskState]:
        """The task instances of a run."""
        answer = self._ask("GET", f"/api/v2/dags/{dag}/dagRuns/{_quoted(run_id)}/taskInstances")
        return msgspec.convert(answer["task_instances"], list[TaskState])

    def follow(self, dag: str, run_id: str, timeout: float) -> Iterator[list[TaskState]]:
        """Yield the task instances again and again until the run has ended well.

        Raises:
            RunFailed: it failed; with the end of the first failed task's log.
            ServiceError: it took longer than `timeout` seconds.
        """
        deadline = self._clock() + timeout
        while (state := self.run(dag, run_id).state) not in ENDED:
            yield self.tasks(dag, run_id)
            if self._clock() > deadline:
                where = f"{self.url}/dags/{dag}/runs/{run_id}"
                raise ServiceError(f"{dag} did not end within {timeout:.0f} s.", cure=f"Look at {where}.")
            self._sleep(POLL_SECONDS)
        tasks = self.tasks(dag, run_id)
        yield tasks
        if state == "failed":
            raise self._failure(dag, run_id, tasks)

    def events(self, dag: str, run_id: str) -> list[Event]:
        """News of assets that a run announced."""
        query = f"source_dag_id={dag}&source_run_id={_quoted(run_id)}&limit=100"
        found = self._ask("GET", f"/api/v2/assets/events?{query}")["asset_events"]
        return msgspec.convert(found, list[Event])

    def result(self, task: TaskState) -> Any:
        """What a task returned."""
        path = f"/api/v2/dags/{task.dag}/dagRuns/{_quoted(task.run)}/taskInstances/{task.task}/xcomEntries/return_value"
        return self._ask("GET", f"{path}?map_index={task.map_index}&deserialize=true")["value"]

    def log(self, task: TaskState) -> list[str]:
        """The log of a task's latest try, one line per event."""
        path = f"/api/v2/dags/{task.dag}/dagRuns/{_quoted(task.run)}/taskInstances/{task.task}/logs/{task.try_number}"
        content = self._ask("GET", f"{path}?map_index={task.map_index}&full_content=true")["content"]
        return [_line(event) for event in content]

    def respond(self, task: TaskState, option: str) -> None:
        """Answer a task that waits for a person, for example ``Approve``."""
        run = _quoted(task.run)
        path = f"/api/v2/dags/{task.dag}/dagRuns/{run}/taskInstances/{task.task}/{task.map_index}/hitlDetails"
        self._ask("PATCH", path, {"chosen_options": [option], "params_input": {}})

    def _failure(self, dag: str, run_id: str, tasks: list[TaskState]) -> RunFailed:
        failed = [task for task in tasks if task.state == "failed"]
        where = f"{self.url}/dags/{dag}/runs/{run_id}"
        if not failed:
            return RunFailed(f"{dag} failed without a failed task.", cure=f"Look at {where}.")
        end = "\n".join(f"  | {line}" for line in self.log(failed[0])[-LOG_LINES:])
        return RunFailed(f"Task {failed[0].task} of {dag} failed.\n{end}", cure=f"The whole log is at {where}.")

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        answer = self._send(method, path, body)
        # Airflow 3.3 fails to list the runs that an asset's news have started while one of them is still queued: it has
        # no start date yet. A question may be asked again; an order may not.
        attempts = SERVER_ERROR_ATTEMPTS if method == "GET" else 0
        while answer.status_code >= 500 and attempts:
            self._sleep(POLL_SECONDS)
            answer, attempts = self._send(method, path, body), attempts - 1
        if not answer.is_success:
            detail = answer.text[:500]
            raise ServiceError(f"Airflow refused {method} {path}: {answer.status_code} {detail}")
        return answer.json()

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response:
        try:
            return self._http.request(method, path, json=body, headers={"Accept": "application/json"})
        except httpx.HTTPError as exc:
            kind = type(exc).__name__
            raise ServiceError(f"Airflow at {self.url} does not answer ({kind}).", cure="See `ftl status`.") from exc


def _quoted(run_id: str) -> str:
    from urllib.parse import quote

    return quote(run_id, safe="")


def _line(event: Any) -> str:
    """One event of a structured log as a line of text, with its exception where it has one."""
    if isinstance(event, str):
        return event
    text = str(event.get("event", ""))
    for error in event.get("error_detail") or ():
        text += f"\n{error.get('exc_type')}: {error.get('exc_value')}"
    return text
