"""Runs an application with granian."""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ftl.errors import ServiceError
from ftl.serving.asgi import App
from ftl.serving.rsgi import Rsgi

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


BACKLOG = 4096
"""Connections that may wait to be accepted."""
SWITCH_SECONDS = 0.0005
"""A thread that looks into the registry or the lake gives way to requests after so long; Python's own is 5 ms."""
MOST_CONNECTIONS = 16_384
"""Of one process, silent ones included; granian would take 4,096 over all processes, and let further ones wait."""


class JsonLines(logging.Formatter):
    """One JSON object per event: time, level, name of the event, and what was passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """As :class:`logging.Formatter`.

        Args:
            record: of the event.
        """
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        extra = {name: value for name, value in vars(record).items() if name not in STANDARD}
        event = {"at": at, "level": record.levelname.lower(), "event": record.getMessage(), **extra}
        if record.exc_info and record.exc_info[0]:
            event["kind"] = record.exc_info[0].__name__  # never the traceback: its values may name a person
        return json.dumps(event, default=str, ensure_ascii=False)


def log_to_stderr() -> None:
    """Structured logs of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)


def serve(
    build: Callable[[], App],
    host: str,
    port: int,
    *,
    certificate: tuple[Path, Path] | None = None,
    clients: Path | None = None,
    processes: int = 1,
) -> None:
    """Serve until told to stop; requests under way are finished first.

    Args:
        build: makes the application in the serving process.
        host: address to listen on.
        port: to listen on.
        certificate: (certificate, key) for TLS; plain HTTP when None.
        clients: authority whose certificates clients must show; anyone may come when None.
        processes: that share the port; one that dies is replaced.

    Raises:
        ServiceError: the port is taken or a file is unreadable.
    """
    import resource

    from granian import Granian
    from granian.constants import HTTPModes, Interfaces
    from granian.log import LogLevels

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = Granian(
        "ftl.serving",
        address=host,
        port=port,
        interface=Interfaces.RSGI,
        workers=processes,
        respawn_failed_workers=True,
        backlog=BACKLOG,
        backpressure=MOST_CONNECTIONS,
        http=HTTPModes.http1,
        websockets=False,
        log_access=False,
        log_level=LogLevels.warning,
        ssl_cert=certificate[0] if certificate else None,
        ssl_key=certificate[1] if certificate else None,
        ssl_ca=clients,
        ssl_client_verify=clients is not None,
    )
    try:
        server.serve(target_loader=lambda *_: _loaded(build), wrap_loader=False)
    except (OSError, RuntimeError) as exc:
        raise ServiceError(f"Cannot serve on {host}:{port}: {exc}.", cure="Is the port free?") from exc


def _loaded(build: Callable[[], App]) -> Rsgi:
    """The application in the process that serves it."""
    sys.setswitchinterval(SWITCH_SECONDS)
    return Rsgi(build())
