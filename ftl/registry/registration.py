"""A finished run becomes a version: bundle, card and origin in the registry, an alias where the gate lets it in."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

import ftl
from ftl.consortium import Folder
from ftl.errors import RegistryError
from ftl.federation import Result
from ftl.registry import store
from ftl.registry.bundle import BUNDLE_FILE, Bundle, build_bundle, encode_bundle
from ftl.registry.card import CARD_FILE, card
from ftl.registry.gate import Gate, gate
from ftl.registry.lineage import LINEAGE_FILE, lineage
from ftl.registry.promotion import REFUSED
from ftl.registry.tracking import RUN_TAG, Tracking
from ftl.registry.versions import CHALLENGER, CHAMPION, ModelVersion, aliased, described

log = logging.getLogger(__name__)

TITLES = {"auc": "AUC", "ks": "KS", "brier": "Brier", "rmse": "RMSE", "mae": "MAE", "r2": "R²", "log_loss": "log-loss"}
"""Figures as people write them."""


def register(folder: Folder, tracking: Tracking, result: Result) -> ModelVersion:
    """Log the bundle as a model and register it: `challenger`, and `champion` where there is none.

    A version that the offline gate refuses gets neither alias; its tag and its card say why. A run that was registered
    before keeps its version.

    Args:
        folder: the consortium.
        tracking: of the run.
        result: what the federation said.

    Returns:
        the version with its aliases.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    bundle = build_bundle(folder, result)
    with store.asking(f"registering {bundle.name}", tracking.uri):
        client = store.client(tracking.uri)
        version = _registered(client, bundle)
        if version is None:
            said = gate(result, _figures_of_champion(client, bundle.name), folder.consortium.registry.gate)
            version = _log_model(folder, tracking, bundle, result, said)
            log.info("registry.version registered", extra={"model": bundle.name, "version": version, "gate": said.why})
        if not _refused(client, bundle.name, version):
            _let_in(client, bundle.name, version)
        return described(client, bundle.name, version)


def model_code() -> Path:
    """The models-from-code file, in a checkout or in an installed wheel.

    Returns:
        path of ``credit_risk_model.py``.

    Raises:
        RegistryError: the installation is incomplete.
    """
    package = Path(ftl.__file__).parent
    places = [package / "_shipped" / "mlflow", package.parent / "mlflow"]
    for place in places:
        if (place / "credit_risk_model.py").is_file():
            return place / "credit_risk_model.py"
    looked = ", ".join(map(str, places))
    raise RegistryError(f"credit_risk_model.py is in none of {looked}.", cure="Install ftl again.")


def _let_in(client: Any, name: str, version: str) -> None:
    if not aliased(client, name, CHAMPION):
        client.set_registered_model_alias(name, CHAMPION, version)
    if _is_newest(client, name, version):
        client.set_registered_model_alias(name, CHALLENGER, version)


def _figures_of_champion(client: Any, name: str) -> dict[str, float]:
    """What was logged of the champion on its holdout, under the figures' plain names; empty without a champion."""
    version = aliased(client, name, CHAMPION)
    if version is None:
        return {}
    logged = client.get_run(client.get_model_version(name, version).run_id).data.metrics
    return {key.removeprefix("federated."): value for key, value in logged.items() if key.startswith("federated.")}


def _refused(client: Any, name: str, version: str) -> bool:
    return REFUSED in client.get_model_version(name, version).tags


def _log_model(folder: Folder, tracking: Tracking, bundle: Bundle, result: Result, said: Gate) -> str:
    from ftl.registry.schema import input_example, signature

    with store.current(tracking.uri) as mlflow, tempfile.TemporaryDirectory() as place:
        written = _write(Path(place), folder, bundle, result, said)
        with mlflow.start_run(run_id=tracking.mlflow_run_id), _without_trial_warning():
            info = mlflow.pyfunc.log_model(
                name=bundle.name,
                python_model=str(model_code()),
                artifacts={name: str(path) for name, path in written.items()},
                model_config={"folder": str(folder.root.resolve())},
                signature=signature(bundle),
                input_example=input_example(bundle),
                pip_requirements=[f"ftl[coordinator]=={ftl.__version__}"],
                registered_model_name=bundle.name,
                metadata={"run_id": bundle.run_id, "recipe": bundle.recipe},
            )
        client = store.client(tracking.uri)
        version = str(info.registered_model_version)
        client.set_model_version_tag(bundle.name, version, RUN_TAG, bundle.run_id)
        if not said.passed:
            client.set_model_version_tag(bundle.name, version, REFUSED, said.why)
        client.update_model_version(bundle.name, version, description=_description(bundle, result, said))
        return version


def _write(place: Path, folder: Folder, bundle: Bundle, result: Result, said: Gate) -> dict[str, Path]:
    """The version's files, by the names under which its code finds them."""
    consortium = folder.consortium
    origin = lineage(result, {name: party.features.table for name, party in consortium.parties.items()})
    contents = {
        "bundle": (BUNDLE_FILE, encode_bundle(bundle)),
        "lineage": (LINEAGE_FILE, msgspec.json.format(msgspec.json.encode(origin), indent=1)),
        "card": (CARD_FILE, card(consortium, result, origin, said.why).encode()),
    }
    for file, content in contents.values():
        (place / file).write_bytes(content)
    return {name: place / file for name, (file, _) in contents.items()}


@contextmanager
def _without_trial_warning() -> Iterator[None]:
    """MLflow tries the input example at once and warns when it fails; the score servers need not be up to register."""
    trial = logging.getLogger("mlflow.models.model")
    before = trial.level
    trial.setLevel(logging.ERROR)
    try:
        yield
    finally:
        trial.setLevel(before)


def _description(bundle: Bundle, result: Result, said: Gate) -> str:
    rows = [
        "| " + " | ".join([model, *(f"{one.figures[name]:.4f}" for name in one.intervals)]) + " |"
        for model, one in result.metrics.items()
    ]
    titles = [TITLES.get(name, name) for name in next((one.intervals for one in result.metrics.values()), ())]
    parts = [f"| {party} | {part.columns} | `{part.sha256[:16]}…` |" for party, part in bundle.parties.items()]
    lines = [
        f"Recipe `{bundle.recipe}`, run `{bundle.run_id}`, {result.aligned.get('train', 0)} shared people.",
        "",
        *(" | ".join(["| model", *titles, ""]).rstrip(), "| --- |" + " --- |" * len(titles), *rows),
        "",
        *("| party | columns | SHA-256 of its part |", "| --- | --- | --- |", *parts),
        "",
        f"Offline gate: {said.why}",
        "",
        "The parts stay at their nodes; this version holds leaf values and hashes only.",
        *([bundle.notice] if bundle.notice else []),
    ]
    return "\n".join(lines)


def _registered(client: Any, bundle: Bundle) -> str | None:
    for version in client.search_model_versions(f"name = '{bundle.name}'"):
        if version.tags.get(RUN_TAG) == bundle.run_id:
            return str(version.version)
    return None


def _is_newest(client: Any, name: str, version: str) -> bool:
    return int(version) == max(int(one.version) for one in client.search_model_versions(f"name = '{name}'"))
