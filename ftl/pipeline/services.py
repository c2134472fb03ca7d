"""Every service of a consortium on this one machine: start, stop, look. What runs and is well is left alone."""

import signal
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

import httpx

from ftl import federation, registry
from ftl.consortium import Folder
from ftl.pipeline import airflow_home
from ftl.pipeline.databases import bring_up_to_date
from ftl.pipeline.supervisor import Say, Service, Status, bring_up, main_process, stop
from ftl.pipeline.supervisor import status as status_of
from ftl.serving import provision_scoring

ANSWER_SECONDS = 2.0
"""A service that is ready answers its health question sooner."""
SERVER_SECONDS = 240.0
"""Longest start: on two busy cores, with every other service starting beside it."""

FEDERATION, MLFLOW, AIRFLOW, SERVING = "federation", "mlflow", "airflow", "serving"
GROUPS = (FEDERATION, MLFLOW, SERVING, AIRFLOW)
"""What `only` may name, in the order of starting."""
MLFLOW_TABLES = """
from mlflow.server.handlers import initialize_backend_stores
initialize_backend_stores("sqlite:///{database}", "sqlite:///{database}", "mlflow-artifacts:/")
"""
"""What `mlflow server` does before it listens."""
CONDUCTING = frozenset({"airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"})
HEALTH_KEYS = {
    "api-server": "metadatabase",
    "scheduler": "scheduler",
    "dag-processor": "dag_processor",
    "triggerer": "triggerer",
}
"""Part of Airflow to its name in `/api/v2/monitor/health`."""


def up(folder: Folder, only: Collection[str] | None = None, progress: Say = print) -> None:
    """Start the services that do not run yet, and wait until they can be used.

    Args:
        folder: the consortium.
        only: some of :data:`GROUPS`; all by default.
        progress: told of every service that becomes ready.

    Raises:
        ServiceError: a port is taken, or a service does not start. What this call started is stopped again, as it is on
            Ctrl-C.
    """
    chosen = [group for group in GROUPS if only is None or group in only]
    running = {service.name for service in _services(folder, chosen) if _is_well(service, progress)}
    needed = [port for name, ports in _port_names(folder, chosen).items() if name not in running for port in ports]
    federation.claim(folder, needed)
    _provision(folder, chosen)
    bring_up([service for service in _services(folder, chosen) if service.name not in running], progress)


def down(folder: Folder, progress: Say = print) -> None:
    """Stop everything that belongs to the consortium."""
    services = _services(folder, GROUPS)
    # Tasks that are cut off tell Airflow's API so, and MLflow: these two go last.
    conducting = [service for service in services if service.name in CONDUCTING]
    stop(conducting, progress)
    stop([service for service in services if service.name not in CONDUCTING], progress)


def status(folder: Folder) -> list[Status]:
    """State, address and memory of every service."""
    return [status_of(service) for service in _services(folder, GROUPS)]


@contextmanager
def engine_up(folder: Folder, progress: Say = print) -> Iterator[None]:
    """The federation server and its sites for as long as the block lasts; longer, where they ran before."""
    services = _services(folder, [FEDERATION])
    before = {service.name for service in services if main_process(service)}
    up(folder, [FEDERATION], progress)
    try:
        yield
    finally:
        stop([service for service in services if service.name not in before], progress)


def serve(folder: Folder, progress: Say = print) -> None:
    """Score servers and gateway until Ctrl-C or SIGTERM."""
    with term_as_interrupt():
        before = {service.name for service in _services(folder, [SERVING]) if main_process(service)}
        up(folder, [SERVING], progress)
        services = _services(folder, [SERVING])
        try:
            while all(main_process(service) for service in services):
                time.sleep(1)
        except KeyboardInterrupt:
            progress("stopping")
        finally:
            stop([service for service in services if service.name not in before], progress)


def addresses(folder: Folder) -> dict[str, str]:
    """What a person opens: ``airflow``, ``mlflow`` and ``gateway`` to their URLs."""
    chosen, host = federation.ports(folder), folder.consortium.coordinator.host
    return {name: f"http://{host}:{chosen[name]}" for name in ("airflow", "mlflow", "gateway")}


def _is_well(service: Service, progress: Say) -> bool:
    """Whether it runs and answers; one that is still starting or stuck is stopped, to be started anew."""
    if main_process(service) is None:
        stop([service], progress)  # what a crash may have left behind
        return False
    if service.ready():
        return True
    progress(f"{service.name} runs but does not answer: starting it anew")
    stop([service], progress)
    return False


