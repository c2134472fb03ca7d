"""The operator and trigger of a federated run, apart from Airflow's own machinery."""

import asyncio

import pytest

from ftl.errors import EngineUnavailable, FederationError


class Store(dict):
    """A task's state store, in memory."""

    def set(self, key, value):
        self[key] = value


@pytest.fixture
def federated(airflow, dagbag):
    from ftl_airflow import federated

    return federated


def operator(federated, **more):
    return federated.FederatedTrainingOperator(task_id="train", recipe="transfer_boost", seed=0, settings={}, **more)


def test_a_run_is_named_after_its_dag_run_and_keeps_to_the_allowed_letters(federated):
    name = federated.run_id_of("manual__2026-11-22T02:44:04.741864+00:00", 1)
    assert name == "manual__2026-11-22T02-44-04-741864-00-00"
    assert federated.run_id_of("manual__2026-11-22T02:44:04.741864+00:00", 2) == f"{name}-2"


def test_a_transient_failure_is_raised_as_such_and_keeps_the_run(federated):
    store = Store()
    event = {"state": "failed", "run_id": "r", "code": "engine_unavailable", "message": "server away", "cure": "wait"}
    with pytest.raises(EngineUnavailable, match="server away wait"):
        operator(federated).resume({"task_state_store": store}, event)
    assert store == {}


def test_after_a_failure_for_good_a_cleared_task_starts_another_run(federated):
    store = Store()
    event = {"state": "failed", "run_id": "r", "code": "federation", "message": "no label at bank", "cure": ""}
    with pytest.raises(FederationError, match="no label at bank"):
        operator(federated).resume({"task_state_store": store}, event)
    assert store == {"submission": 2}


def test_a_finished_run_gives_its_id(federated):
    event = {"state": "finished", "run_id": "manual__1"}
    assert operator(federated).resume({"task_state_store": Store()}, event) == "manual__1"


def test_a_run_needs_the_active_party_and_another(federated, folder):
    chosen = [folder.consortium.active]
    context = {"dag_run": type("Run", (), {"run_id": "manual__1"}), "task_state_store": Store()}
    with pytest.raises(FederationError, match="and at least one other party"):
        operator(federated, members=chosen).execute(context)


def test_the_trigger_can_be_rebuilt_elsewhere(federated):
    path, arguments = federated.FederatedRunTrigger("manual__1").serialize()
    assert path == "ftl_airflow.federated.FederatedRunTrigger"
    assert arguments == {"run_id": "manual__1"}


def test_the_trigger_says_that_a_run_is_unknown(federated):
    async def fired():
        return [event.payload async for event in federated.FederatedRunTrigger("never_submitted").run()]

    (event,) = asyncio.run(fired())
    assert event["state"] == "failed"
    assert "never_submitted" in event["message"]
