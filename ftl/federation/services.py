"""The processes of the federation: one server, one site per party.

They are started in the foreground, so that whoever starts them can end them with all they have started: NVFlare's own
`start.sh` leaves daemons behind.
"""

import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import psutil

from ftl.consortium import Folder
from ftl.errors import EngineUnavailable, FtlError
from ftl.federation.kits import server_kit, site_kit
from ftl.federation.ports import LOOPBACK, ports
from ftl.federation.session import admin_session

POLL = 0.3
ENVIRONMENT = {"PYTHONNOUSERSITE": "1"}
"""Only the installed packages run at a site."""


REGISTERED = "registered.json"
"""In a site's workspace: its own sign that the server has taken it in."""


class Registered(msgspec.Struct, frozen=True):
    """Content of that file.

    Attributes:
        pid: the site's process.
        started: when that process started, seconds since the epoch.
    """

    pid: int
    started: float


@dataclass(frozen=True)
class Process:
    """What a supervisor starts in a session of its own, and ends by signalling that session's group.

    Attributes:
        name: ``federation-server`` or ``site-PARTY``.
        command: program and arguments.
        directory: where it runs.
        environment: added to the supervisor's own.
        ready: whether it can be used; cheap, may be called often.
    """

    name: str
    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str]
    ready: Callable[[], bool]


def processes(folder: Folder) -> list[Process]:
    """The server first, then the sites in the order of `consortium.yaml`. The folder must have been provisioned."""
    server = Process(
        name="federation-server",
        command=_command("server.server_train", server_kit(folder), "fed_server.json", "org=coordinator"),
        directory=server_kit(folder),
        environment=ENVIRONMENT,
        ready=partial(_listens, ports(folder)["federation"]),
    )
    return [server, *(_site(folder, party) for party in folder.consortium.parties)]


def ready(folder: Folder, timeout: float = 60.0) -> None:
    """Wait until the server answers and every party's site is connected to it.

    Args:
        folder: the consortium.
        timeout: seconds.

    Raises:
        EngineUnavailable: names the sites that are missing.
    """
    deadline = time.monotonic() + timeout
    missing, error = tuple(folder.consortium.parties), None
    while time.monotonic() < deadline:
        try:
            with admin_session(folder, timeout=min(5.0, max(1.0, deadline - time.monotonic()))) as session:
                while (missing := missing_sites(folder, session)) and time.monotonic() < deadline:
                    time.sleep(POLL)
            if not missing:
                return
        except EngineUnavailable as exc:
            error = exc
            time.sleep(POLL)
    if error is not None and missing == tuple(folder.consortium.parties):
        raise error
    raise EngineUnavailable(
        f"{', '.join(missing)}: no connection to the federation server on port {ports(folder)['federation']}"
        f" within {timeout:g} s.",
        cure="Read the log of the missing site's process.",
    )


def is_registered(kit: Path) -> bool:
    """Whether the site that runs in `kit` has registered and still runs."""
    try:
        sign = msgspec.json.decode((kit / REGISTERED).read_bytes(), type=Registered)
        return abs(psutil.Process(sign.pid).create_time() - sign.started) < 1.0
    except (FileNotFoundError, msgspec.MsgspecError, psutil.NoSuchProcess):
        return False


def missing_sites(folder: Folder, session: object) -> tuple[str, ...]:
    """Parties whose site is not connected.

    Raises:
        EngineUnavailable: the server does not answer.
    """
    try:
        connected = {client.name for client in session.get_system_info().client_info}  # type: ignore[attr-defined]
    except FtlError:
        raise
    except Exception as exc:
        raise EngineUnavailable(
            f"The federation server does not answer ({type(exc).__name__}).", cure="Read its log."
        ) from exc
    return tuple(party for party in folder.consortium.parties if party not in connected)


def _site(folder: Folder, party: str) -> Process:
    kit = site_kit(folder, party)
    return Process(
        name=f"site-{party}",
        command=_command("client.client_train", kit, "fed_client.json", f"uid={party}", f"org={party}"),
        directory=kit,
        environment=ENVIRONMENT,
        ready=partial(is_registered, kit),
    )


def _command(module: str, kit: Path, config: str, *settings: str) -> tuple[str, ...]:
    program = (sys.executable, "-u", "-m", f"nvflare.private.fed.app.{module}", "-m", str(kit.resolve()), "-s", config)
    return (*program, "--set", "secure_train=true", "config_folder=config", *settings)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex((LOOPBACK, port)) == 0
