"""Which port each service of a consortium listens on: declared in `consortium.yaml`, or picked once and remembered."""

import socket
from collections.abc import Collection

import msgspec
import psutil

from ftl.consortium import Consortium, Folder
from ftl.errors import ServiceError
from ftl.federation.parts import write_atomically

LOOPBACK = "127.0.0.1"


def ports(folder: Folder) -> dict[str, int]:
    """Port of every service: ``federation``, ``admin``, ``mlflow``, ``airflow``, ``gateway`` and ``score-PARTY``.

    A declared port is taken as it is. For a declared 0 a free one is picked and remembered in the coordinator's
    `ports.json`, so that the answer stays the same while the services run.
    """
    declared, remembered = _declared(folder.consortium), _remembered(folder)
    chosen = {name: port or remembered.get(name, 0) for name, port in declared.items()}
    missing = [name for name, port in chosen.items() if not port]
    if missing:
        _pick(chosen, missing)
    if chosen != remembered:
        _remember(folder, chosen)
    return chosen


def claim(folder: Folder, services: Collection[str]) -> dict[str, int]:
    """Make sure that `services`, which are about to be started, can have their ports.

    A picked port that somebody has taken meanwhile is replaced by another one.

    Args:
        folder: the consortium.
        services: names as `ports` gives them; none of them may be running.

    Returns:
        as `ports`.

    Raises:
        ServiceError: a declared port is taken; says by which process.
    """
    declared, chosen = _declared(folder.consortium), ports(folder)
    wanted = {*services, *(["admin"] if "federation" in services else [])}  # the same process listens on both
    taken = [name for name in chosen if name in wanted and _listening(chosen[name])]
    for name in taken:
        if declared[name]:
            raise ServiceError(
                f"Port {declared[name]} for {name} is taken by {holder(declared[name])}.",
                cure=f"Stop it, or declare another port for {name} in consortium.yaml (0 picks a free one).",
            )
    if taken:
        _pick(chosen, taken)
        _remember(folder, chosen)
    return chosen


def holder(port: int) -> str:
    """Who listens on a port, for a message: the process' name and number, or that it cannot be seen."""
    for connection in psutil.net_connections(kind="tcp"):
        if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
            if connection.pid is None:
                break
            try:
                process = psutil.Process(connection.pid)
                return f"{process.name()} (process {process.pid}: {' '.join(process.cmdline())[:120]})"
            except psutil.NoSuchProcess:
                break
    return "another process (not visible to this user)"


def _declared(consortium: Consortium) -> dict[str, int]:
    coordinator = consortium.coordinator
    return {
        "federation": coordinator.federation_port,
        "admin": coordinator.admin_port,
        "mlflow": coordinator.mlflow_port,
        "airflow": coordinator.airflow_port,
        "gateway": coordinator.gateway_port,
        **{f"score-{name}": party.score_port for name, party in consortium.parties.items()},
    }


def _remembered(folder: Folder) -> dict[str, int]:
    try:
        return msgspec.json.decode((folder.coordinator / "ports.json").read_bytes(), type=dict[str, int])
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}


def _remember(folder: Folder, chosen: dict[str, int]) -> None:
    folder.coordinator.mkdir(parents=True, exist_ok=True)
    write_atomically(folder.coordinator / "ports.json", msgspec.json.format(msgspec.json.encode(chosen), indent=1))


def _pick(chosen: dict[str, int], names: list[str]) -> None:
    """Give each of `names` a free port; all are held open until the last is found, so that they differ."""
    others = {port for name, port in chosen.items() if name not in names}
    held: list[socket.socket] = []
    try:
        for name in names:
            while True:
                probe = socket.socket()
                held.append(probe)
                probe.bind((LOOPBACK, 0))
                if probe.getsockname()[1] not in others:
                    break
            chosen[name] = probe.getsockname()[1]
    finally:
        for probe in held:
            probe.close()


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return True
    return False
