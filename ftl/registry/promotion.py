"""Which version answers: promotion with its record, the way back, and the offline gate's word that binds both."""

from typing import Any

from ftl.consortium import Folder
from ftl.errors import RegistryError
from ftl.registry import store
from ftl.registry.versions import CHAMPION, ModelVersion, aliased, described

INSTEAD_OF = "ftl.promoted.instead_of"
"""Tag of a champion: the version that answered before it."""
REFUSED = "ftl.gate.refused"
"""Tag of a version that may not compete: why the offline gate refused it."""


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
        before = aliased(client, name, CHAMPION)
        client.set_model_version_tag(name, version, "ftl.promoted.reason", reason)
        client.set_model_version_tag(name, version, "ftl.promoted.approved_by", approved_by)
        client.set_model_version_tag(name, version, "ftl.promoted.figures", figures)
        client.set_model_version_tag(name, version, INSTEAD_OF, before or "none")
        client.set_registered_model_alias(name, CHAMPION, version)
        return described(client, name, version)


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
        now = aliased(client, name, CHAMPION)
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


def _check_gate(client: Any, name: str, version: str) -> None:
    if why := client.get_model_version(name, version).tags.get(REFUSED):
        raise RegistryError(
            f"{name} version {version} may not answer; the offline gate refused it: {why}", cure="Train a better one."
        )
