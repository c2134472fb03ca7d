"""Registered versions of the model, and the aliases that say which of them answers."""

import tempfile
from pathlib import Path
from typing import Any

import msgspec

from ftl.errors import RegistryError
from ftl.registry import store
from ftl.registry.bundle import BUNDLE_FILE, Bundle, decode_bundle

CHAMPION = "champion"
CHALLENGER = "challenger"


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
        version = aliased(client, name, alias)
        return described(client, name, version) if version else None


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


def aliased(client: Any, name: str, alias: str) -> str | None:
    """Number of the version that an alias points at, None without model or alias.

    Args:
        client: of the store.
        name: of the registered model.
        alias: for example ``champion``.
    """
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as exc:
        if exc.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


def described(client: Any, name: str, version: str) -> ModelVersion:
    """A version with its aliases.

    Args:
        client: of the store.
        name: of the registered model.
        version: of it.
    """
    found = client.get_model_version(name, version)
    return ModelVersion(name, str(found.version), sorted(found.aliases))
