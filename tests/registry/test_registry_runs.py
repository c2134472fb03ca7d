"""Runs, versions and aliases in a real MLflow store (SQLite)."""

from pathlib import Path

import msgspec
import pytest

from ftl import registry
from ftl.consortium import Consortium, Folder
from ftl.errors import RegistryError, RegistryUnavailable
from ftl.federation import Curves, Evaluation, PartManifest, Progress, Request, Result, keep_part
from ftl.protocols import Combiner, Step
from ftl.registry import store

THRESHOLD = b"73519.0625"


def consortium() -> Consortium:
    columns = {
        "id_number": {"from": "id", "type": "string", "normalise": "upper"},
        "phone": {"from": "phone", "type": "string", "normalise": "digits"},
        "amount": {"from": "amount", "type": "float64"},
    }
    features = {
        "table": "people",
        "columns": ["amount"],
        "reasons": {"amount": {"code": "AMT", "text": "The amount is high"}},
    }
    party = {"sources": {"db": {"kind": "sqlite", "path": "x.db"}}, "features": features}
    table = {"source": "db", "table": "people", "columns": columns}
    bad = {**table, "columns": {**columns, "bad": {"from": "bad", "type": "int64"}}}
    secret = {"table": "people", "columns": ["amount"], "protected": ["amount"], "reasons": features["reasons"]}
    return Consortium.model_validate(
        {
            "version": 1,
            "name": "two_lenders",
            "identifiers": ["id_number", "phone"],
            "parties": {
                "bank": {**party, "role": "active", "tables": {"people": bad}, "label": {"column": "bad"}},
                "partner": {**party, "role": "passive", "tables": {"people": table}, "features": secret},
            },
        }
    )


def evaluation(auc: float) -> Evaluation:
    grid = [i / 100 for i in range(101)]
    curves = Curves(grid, [x ** ((1 - auc) / auc) for x in grid], [(i / 10, i / 10, 60) for i in range(10)])
    return Evaluation(auc, 0.4, 0.14, 1.0, 0.0, {"auc": (auc - 0.01, auc + 0.01)}, 600, 130, curves)


def result(folder: Folder, run_id: str) -> Result:
    manifest = PartManifest(run_id, "transfer_boost", 0, "partner", "", ["amount"])
    part = keep_part(folder.node("partner"), manifest, b'{"threshold": ' + THRESHOLD + b"}", b"{}")
    own = keep_part(folder.node("bank"), msgspec.structs.replace(manifest, party="bank"), b"{}", b"{}")
    return Result(
        run_id=run_id,
        recipe="transfer_boost",
        seed=0,
        aligned={"train": 1000, "test": 600},
        metrics={"active_only": evaluation(0.74), "federated": evaluation(0.78)},
        gain={"auc": (0.04, 0.03, 0.05)},
        combiner=Combiner([[0.1, -0.2]], parties=["bank", "partner"]),
        parts=[own, part],
        rows={"bank": 24000, "partner": 24000},
        columns={"bank": 1, "partner": 1},
        settings={"rounds": 20, "learning_rate": 0.1},
        seconds={"align": 1.0, "train": 4.0, "evaluate": 0.5},
        bytes_sent={"bank": 1_000_000, "partner": 2_000_000},
        messages={"bank": 100, "partner": 90},
        notes=["A note."],
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("consortium"), consortium())


@pytest.fixture(scope="module")
def first(folder: Folder) -> registry.ModelVersion:
    """A run that was followed, finished and registered."""
    tracking = registry.start_run(folder, Request("run-1", "transfer_boost", 0))
    for number in (1, 2):
        tracking.progress(
            Progress(number, "bank", Step("train", number, 2, {"validation_auc": 0.7 + number / 100}), number)
        )
    done = result(folder, "run-1")
    tracking.finish(done, evaluation(0.79), {"register": 1.5})
    return registry.register(folder, tracking, done)


def the_run(folder: Folder, run_id: str = "run-1") -> object:
    tracking = registry.resume_run(folder, run_id)
    return store.client(tracking.uri).get_run(tracking.mlflow_run_id)


def test_a_retried_caller_finds_the_same_mlflow_run(folder: Folder, first: registry.ModelVersion) -> None:
    again = registry.start_run(folder, Request("run-1", "transfer_boost", 0))
    assert again == registry.resume_run(folder, "run-1")


def test_a_round_logged_twice_is_one_point_of_the_curve(folder: Folder, first: registry.ModelVersion) -> None:
    tracking = registry.resume_run(folder, "run-1")
    tracking.progress(Progress(2, "bank", Step("train", 2, 2, {"validation_auc": 0.72}), 2))
    history = store.client(tracking.uri).get_metric_history(tracking.mlflow_run_id, "bank.train.validation_auc")
    assert [(point.step, point.value) for point in history] == [(1, 0.71), (2, 0.72)]


