"""The demo path with every service up: Airflow's REST API, NVFlare's processes, MLflow, score servers and gateway."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import httpx
import psutil
import pytest
from rich.console import Console

from ftl import consortium, registry
from ftl.pipeline import airflow_home, services
from ftl.pipeline.airflow_client import AirflowClient
from ftl.pipeline.demo import demo
from ftl.pipeline.supervisor import MARK
from ftl.serving import client_token_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ROUNDS = 2
PATIENCE = 600


def processes_of(root) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(f"{root}:"):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    directory = tmp_path_factory.mktemp("demo").resolve()
    yield directory
    if (directory / "consortium.yaml").exists():
        services.down(consortium.load(directory), lambda _: None)
    assert processes_of(directory) == []


@pytest.fixture(scope="module")
def told(root):
    """The demo, told once: what it printed."""
    output = io.StringIO()
    demo(root, Console(file=output, width=200, highlight=False))
    return output.getvalue()


@pytest.fixture(scope="module")
def folder(root, told):
    return consortium.load(root)


@pytest.fixture(scope="module")
def airflow(folder):
    url = services.addresses(folder)["airflow"]
    with AirflowClient(url, airflow_home.ADMIN, airflow_home.password(folder)) as client:
        yield client


def runs(airflow) -> dict[str, int]:
    """How many runs somebody or something started; those of the hourly schedule do not count."""
    dags = ("collect_full", "collect_incremental", "check_quality")
    return {dag: sum(not run.id.startswith("scheduled__") for run in airflow.runs(dag)) for dag in dags}


def score(folder, applicant):
    url = services.addresses(folder)["gateway"]
    headers = {"authorization": f"Bearer {client_token_file(folder).read_text().strip()}"}
    return httpx.post(f"{url}/v1/scores", json=applicant, headers=headers, timeout=30).json()


def applicant_in(told: str) -> dict[str, str]:
    line = next(line for line in told.splitlines() if line.startswith("curl "))
    return json.loads(line.split(" -d ")[1].strip("'"))


def test_the_demo_reaches_its_figures_and_writes_its_report(root, told):
    report = json.loads((root / "report.json").read_text())
    figures = report["metrics"]
    assert figures["federated"]["auc"] > figures["active_only"]["auc"] + 0.02
    assert figures["pooled_reference"]["auc"] > figures["federated"]["auc"]
    assert figures["federated"]["auc"] > 0.765
    assert report["aligned"] == {"train": 1000, "test": 6000}
    # All but the damaged rows, those that came with the second sync included.
    assert all((party["rows"], party["quarantined"]) == (29_976, 24) for party in report["parties"].values())
    assert report["model"] == {"name": "credit_risk", "version": "1", "alias": "champion"}
    assert "simulated" in " ".join(report["notes"]).lower()


def test_the_demo_prints_addresses_that_answer(told, folder):
    for name, url in services.addresses(folder).items():
        assert url in told
        path = {"airflow": "/api/v2/monitor/health", "mlflow": "/health", "gateway": "/healthz"}[name]
        assert httpx.get(url + path, timeout=10).is_success
    assert airflow_home.password(folder) in told


def test_the_curl_line_scores_an_applicant_whom_both_parties_know(told, folder):
    line = next(line for line in told.splitlines() if line.startswith("curl "))
    answer = json.loads(subprocess.run(["bash", "-c", line], capture_output=True, check=True, text=True).stdout)
    assert 0 < answer["probability_of_default"] < 1
    assert set(answer["parties"].values()) == {"known"}
    assert f'"probability_of_default": {answer["probability_of_default"]}' in told


def test_landed_assets_start_the_quality_gate_and_carry_the_watermark(airflow, folder):
    # The hourly schedule may have synced a party before the full sync came to it; then that run announced its news.
    syncs = [run for dag in ("collect_full", "collect_incremental") for run in airflow.runs(dag)]
    events = [event for run in syncs for event in airflow.events(run.dag, run.id)]
    assert {event.uri for event in events} == {"ftl://bank/landed/accounts", "ftl://partner/landed/customers"}
    for uri in ("ftl://bank/landed/accounts", "ftl://partner/landed/customers"):
        assert min(event.extra["watermark"] for event in events if event.uri == uri).startswith("2005-10")
    assert all(event.runs_of("check_quality") for event in events)


def test_training_was_paused_until_the_data_were_there_and_is_not_any_more(airflow):
    assert [run.id.split("__")[0] for run in airflow.runs("train_federated")] == ["manual"]
    assert airflow._ask("GET", "/api/v2/dags/train_federated")["is_paused"] is False


def test_the_training_log_shows_every_round(airflow, folder):
    (run,) = airflow.runs("train_federated")
    train = next(task for task in airflow.tasks(run.dag, run.id) if task.task == "train")
    text = "\n".join(airflow.log(train))
    assert "align" in text
    assert "train 1/" in text
    assert "validation_auc" in text


def test_pages_of_the_consortium_ask_for_airflows_token(airflow, folder):
    for path in ("/consortium/", "/consortium/docs/bank/index.html"):
        assert httpx.get(airflow.url + path, timeout=10).status_code == 401
        assert airflow._http.get(path).status_code == 200
    assert "29,976" in airflow._http.get("/consortium/").text
    outside = "/consortium/docs/bank/%2e%2e/lake/landed/accounts/_delta_log/00000000000000000000.json"
    assert airflow._http.get(outside).status_code == 404


def test_telling_the_demo_again_repeats_nothing_and_is_quick(root, airflow):
    before, began, output = runs(airflow), time.monotonic(), io.StringIO()
    demo(root, Console(file=output, width=200))
    assert time.monotonic() - began < 60
    assert runs(airflow) == before
    assert len(airflow.runs("train_federated")) == 1


def test_a_sync_without_news_starts_nothing(airflow):
    checks = len(airflow.runs("check_quality"))
    run_id = airflow.trigger("collect_incremental")
    for _ in airflow.follow("collect_incremental", run_id, PATIENCE):
        pass
    assert airflow.events("collect_incremental", run_id) == []
    assert len(airflow.runs("check_quality")) == checks


@pytest.fixture(scope="module")
def second(airflow):
    """A second training whose task is cleared while it waits."""
    run_id = airflow.trigger("train_federated", {"rounds": ROUNDS, "max_shared": 200})
    cleared = False
    for tasks in airflow.follow("train_federated", run_id, PATIENCE):
        train = next((task for task in tasks if task.task == "train"), None)
        if train and train.state == "deferred" and not cleared and any("align" in line for line in airflow.log(train)):
            body = {"dag_run_id": run_id, "task_ids": ["train"], "dry_run": False, "only_failed": False}
            airflow._ask("POST", "/api/v2/dags/train_federated/clearTaskInstances", body)
            cleared = True
    assert cleared
    return run_id


def test_a_training_task_that_starts_again_finds_its_run_and_submits_no_other(airflow, folder, second):
    tasks = {task.task: task for task in airflow.tasks("train_federated", second)}
    assert tasks["train"].try_number == 2
    name = airflow.result(tasks["train"])
    assert [path.name for path in folder.run(name).parent.glob(f"{name}*")] == [name]
    lines = [json.loads(line) for line in (folder.run(name) / "progress.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == list(range(1, len(lines) + 1))
    rounds = [line["step"]["round"] for line in lines if line["step"]["phase"] == "train" and line["party"] == "bank"]
    assert rounds == sorted(set(rounds))  # of both attempts together, every round once


def test_a_person_must_approve_a_new_champion_and_the_gateway_follows(airflow, folder, second, told):
    run_id = airflow.trigger("promote_model", {"version": "2", "reason": "fewer rounds, for this test"})
    answered = set()
    for tasks in airflow.follow("promote_model", run_id, PATIENCE):
        approve = next((task for task in tasks if task.task == "approve"), None)
        # An answer within the moment in which the task goes to sleep makes Airflow ask again, as another try.
        if approve and approve.state == "awaiting_input" and approve.try_number not in answered:
            answered.add(approve.try_number)
            assert registry.resolve(registry.tracking_uri(folder), "credit_risk")[0].version == "1"
            airflow.respond(approve, "Approve")
    assert answered
    deadline = time.monotonic() + 60
    while (answer := score(folder, applicant_in(told)))["model"]["version"] != "2" and time.monotonic() < deadline:
        time.sleep(1)
    assert answer["model"] == {"name": "credit_risk", "version": "2", "alias": "champion"}


def test_down_leaves_no_process(folder, root, second):
    assert processes_of(root)
    services.down(folder, lambda _: None)
    assert processes_of(root) == []
    assert {entry.state for entry in services.status(folder)} == {"stopped"}


def test_ctrl_c_while_services_start_leaves_nothing_running(root):
    code = f"""
from pathlib import Path
from rich.console import Console
from ftl.pipeline.demo import demo
demo(Path({str(root)!r}), Console())
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        for line in run.stdout:
            if "is ready after" in line:
                os.kill(run.pid, signal.SIGINT)
                break
        run.stdout.read()
        assert run.wait(timeout=120) == 130
    assert processes_of(root) == []
