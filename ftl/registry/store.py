"""Where MLflow keeps runs and models: its server when one runs, else the same SQLite file directly.

Both ways lead to the same runs: the server that :func:`server_command` starts keeps its tables in the file and its
artifacts in the folder that are used without it.
"""

import os
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from ftl.consortium import Folder
from ftl.crypto import KeyStore
from ftl.errors import FtlError, RegistryError, RegistryUnavailable
from ftl.federation import ports

WEBHOOK_KEY = "mlflow-webhooks.key"
_SILENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
ANSWER_SECONDS = 0.5
"""Longest wait for the server to say that it is there."""


def home(folder: Folder) -> Path:
    """The coordinator's folder for MLflow: ``mlflow.db`` and ``artifacts/``."""
    return folder.coordinator / "mlflow"


def tracking_uri(folder: Folder) -> str:
    """Address of the running MLflow server, else of its SQLite file.

    Args:
        folder: the consortium.

    Returns:
        ``http://host:port`` when the consortium's MLflow server answers, else ``sqlite:///…``.
    """
    url = f"http://{folder.consortium.coordinator.host}:{ports(folder)['mlflow']}"
    return url if _answers(url) else _database(folder)


def server_command(folder: Folder, port: int) -> list[str]:
    """Command line of the MLflow server over this consortium's runs; start it with :func:`server_environment`."""
    home(folder).mkdir(parents=True, exist_ok=True)
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", folder.consortium.coordinator.host, "--port", str(port)),
        *("--backend-store-uri", _database(folder), "--artifacts-destination", artifacts(folder), "--workers", "1"),
    ]


def server_environment(folder: Folder) -> dict[str, str]:
    """What the server's environment needs beside the caller's own.

    No reports to the makers of MLflow, and a lasting key for the secrets of webhooks, which it otherwise cannot read
    after a restart. Only where nobody but this machine reaches the server may it tell a gateway on this machine, too:
    elsewhere its own guard against webhooks into the private network stays.

    Args:
        folder: the consortium.
    """
    key = KeyStore(folder.coordinator / "keys").key(WEBHOOK_KEY)
    return _SILENT | {"MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": urlsafe_b64encode(key).decode()} | _webhooks(folder)


def _webhooks(folder: Folder) -> dict[str, str]:
    if folder.consortium.coordinator.host not in {"127.0.0.1", "::1", "localhost"}:
        return {}
    return {"MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "https,http", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true"}


def artifacts(folder: Folder) -> str:
    """URI of the folder that holds plots and bundles."""
    return (home(folder).resolve() / "artifacts").as_uri()


def client(uri: str) -> Any:
    """An ``MlflowClient`` for tracking and registry.

    Args:
        uri: as :func:`tracking_uri` returns.

    Returns:
        mlflow.MlflowClient.
    """
    _settle_environment()
    from mlflow import MlflowClient

    _prepare(uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def current(uri: str) -> Iterator[Any]:
    """MLflow's fluent interface bound to `uri`, restored afterwards; for the calls that the client does not offer."""
    _settle_environment()
    import mlflow

    _prepare(uri)
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield mlflow
    finally:
        mlflow.set_tracking_uri(before)


@contextmanager
def asking(what: str, uri: str) -> Iterator[None]:
    """Turn MLflow's and the network's exceptions into ours, naming what was asked for.

    Args:
        what: for the message, for example ``"registering credit_risk"``.
        uri: of the store.

    Yields:
        nothing.

    Raises:
        RegistryUnavailable: the store does not answer.
        RegistryError: it refuses.
    """
    _settle_environment()
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        yield
    except FtlError:
        raise
    except (MlflowException, RequestException, OSError) as exc:
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        if _passing(exc):
            raise RegistryUnavailable(
                f"MLflow at {uri} does not answer while {what}: {reason}.", cure="Start it and try again."
            ) from exc
        raise RegistryError(
            f"MLflow at {uri} refused {what}: {reason}.", cure="Look at the MLflow server's log."
        ) from exc


def _passing(exc: Exception) -> bool:
    """Whether it was the way to MLflow that failed; what MLflow itself says stays the same when asked again."""
    if not hasattr(exc, "error_code"):
        return True
    # MLflow wraps a refused connection into its own exception of code INTERNAL_ERROR, after its retries.
    return exc.error_code == "TEMPORARILY_UNAVAILABLE" or "API request to" in str(exc)


def _database(folder: Folder) -> str:
    return f"sqlite:///{home(folder).resolve() / 'mlflow.db'}"


def _prepare(uri: str) -> None:
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)


def _settle_environment() -> None:
    """MLflow reads these when it is first imported and knows no other way to be told.

    It must not report to its makers from inside a bank, and must say within seconds that its server is away: by default
    it tries for minutes.
    """
    quiet = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
    for name, value in (_SILENT | quiet | patience).items():
        os.environ.setdefault(name, value)


def _answers(url: str) -> bool:
    """Whether an MLflow server is there; any other program on that port does not say so."""
    try:
        with urlopen(f"{url}/health", timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - always http, to our own host
            return bool(answer.read(16) == b"OK")
    except (OSError, HTTPException):
        return False
