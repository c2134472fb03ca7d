"""Where the party score servers are, and where a machine's gateway processes keep what they share."""

from pathlib import Path

import msgspec

from ftl.consortium import Folder
from ftl.errors import ServiceError
from ftl.federation import ports


def read_endpoints(folder: Folder) -> dict[str, str]:
    """Address of every party's score server.

    On one machine they follow from the consortium's ports. Where parties run elsewhere, the coordinator's
    ``serving/endpoints.json``, an object of party to ``https://host:port``, says where; it may be changed while a
    gateway runs.

    Args:
        folder: the consortium.

    Returns:
        party to URL.

    Raises:
        ServiceError: the list is unreadable.
    """
    path = folder.coordinator / "serving" / "endpoints.json"
    try:
        agreed = msgspec.json.decode(path.read_bytes(), type=dict[str, str]) if path.exists() else {}
    except msgspec.MsgspecError as exc:
        raise ServiceError(f"{path} is no list of score servers: {exc}.", cure="Correct it, or delete it.") from exc
    host, known = folder.consortium.coordinator.host, ports(folder)
    return {name: f"https://{host}:{known[f'score-{name}']}" for name in folder.consortium.parties} | agreed


def shared_home(folder: Folder) -> Path:
    """Folder of what the gateway processes of one machine share: counts, and nothing that names anybody."""
    return folder.coordinator / "serving" / "shared"