def test_settings_metrics_costs_and_reference_are_logged_under_dotted_names(
    folder: Folder, first: registry.ModelVersion
) -> None:
    run = the_run(folder)
    expected = {
        "federated.auc": 0.78,
        "federated.auc.low": 0.77,
        "active_only.auc": 0.74,
        "pooled_reference.auc": 0.79,
        "gain.auc.high": 0.05,
        "seconds.train": 4.0,
        "seconds.register": 1.5,
        "bytes_sent.partner": 2_000_000,
        "messages.bank": 100,
        "aligned.train": 1000,
    }
    found = run.data.metrics  # type: ignore[attr-defined]
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert run.data.params["settings.rounds"] == "20"  # type: ignore[attr-defined]
    assert run.info.status == "FINISHED"  # type: ignore[attr-defined]


def test_finishing_again_changes_nothing(folder: Folder, first: registry.ModelVersion) -> None:
    before = the_run(folder).data.to_dictionary()  # type: ignore[attr-defined]
    registry.resume_run(folder, "run-1").finish(result(folder, "run-1"), evaluation(0.79), {"register": 1.5})
    assert the_run(folder).data.to_dictionary() == before  # type: ignore[attr-defined]


def test_four_plots_and_the_result_are_artifacts(folder: Folder, first: registry.ModelVersion) -> None:
    tracking = registry.resume_run(folder, "run-1")
    client = store.client(tracking.uri)
    plots = {item.path for item in client.list_artifacts(tracking.mlflow_run_id, "plots")}
    assert plots == {f"plots/{name}.png" for name in ("roc", "ks", "calibration", "gain")}
    path = Path(client.download_artifacts(tracking.mlflow_run_id, "result.json"))
    assert msgspec.json.decode(path.read_bytes(), type=Result) == result(folder, "run-1")


def test_the_first_version_is_challenger_and_champion(first: registry.ModelVersion) -> None:
    assert first == registry.ModelVersion("credit_risk", "1", ["challenger", "champion"])


def test_registering_a_run_again_makes_no_second_version(folder: Folder, first: registry.ModelVersion) -> None:
    tracking = registry.resume_run(folder, "run-1")
    assert registry.register(folder, tracking, result(folder, "run-1")) == first


def test_the_bundle_comes_back_as_it_was_registered(folder: Folder, first: registry.ModelVersion) -> None:
    version, bundle = registry.resolve(registry.tracking_uri(folder), "credit_risk", "champion")
    assert version == first
    assert bundle == registry.build_bundle(folder, result(folder, "run-1"))
    assert bundle.fields == {"amount": "float64"}
    assert [one.normalise for one in bundle.identifiers] == ["upper", "digits"]


def test_a_protected_column_gives_no_reason_text(folder: Folder) -> None:
    bundle = registry.build_bundle(folder, result(folder, "run-1"))
    assert bundle.parties["bank"].reasons == {"AMT": "The amount is high"}
    assert bundle.parties["partner"].reasons == {}


def test_no_threshold_and_no_pickle_reach_the_registry(folder: Folder, first: registry.ModelVersion) -> None:
    files = [path for path in store.home(folder).rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"bundle.json", "credit_risk_model.py", "mlflow.db", "roc.png"}
    for path in files:
        assert path.suffix not in {".pkl", ".pickle", ".joblib"}
        assert THRESHOLD not in path.read_bytes(), path


def test_a_later_version_challenges_and_is_promoted_with_a_reason(folder: Folder, first: registry.ModelVersion) -> None:
    tracking = registry.start_run(folder, Request("run-2", "transfer_boost", 1))
    second = registry.register(folder, tracking, result(folder, "run-2"))
    assert second.aliases == ["challenger"]
    uri = registry.tracking_uri(folder)
    assert registry.current_version(uri, "credit_risk") == registry.ModelVersion("credit_risk", "1", ["champion"])

    promoted = registry.promote(folder, "credit_risk", second.version, reason="AUC +0.01", approved_by="A. Modeller")
    assert promoted.aliases == ["challenger", "champion"]
    tags = store.client(uri).get_model_version("credit_risk", second.version).tags
    assert tags["ftl.promoted.reason"] == "AUC +0.01"
    assert tags["ftl.promoted.approved_by"] == "A. Modeller"
    assert tags["ftl.promoted.instead_of"] == "1"


def test_promoting_an_unknown_version_names_the_known_ones(folder: Folder, first: registry.ModelVersion) -> None:
    with pytest.raises(RegistryError, match=r"no version 77; it has 1"):
        registry.promote(folder, "credit_risk", "77", reason="none", approved_by="nobody")


def test_an_alias_that_does_not_exist_is_said_so(folder: Folder, first: registry.ModelVersion) -> None:
    with pytest.raises(RegistryError, match="no credit_risk@shadow"):
        registry.resolve(registry.tracking_uri(folder), "credit_risk", "shadow")


def test_a_run_that_was_never_opened_is_said_so(folder: Folder, first: registry.ModelVersion) -> None:
    with pytest.raises(RegistryError, match="no run 'run-99'"):
        registry.resume_run(folder, "run-99")


def test_an_absent_server_is_a_transient_error(folder: Folder) -> None:
    with pytest.raises(RegistryUnavailable, match=r"127\.0\.0\.1:9 does not answer while looking for"):
        registry.current_version("http://127.0.0.1:9", "credit_risk")


def test_a_damaged_bundle_is_refused() -> None:
    with pytest.raises(RegistryError, match=r"here is no bundle"):
        registry.decode_bundle(b'{"name": 1}', "here")