def _provision(folder: Folder, groups: Collection[str]) -> None:
    """Certificates and keys, as far as they are missing."""
    if FEDERATION in groups:
        federation.provision(folder)
    if SERVING in groups:
        provision_scoring(folder, datetime.now(UTC))


def _port_names(folder: Folder, groups: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Service to the names its ports have in `federation.ports`."""
    names: dict[str, dict[str, tuple[str, ...]]] = {
        FEDERATION: {"federation-server": ("federation", "admin")},
        MLFLOW: {"mlflow": ("mlflow",)},
        SERVING: {name: (name,) for name in ("gateway", *(f"score-{party}" for party in folder.consortium.parties))},
        AIRFLOW: {_airflow_name("api-server"): ("airflow",)},
    }
    return {service: port for group in groups for service, port in names[group].items()}


def _services(folder: Folder, groups: Collection[str]) -> list[Service]:
    make = {FEDERATION: _federation, MLFLOW: _mlflow, SERVING: _serving, AIRFLOW: _airflow}
    return [service for group in GROUPS if group in groups for service in make[group](folder)]


def _service(folder: Folder, name: str, command: Sequence[str], ready: Callable[[], bool], **more: object) -> Service:
    home = folder.coordinator.resolve() / "logs"
    owner = str(folder.root.resolve())
    return Service(name, tuple(command), home, owner, ready, timeout=SERVER_SECONDS, **more)  # type: ignore[arg-type]


def _federation(folder: Folder) -> list[Service]:
    return [
        _service(
            folder,
            process.name,
            process.command,
            process.ready,
            environment=process.environment,
            directory=process.directory,
        )
        for process in federation.processes(folder)
    ]


def _mlflow(folder: Folder) -> list[Service]:
    port, url = federation.ports(folder)["mlflow"], addresses(folder)["mlflow"]
    # Without its job runner: eight idle processes and 1.4 GB for features that are not used here.
    environment = registry.server_environment(folder) | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}

    def prepare() -> None:
        database = folder.coordinator.resolve() / "mlflow" / "mlflow.db"
        bring_up_to_date(database, version("mlflow"), [sys.executable, "-c", MLFLOW_TABLES], environment)

    served = {"environment": environment, "port": port, "address": url, "prepare": prepare}
    return [_service(folder, "mlflow", registry.server_command(folder, port), _answers(f"{url}/health"), **served)]


def _serving(folder: Folder) -> list[Service]:
    chosen, root, url = federation.ports(folder), str(folder.root.resolve()), addresses(folder)["gateway"]
    services = []
    for party in folder.consortium.parties:
        port = chosen[f"score-{party}"]
        command = [sys.executable, "-m", "ftl.serving.party", root, party, "--port", str(port)]
        services.append(_service(folder, f"score-{party}", command, _listens(folder, port), port=port))
    command = [sys.executable, "-m", "ftl.serving.gateway", root, "--port", str(chosen["gateway"])]
    ready = _answers(f"{url}/healthz")
    gateway = _service(folder, "gateway", command, ready, port=chosen["gateway"], address=f"{url}/docs")
    return [*services, gateway]


def _airflow(folder: Folder) -> list[Service]:
    port, url = federation.ports(folder)["airflow"], addresses(folder)["airflow"]
    prepare = partial(airflow_home.prepare, folder, port)
    services = []
    for part in airflow_home.PARTS:
        served = {"port": port, "address": url, "prepare": prepare} if part == airflow_home.PARTS[0] else {}
        key = HEALTH_KEYS[part]
        ready = _airflow_says_healthy(f"{url}/api/v2/monitor/health", key)
        environment = airflow_home.environment(folder)
        services.append(
            _service(folder, _airflow_name(part), airflow_home.command(part), ready, environment=environment, **served)
        )
    return services


def _airflow_name(part: str) -> str:
    return f"airflow-{part}"


def _airflow_says_healthy(url: str, key: str) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            answer = httpx.get(url, timeout=ANSWER_SECONDS, trust_env=False)
            return answer.is_success and answer.json()[key]["status"] == "healthy"
        except (httpx.HTTPError, ValueError, KeyError):
            return False

    return ask


def _answers(url: str) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            return httpx.get(url, timeout=ANSWER_SECONDS, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    return ask


def _listens(folder: Folder, port: int) -> Callable[[], bool]:
    address = (folder.consortium.coordinator.host, port)

    def ask() -> bool:
        try:
            socket.create_connection(address, ANSWER_SECONDS).close()
        except OSError:
            return False
        return True

    return ask


@contextmanager
def term_as_interrupt() -> Iterator[None]:
    """A service stopped by its supervisor ends as on Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
