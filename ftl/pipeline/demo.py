"""`make demo`: the whole story on real data, through the same services and the same API that a person would use."""

import json
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from ftl import consortium, features, registry
from ftl.consortium import Folder
from ftl.errors import ServiceError
from ftl.pipeline import airflow_home, services
from ftl.pipeline import report as reporting
from ftl.pipeline.airflow_client import AirflowClient
from ftl.pipeline.steps import Steps, Trained
from ftl.pipeline.story import Await, Story
from ftl.serving import client_token_file

SCENARIO = "taiwan"
REPORT = "report.json"
GATEWAY_SECONDS = 60.0
INTERRUPTED = 130


def demo(directory: Path, console: Console) -> None:
    """Tell the story, print its result, and leave the services up.

    Running it again repeats nothing that is done. Ctrl-C stops every service.

    Args:
        directory: the demo's folder; made when absent.
        console: where to write; a terminal shows what is being waited for, anything else gets plain lines.

    Raises:
        FtlError: a step failed; the services stay up to be looked into.
        SystemExit: with 130, after Ctrl-C.
    """
    began, show = time.monotonic(), Display(console)
    with show.step("Data of the scenario"):
        if not (directory / "consortium.yaml").exists():
            consortium.new(directory, SCENARIO)
    folder = consortium.load(directory)
    try:
        with services.term_as_interrupt():
            _tell(folder, show)
    except KeyboardInterrupt:
        console.print("interrupted: stopping the services")
        services.down(folder, console.print)
        raise SystemExit(INTERRUPTED) from None
    console.print(f"took {time.monotonic() - began:.0f} s; `ftl down {directory}` stops the services")


def _tell(folder: Folder, show: "Display") -> None:
    with show.step("Services") as say:
        services.up(folder, [services.FEDERATION, services.MLFLOW, services.AIRFLOW], say)
    address = services.addresses(folder)["airflow"]
    with AirflowClient(address, airflow_home.ADMIN, airflow_home.password(folder)) as airflow:
        run_id = Story(folder, airflow, show.step).tell()
    trained = Steps(folder, lambda: datetime.now(UTC)).trained(run_id)
    document = reporting.report(folder, trained)
    (folder.root / REPORT).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    with show.step("Score servers and gateway") as say:
        services.up(folder, [services.SERVING], say)
    with show.step("Score an applicant of the test people") as say:
        asked, answer = _score(folder, say)
    show.console.print()
    show.console.print(reporting.table(document))
    for name, url, log_in in _pages(folder, trained):
        show.console.print(f"{name:<20}  {url}  ({log_in})", soft_wrap=True)
    show.console.print(f"\n{asked}\n{json.dumps(answer, indent=2, ensure_ascii=False)}\n", soft_wrap=True)
    show.console.print(f"{folder.root / REPORT} holds the report", soft_wrap=True)


class Display:
    """Steps as they pass: a line when one ends, and on a terminal what is being waited for meanwhile.

    Args:
        console: where to write.
    """

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def step(self, title: str) -> Iterator[Await]:
        """One step; what it yields is told what is being waited for.

        Args:
            title: of the step.

        Yields:
            takes a few words.
        """
        began = time.monotonic()

        def elapsed() -> str:
            return f"{time.monotonic() - began:4.0f} s"

        with self._shown(title, elapsed) as say:
            yield say
        self.console.print(f"[green]✓[/green] {title}, {elapsed().strip()}")

    @contextmanager
    def _shown(self, title: str, elapsed: Callable[[], str]) -> Iterator[Await]:
        if self.console.is_terminal:
            with self.console.status(title) as status:
                yield lambda awaited: status.update(f"{title}  [dim]{elapsed()}  waiting for {awaited}[/dim]")
            return
        self.console.print(f"{title} …")
        said = ""

        def say(awaited: str) -> None:
            nonlocal said
            if awaited != said:
                self.console.print(f"  {elapsed()}  {awaited}", highlight=False, markup=False, soft_wrap=True)
            said = awaited

        yield say


def _score(folder: Folder, say: Await) -> tuple[str, Any]:
    """Ask the gateway for one person of the holdout.

    Returns:
        the `curl` line, and the answer.
    """
    url = services.addresses(folder)["gateway"]
    say("the gateway to load the champion")
    deadline = time.monotonic() + GATEWAY_SECONDS
    while not httpx.get(f"{url}/readyz", trust_env=False).is_success:
        if time.monotonic() > deadline:
            raise ServiceError("The gateway found no champion.", cure=f"See {folder.coordinator / 'logs/gateway.log'}.")
        time.sleep(0.5)
    body = json.dumps(_applicant(folder))
    token = client_token_file(folder)
    content = "content-type: application/json"
    asked = (
        f"""curl -s {url}/v1/scores -H "authorization: Bearer $(cat {token})" -H '{content}' -d {shlex.quote(body)}"""
    )
    headers = {"authorization": f"Bearer {token.read_text().strip()}", "content-type": "application/json"}
    answer = httpx.post(f"{url}/v1/scores", content=body, headers=headers, timeout=30, trust_env=False)
    if not answer.is_success:
        raise ServiceError(f"The gateway answered {answer.status_code}: {answer.text[:500]}")
    return asked, answer.json()


def _applicant(folder: Folder) -> dict[str, str]:
    """Identifiers of the first person of the holdout whom every party knows; all of them are simulated."""
    declared, seed = folder.consortium, folder.consortium.training.seed
    own, _ = features.build(folder.node(declared.active), seed)
    others = [set(features.build(folder.node(party), seed)[0].ids) for party in declared.passive]
    held = [False] * len(own.ids) if own.holdout is None else own.holdout
    known = (name for name, test in zip(own.ids, held, strict=True) if test and all(name in ids for ids in others))
    return dict(zip(declared.identifiers, next(known).split("|"), strict=True))


def _pages(folder: Folder, trained: Trained) -> list[tuple[str, str, str]]:
    """What to open: its name, its address, and how to log in."""
    where, model = services.addresses(folder), trained.model
    run = registry.resume_run(folder, trained.result.run_id)
    docs = {party: (folder.node(party).docs / "index.html").resolve().as_uri() for party in folder.consortium.parties}
    return [
        ("Airflow", where["airflow"], f"{airflow_home.ADMIN} / {airflow_home.password(folder)}"),
        ("Consortium page", f"{where['airflow']}/consortium/", "as Airflow"),
        ("MLflow run", f"{where['mlflow']}/#/experiments/{run.experiment_id}/runs/{run.mlflow_run_id}", "no log-in"),
        *(
            [("MLflow model", f"{where['mlflow']}/#/models/{model.name}/versions/{model.version}", "no log-in")]
            if model
            else []
        ),
        *((f"Data Docs, {party}", page, "a file") for party, page in docs.items()),
        ("Gateway", f"{where['gateway']}/docs", f"token in {client_token_file(folder)}"),
    ]
