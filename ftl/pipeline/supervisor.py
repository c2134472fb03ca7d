"""Starts, watches and stops services on one machine, each in a process group of its own, detached from the terminal.

What belongs to a service is found again by a mark in its environment, so that nothing is forgotten when a service has
started processes in other groups, and no stranger is stopped who has been given an old process number.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil

from ftl.errors import ServiceError

MARK = "FTL_SERVICE"
"""Environment variable that says which service of which consortium a process belongs to."""
POLL_SECONDS = 0.2
STOP_SECONDS = 15.0
"""A service has so long to end by itself."""
LOG_LINES = 15
SAME_START_SECONDS = 2.0
"""Two looks at one process' start time differ by less, even when the clock is set meanwhile."""

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Service:
    """One service.

    Attributes:
        name: unique in the consortium.
        command: program and arguments.
        home: folder of its log and its pid file.
        owner: names the consortium, so that two of them on one machine are told apart.
        ready: asks the service itself whether it can be used; must answer within a second or two.
        environment: added to the caller's own.
        directory: where it runs.
        port: what it listens on, None when nothing.
        address: what a person opens, empty when nothing.
        timeout: seconds it may take to become ready.
        prepare: done before it starts.
    """

    name: str
    command: Sequence[str]
    home: Path
    owner: str
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None
    port: int | None = None
    address: str = ""
    timeout: float = 120.0
    prepare: Callable[[], None] = lambda: None

    @property
    def log(self) -> Path:
        """Everything the service writes."""
        return self.home / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        """The started process and when it was created."""
        return self.home / f"{self.name}.pid"

    @property
    def mark(self) -> str:
        """Value of :data:`MARK` in the environment of every process of this service."""
        return f"{self.owner}:{self.name}"


class Started(msgspec.Struct, frozen=True):
    """Content of a pid file: the number alone may belong to somebody else by now."""

    pid: int
    created: float


class Status(msgspec.Struct, frozen=True):
    """What `ftl status` says of one service."""

    name: str
    state: str
    """``ready``, ``starting`` (runs, does not answer) or ``stopped``."""
    pid: int | None = None
    since: datetime | None = None
    address: str = ""
    processes: int = 0
    memory_mb: int = 0
    """Unique memory of all its processes plus their part of what they share, where the system tells; else resident."""


def bring_up(services: Iterable[Service], say: Say) -> None:
    """Start services and wait until all can be used; on any failure, and on Ctrl-C, stop those that were started.

    Args:
        services: none of them runs.
        say: told of each that has become ready, or was stopped again.

    Raises:
        ServiceError: one cannot be prepared or started, ended, or took too long.
    """
    started: list[Service] = []
    try:
        for service in services:
            started.append(service)  # before it starts: Ctrl-C may come between the two
            start(service)
        wait_ready(started, say)
    except BaseException:
        stop(started, say)
        raise


def start(service: Service) -> None:
    """Prepare and start one service, and do not wait until it is ready."""
    service.prepare()
    service.home.mkdir(parents=True, exist_ok=True)
    # SPT_NOENV keeps programs that rename themselves from overwriting their environment, and the mark in it.
    environment = {**inherited(), **service.environment, MARK: service.mark, "SPT_NOENV": "1", "PYTHONUNBUFFERED": "1"}
    handle = os.open(service.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        process = subprocess.Popen(
            list(service.command),
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=subprocess.STDOUT,
            cwd=service.directory,
            env=environment,
            start_new_session=True,
        )
    except OSError as exc:
        raise ServiceError(f"{service.name} cannot be started: {exc}.", cure="Is the package installed?") from exc
    finally:
        os.close(handle)
    threading.Thread(target=process.wait, daemon=True).start()  # leaves no zombie while we live
    with contextlib.suppress(psutil.NoSuchProcess):
        started = Started(process.pid, psutil.Process(process.pid).create_time())
        service.pid_file.write_bytes(msgspec.json.encode(started))


def inherited() -> dict[str, str]:
    """The caller's environment, but for settings of some other Airflow, which would reach ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}


def main_process(service: Service) -> psutil.Process | None:
    """The process that `start` made, if it still runs."""
    try:
        started = msgspec.json.decode(service.pid_file.read_bytes(), type=Started)
        process = psutil.Process(started.pid)
        same = abs(process.create_time() - started.created) < SAME_START_SECONDS
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (FileNotFoundError, msgspec.MsgspecError, psutil.NoSuchProcess):
        return None


def wait_ready(services: Sequence[Service], say: Say) -> None:
    """Wait until all of them can be used.

    Args:
        services: already started.
        say: told of each that has become ready.

    Raises:
        ServiceError: one ended or took too long; says which, with the end of its log.
    """
    waiting = list(services)
    while waiting:
        for service in tuple(waiting):
            process = main_process(service)
            elapsed = time.time() - process.create_time() if process else 0.0
            if process is None:
                raise ServiceError(f"{service.name} ended while starting.\n{log_tail(service)}", cure=_see(service))
            if service.ready():
                waiting.remove(service)
                say(f"{service.name} is ready after {elapsed:.0f} s" + (f": {service.address}" * bool(service.address)))
            elif elapsed > service.timeout:
                message = f"{service.name} was not ready within {service.timeout:.0f} s.\n{log_tail(service)}"
                raise ServiceError(message, cure=_see(service))
        if waiting:
            time.sleep(POLL_SECONDS)


def stop(services: Iterable[Service], say: Say) -> None:
    """Stop services, all at the same time; what does not end when asked is killed. Ctrl-C does not interrupt this."""
    with _uninterrupted():
        asked = {service: _ask_to_end(service) for service in services}
        deadline = time.monotonic() + STOP_SECONDS
        for service, found in asked.items():
            if found:
                _see_it_end(service, deadline)
                say(f"{service.name} stopped")
            service.pid_file.unlink(missing_ok=True)


def status(service: Service) -> Status:
    """Look at one service."""
    process = main_process(service)
    if process is None:
        return Status(service.name, "stopped")
    family = _processes(service)
    return Status(
        name=service.name,
        state="ready" if service.ready() else "starting",
        pid=process.pid,
        since=datetime.fromtimestamp(process.create_time(), UTC),
        address=service.address,
        processes=len(family),
        memory_mb=sum(map(_memory, family)) // 2**20,
    )


def log_tail(service: Service, lines: int = LOG_LINES) -> str:
    """The end of a service's log."""
    try:
        text = service.log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return "(it wrote no log)"
    return "\n".join(f"  | {line}" for line in text[-lines:]) or "(its log is empty)"


def _see(service: Service) -> str:
    return f"The whole log is in {service.log}."


def _processes(service: Service) -> list[psutil.Process]:
    """Everything that carries the service's mark, whatever group it has moved to."""
    return [process for process in psutil.process_iter() if _mark(process) == service.mark]


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


def _ask_to_end(service: Service) -> bool:
    """SIGTERM to the process that looks after the others, or to all of them where it is gone."""
    leader, found = main_process(service), _processes(service)
    _signal([leader] if leader else found, signal.SIGTERM)
    return bool(found)


def _see_it_end(service: Service, deadline: float) -> None:
    led = main_process(service) is not None
    while found := _processes(service):
        if time.monotonic() > deadline:
            _signal(found, signal.SIGKILL)
        elif led and main_process(service) is None:
            _signal(found, signal.SIGTERM)  # nobody is left who would pass it on
            led = False
        time.sleep(POLL_SECONDS / 2)


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _memory(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
        return int(getattr(full, "pss", full.rss))
    except psutil.Error:
        return 0


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until what we stop is stopped; only the main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
