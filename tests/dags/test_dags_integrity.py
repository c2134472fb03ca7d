"""What the DAGs promise: they parse, name steps and nothing else, and say queue, assets and retries for each."""

import ast
import time
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
DAG_FILES = sorted((CHECKOUT / "dags").glob("*.py"))
SYNCS = ("collect_full", "collect_incremental")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return names


def test_every_dag_parses(dagbag):
    assert dagbag.import_errors == {}
    assert (
        set(dagbag.dags)
        == {path.stem for path in DAG_FILES}
        == {
            "collect_full",
            "collect_incremental",
            "check_quality",
            "train_federated",
            "promote_model",
            "judge_experiment_daily",
        }
    )


def test_every_dag_survives_serialisation(dagbag):
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in dagbag.dags.values():
        back = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        assert set(back.task_ids) == set(dag.task_ids)


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_a_dag_file_is_authored_from_the_sdk_and_holds_no_logic(path):
    allowed = {"airflow.sdk", "ftl_airflow", "airflow.providers.standard.operators.hitl", "datetime"}
    assert imported(path) <= allowed
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.If | ast.While | ast.Try | ast.Lambda)]
    assert len([node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]) == 1


@pytest.mark.parametrize("dag_id", SYNCS)
def test_each_party_has_one_mapped_sync_task_in_its_own_queue(dagbag, folder, dag_id):
    tasks = dagbag.dags[dag_id].tasks
    assert {(task.task_id, task.queue, task.is_mapped) for task in tasks} == {
        (f"collect_{party}", party, True) for party in folder.consortium.parties
    }


def test_each_party_has_one_mapped_quality_task_in_its_own_queue(dagbag, folder):
    tasks = dagbag.dags["check_quality"].tasks
    assert {(task.task_id, task.queue, task.is_mapped) for task in tasks} == {
        (f"check_{party}", party, True) for party in folder.consortium.parties
    }


def test_quality_starts_when_any_table_of_any_party_has_landed(dagbag, folder):
    from airflow.sdk import AssetAny

    condition = dagbag.dags["check_quality"].timetable.asset_condition
    assert isinstance(condition, AssetAny)
    assert {asset.uri for asset in condition.objects} == {
        f"ftl://{name}/landed/{table}" for name, party in folder.consortium.parties.items() for table in party.tables
    }


def test_training_starts_when_all_parties_have_published(dagbag, folder):
    from airflow.sdk import AssetAll

    condition = dagbag.dags["train_federated"].timetable.asset_condition
    assert isinstance(condition, AssetAll)
    assert {asset.uri for asset in condition.objects} == {
        f"ftl://{name}/validated/{party.features.table}" for name, party in folder.consortium.parties.items()
    }


def test_incremental_sync_is_scheduled_and_does_not_catch_up(dagbag):
    dag = dagbag.dags["collect_incremental"]
    assert dag.schedule == "17 * * * *"
    assert not dag.catchup


def test_every_task_retries_transient_errors_and_nothing_else(dagbag):
    from airflow.sdk import RetryAction

    from ftl.errors import FtlError, LakeConflict, QualityError, SourceUnavailable

    for dag in dagbag.dags.values():
        for task in dag.tasks:
            policy = task.retry_policy
            assert task.retries == 3
            for error, action in (
                (SourceUnavailable("the source is away"), RetryAction.RETRY),
                (LakeConflict("another sync"), RetryAction.RETRY),
                (QualityError("refused"), RetryAction.FAIL),
                (FtlError("any other"), RetryAction.FAIL),
                (ValueError("a mistake of ours"), RetryAction.FAIL),
            ):
                assert policy.evaluate(error, 1, 3).action is action, (dag.dag_id, task.task_id, error)


def test_the_policy_follows_the_attribute_of_every_error(airflow):
    from airflow.sdk import RetryAction
    from ftl_airflow.retries import TRANSIENT_ONLY, kinds

    policy = TRANSIENT_ONLY["retry_policy"]
    found = list(kinds())
    assert len(found) > 20
    for kind in found:
        wanted = RetryAction.RETRY if kind.transient else RetryAction.FAIL
        assert policy.evaluate(kind("message"), 1, 3).action is wanted, kind


def test_the_training_form_offers_recipe_parties_cap_rounds_and_seed(dagbag, folder):
    params = dagbag.dags["train_federated"].params
    assert {"recipe", "parties", "max_shared", "rounds", "seed", "settings"} == set(params)
    assert params["recipe"] == folder.consortium.training.recipe
    assert params["parties"] == list(folder.consortium.parties)


def test_promotion_asks_a_person_before_it_does_anything(dagbag):
    from airflow.providers.standard.operators.hitl import ApprovalOperator

    dag = dagbag.dags["promote_model"]
    assert isinstance(dag.get_task("approve"), ApprovalOperator)
    assert dag.get_task("promote").upstream_task_ids == {"approve"}
    assert {"version", "reason"} == set(dag.params)


def test_parsing_a_dag_file_is_cheap(dagbag, airflow):
    from airflow.dag_processing.dagbag import DagBag

    began = time.process_time()
    DagBag(dag_folder=str(CHECKOUT / "dags" / "train_federated.py"))
    assert time.process_time() - began < 1.0


def test_plugin_folder_loads_the_page_and_nothing_else(airflow):
    from airflow import plugins_manager

    plugins, errors = plugins_manager._get_plugins()
    ours = [plugin for plugin in plugins if plugin.name == "ftl"]
    assert errors == {}
    assert len(ours) == 1
    assert [app["url_prefix"] for app in ours[0].fastapi_apps] == ["/consortium"]


def test_every_quality_task_leads_to_its_partys_data_docs_also_after_serialisation(dagbag, folder, monkeypatch):
    from airflow.serialization.serialized_objects import DagSerialization

    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example")
    dag = dagbag.dags["check_quality"]
    stored = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    for party in folder.consortium.parties:
        mapped = dag.get_task(f"check_{party}")
        (link,) = mapped.operator_extra_links
        assert (
            [one.name for one in stored.get_task(f"check_{party}").operator_extra_links] == [link.name] == ["Data Docs"]
        )
        operator = mapped.operator_class(
            task_id="one", python_callable=mapped.python_callable, op_args=[], op_kwargs={"party": party, "table": "t"}
        )
        assert link.get_link(operator, ti_key=None) == f"https://airflow.example/consortium/docs/{party}/index.html"
