"""Registered versions of the model, and the aliases that say which of them answers."""

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
from ftl.registry.bundle import BUNDLE_FILE, Bundle, build_bundle, decode_bundle, encode_bundle
from ftl.registry.card import CARD_FILE, card
from ftl.registry.gate import Gate, gate
from ftl.registry.lineage import LINEAGE_FILE, lineage
from ftl.registry.tracking import RUN_TAG, Tracking

log = logging.getLogger(__name__)

CHAMPION = "champion"
CHALLENGER = "challenger"
INSTEAD_OF = "ftl.promoted.instead_of"
"""Tag of a champion: the version that answered before it."""
REFUSED = "ftl.gate.refused"
"""Tag of a version that may not compete: why the offline gate refused it."""
TITLES = {"auc": "AUC", "ks": "KS", "brier": "Brier", "rmse": "RMSE", "mae": "MAE", "r2": "R²", "log_loss": "log-loss"}
"""Figures as people write them."""


class ModelVersion(msgspec.Struct, frozen=True):
    """A version in the registry.

    Attributes:
        name: of the registered model.
        version: 1, 2, … as MLflow writes it.
        aliases: that point at it now, sorted.
    """

    name: str
    version: str
    aliases: list[str] = []


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
            said = gate(result, _figures_of_champion(client, bundle.name))
            version = _log_model(folder, tracking, bundle, result, said)
            log.info("registry.version registered", extra={"model": bundle.name, "version": version, "gate": said.why})
        if not _refused(client, bundle.name, version):
            _let_in(client, bundle.name, version)
        return _describe(client, bundle.name, version)


def promote(
    folder: Folder, name: str, version: str, *, reason: str, approved_by: str, figures: str = ""
) -> ModelVersion:
    """Make a version the champion.

    Args:
        folder: the consortium.
        name: of the registered model.
        version: that shall answer from now on.
        reason: why, for the record.
        approved_by: who decided, for the record.
        figures: of the test that it won, as JSON, for the record.

    Returns:
        the version with its aliases.

    Raises:
        RegistryError: there is no such version, or the offline gate refused it.
        RegistryUnavailable: MLflow does not answer.
    """
    uri = store.tracking_uri(folder)
    with store.asking(f"promoting {name} version {version}", uri):
        client = store.client(uri)
        known = [one.version for one in client.search_model_versions(f"name = '{name}'")]
        if str(version) not in {str(one) for one in known}:
            raise RegistryError(
                f"{name} has no version {version}; it has {', '.join(map(str, sorted(known, key=int))) or 'none'}.",
                cure="Name one of these.",
            )
        _check_gate(client, name, version)
        before = _alias(client, name, CHAMPION)
        client.set_model_version_tag(name, version, "ftl.promoted.reason", reason)
        client.set_model_version_tag(name, version, "ftl.promoted.approved_by", approved_by)
        client.set_model_version_tag(name, version, "ftl.promoted.figures", figures)
        client.set_model_version_tag(name, version, INSTEAD_OF, before or "none")
        client.set_registered_model_alias(name, CHAMPION, version)
        return _describe(client, name, version)


def roll_back(folder: Folder, name: str, *, reason: str, approved_by: str) -> ModelVersion:
    """Make the version that answered before the present champion the champion again.

    Args:
        folder: the consortium.
        name: of the registered model.
        reason: why, for the record.
        approved_by: who decided, for the record.

    Returns:
        the version with its aliases.

    Raises:
        RegistryError: there is no champion, or none before it.
        RegistryUnavailable: MLflow does not answer.
    """
    uri = store.tracking_uri(folder)
    with store.asking(f"rolling {name} back", uri):
        client = store.client(uri)
        now = _alias(client, name, CHAMPION)
        tags = client.get_model_version(name, now).tags if now else {}
        before = tags.get(INSTEAD_OF, "none")
    if before == "none":
        raise RegistryError(f"{name} had no champion before version {now}.", cure="Promote a version by its number.")
    return promote(folder, name, before, reason=reason, approved_by=approved_by)


def check_gate(uri: str, version: ModelVersion) -> None:
    """Refuse a version that the offline gate refused.

    Args:
        uri: of the store.
        version: of the model.

    Raises:
        RegistryError: it did, or there is no such version.
        RegistryUnavailable: MLflow does not answer.
    """
    with store.asking(f"loading models:/{version.name}/{version.version}", uri):
        _check_gate(store.client(uri), version.name, version.version)


def current_version(uri: str, name: str, alias: str = CHAMPION) -> ModelVersion | None:
    """The version an alias points at; cheap, for polling.

    Args:
        uri: of the store.
        name: of the registered model.
        alias: for example ``champion``.

    Returns:
        the version, or None when the model or the alias does not exist.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    with store.asking(f"looking for {name}@{alias}", uri):
        client = store.client(uri)
        version = _alias(client, name, alias)
        return _describe(client, name, version) if version else None


def resolve(uri: str, name: str, alias: str = CHAMPION) -> tuple[ModelVersion, Bundle]:
    """The version an alias points at, with its bundle.

    Args:
        uri: of the store.
        name: of the registered model.
        alias: for example ``champion``.

    Returns:
        the version and its bundle.

    Raises:
        RegistryError: there is no such alias.
        RegistryUnavailable: MLflow does not answer.
    """
    version = current_version(uri, name, alias)
    if version is None:
        raise RegistryError(f"MLflow at {uri} has no {name}@{alias}.", cure="Train and register a model first.")
    return version, bundle_of(uri, version)


def bundle_of(uri: str, version: ModelVersion) -> Bundle:
    """The bundle of a registered version.

    Args:
        uri: of the store.
        version: of the model.

    Returns:
        its bundle.

    Raises:
        RegistryError: the version holds no readable bundle.
        RegistryUnavailable: MLflow does not answer.
    """
    address = f"models:/{version.name}/{version.version}"
    with store.asking(f"loading {address}", uri), tempfile.TemporaryDirectory() as place:
        from mlflow.artifacts import download_artifacts

        # By its place, not by `models:/…`: that would be looked up in whatever store this process has as its default.
        location = store.client(uri).get_model_version_download_uri(version.name, version.version)
        wanted = f"{location}/artifacts/{BUNDLE_FILE}"
        path = Path(download_artifacts(wanted, dst_path=place, tracking_uri=uri))
        return decode_bundle(path.read_bytes(), address)


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
    if not _alias(client, name, CHAMPION):
        client.set_registered_model_alias(name, CHAMPION, version)
    if _is_newest(client, name, version):
        client.set_registered_model_alias(name, CHALLENGER, version)


def _figures_of_champion(client: Any, name: str) -> dict[str, float]:
    """What was logged of the champion on its holdout, under the figures' plain names; empty without a champion."""
    version = _alias(client, name, CHAMPION)
    if version is None:
        return {}
    logged = client.get_run(client.get_model_version(name, version).run_id).data.metrics
    return {key.removeprefix("federated."): value for key, value in logged.items() if key.startswith("federated.")}


def _refused(client: Any, name: str, version: str) -> bool:
    return REFUSED in client.get_model_version(name, version).tags


def _check_gate(client: Any, name: str, version: str) -> None:
    if why := client.get_model_version(name, version).tags.get(REFUSED):
        raise RegistryError(
            f"{name} version {version} may not answer; the offline gate refused it: {why}", cure="Train a better one."
        )


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


def _alias(client: Any, name: str, alias: str) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as exc:
        if exc.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


def _describe(client: Any, name: str, version: str) -> ModelVersion:
    found = client.get_model_version(name, version)
    return ModelVersion(name, str(found.version), sorted(found.aliases))
