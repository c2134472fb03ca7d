"""What accompanies a version: its card, its origin, and the offline gate's word."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from mlflow.artifacts import download_artifacts
from test_registry_competition import NOW, people
from test_registry_runs import consortium, evaluation, result

from ftl import registry
from ftl.consortium import Folder
from ftl.errors import RegistryError
from ftl.federation import PartManifest, Request, Result, keep_part
from ftl.pipeline.steps import Steps
from ftl.registry import competition, store
from ftl.registry.competition.experiment import home
from ftl.registry.competition.observations import EXPOSURES, OUTCOMES
from ftl.registry.gate import gate
from ftl.registry.lineage import LOCK, Lineage, lock_sha256


def registered(folder: Folder, run_id: str, auc: float) -> registry.ModelVersion:
    done = msgspec.structs.replace(result(folder, run_id), metrics={"federated": evaluation(auc)})
    tracking = registry.start_run(folder, Request(run_id, "transfer_boost", 0))
    tracking.finish(done)
    return registry.register(folder, tracking, done)


def artefact(folder: Folder, version: registry.ModelVersion, name: str, place: Path) -> str:
    uri = registry.tracking_uri(folder)
    location = store.client(uri).get_model_version_download_uri(version.name, version.version)
    return Path(download_artifacts(f"{location}/artifacts/{name}", dst_path=str(place), tracking_uri=uri)).read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("consortium"), consortium())


def test_a_version_below_a_guess_never_answers_and_its_refusal_is_written_down(folder: Folder, tmp_path: Path) -> None:
    refused = registered(folder, "guess", 0.49)
    assert refused.aliases == []
    tags = store.client(registry.tracking_uri(folder)).get_model_version(refused.name, refused.version).tags
    assert tags["ftl.gate.refused"] == "Refused: auc is 0.4900, at least 0.5000 is needed."
    assert "Refused: auc is 0.4900" in artefact(folder, refused, "card.md", tmp_path)
    with pytest.raises(RegistryError, match=r"offline gate refused it: Refused: auc is 0\.4900"):
        registry.promote(folder, refused.name, refused.version, reason="hope", approved_by="A. Modeller")


def test_a_version_far_below_the_champion_does_not_challenge_it(folder: Folder) -> None:
    good, weak, near = (registered(folder, name, auc) for name, auc in (("good", 0.8), ("weak", 0.69), ("near", 0.71)))
    assert good.aliases == ["challenger", "champion"]
    assert weak.aliases == []
    assert near.aliases == ["challenger"]


def test_the_card_and_the_origin_name_inputs_code_and_packages(folder: Folder, tmp_path: Path) -> None:
    version = registered(folder, "carded", 0.8)
    card = artefact(folder, version, "card.md", tmp_path)
    assert "| federated | auc | 0.8000 | 0.7900 | 0.8100 |" in card
    assert "| partner | amount |" in card.split("## Fairness")[1]
    for title in ("Intended use", "Data", "Recipe", "Limits", "Origin"):
        assert f"## {title}" in card
    origin = msgspec.json.decode(artefact(folder, version, "lineage.json", tmp_path), type=Lineage)
    parts = {part.party: part.sha256 for part in result(folder, "carded").parts}
    assert {party: one.part_sha256 for party, one in origin.inputs.items()} == parts
    assert origin.lock_sha256 == lock_sha256(Path(registry.__file__).parents[2])


def test_the_delta_version_that_a_node_trained_on_reaches_the_coordinator(folder: Folder) -> None:
    manifest = PartManifest("versioned", "transfer_boost", 0, "bank", "", ["amount"], 7)
    assert keep_part(folder.node("bank"), manifest, b"{}", b"{}").table_version == 7


def test_a_lock_file_is_known_by_its_hash_and_its_absence_is_said(tmp_path: Path) -> None:
    assert lock_sha256(tmp_path) is None
    (tmp_path / LOCK).write_bytes(b"")
    assert lock_sha256(tmp_path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_run_without_a_holdout_does_not_pass(folder: Folder) -> None:
    bare: Result = msgspec.structs.replace(result(folder, "bare"), metrics={})
    assert gate(bare, {}).why == "Refused: the run has no figures on a holdout."
    assert gate(result(folder, "bare"), {}).passed


def test_the_page_and_the_figures_of_a_won_experiment_are_kept_and_one_call_undoes_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = Folder(tmp_path_factory.mktemp("won"), consortium())
    for name in ("first", "second"):
        registered(folder, name, 0.8)
    steps = Steps(folder, lambda: NOW, in_process=True)
    one = competition.start(folder, "spring", {"2": 0.3}, NOW, policy="automatic")
    observe(home(folder) / "spring", one)
    (verdict,) = steps.judge("spring")
    assert verdict.decision == "promote"
    client = store.client(registry.tracking_uri(folder))
    version = client.get_model_version("credit_risk", "2")
    assert version.aliases == ["challenger", "champion"]
    assert msgspec.json.decode(version.tags["ftl.promoted.figures"], type=competition.Verdict) == verdict
    page = Path(client.download_artifacts(version.run_id, "experiments/spring.html")).read_text()
    assert "Version 2 was promoted" in page
    assert steps.roll_back("regret", "A. Modeller").version == "1"
    with pytest.raises(RegistryError, match="ended on 2026-03-01"):
        steps.judge("spring")


def observe(place: Path, one: competition.Experiment) -> None:
    """3,000 answers and their outcomes, of which the challenger saw more."""
    label, champion, challenger = people(np.random.default_rng(7), 3000, 1.5, 0.3)
    exposures = [
        competition.Exposure(float(n), f"s{n}", one.champion, {"1": float(old), "2": float(new)}, 5.0)
        for n, (old, new) in enumerate(zip(champion, challenger, strict=True))
    ]
    outcomes = [competition.Outcome(float(n), f"s{n}", "bad" if bad else "good") for n, bad in enumerate(label)]
    for path, rows in ((place / EXPOSURES, exposures), (place.parent / OUTCOMES, outcomes)):
        path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
