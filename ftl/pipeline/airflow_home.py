"""Airflow's own folder at the coordinator: its settings, secrets, database, and how its four parts are started.

Everything is in `airflow.cfg`, so that `AIRFLOW_HOME` alone is enough for any `airflow …` command. Secrets are drawn
once and never leave the folder, which only its owner may read.
"""

import json
import secrets
import sys
from configparser import RawConfigParser
from importlib.metadata import version
from pathlib import Path

import ftl
from ftl.consortium import Folder
from ftl.pipeline.databases import bring_up_to_date

ADMIN = "admin"
PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
PARALLEL_TASKS = 4


def home(folder: Folder) -> Path:
    """`AIRFLOW_HOME`."""
    return folder.coordinator.resolve() / "airflow"


def command(part: str) -> list[str]:
    """Command line of one of :data:`PARTS`."""
    # Logs are read from the disk they share: two servers for them would only take ports and memory.
    quiet = ["--skip-serve-logs"] if part in {"scheduler", "triggerer"} else []
    return [sys.executable, "-m", "airflow", part, *quiet]


def environment(folder: Folder) -> dict[str, str]:
    """What every Airflow process needs beside the caller's own environment."""
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "GX_ANALYTICS_ENABLED": "false"}
    return {"AIRFLOW_HOME": str(home(folder)), "AIRFLOW_CONFIG": str(home(folder) / "airflow.cfg"), **quiet}


def password(folder: Folder) -> str:
    """Of the user :data:`ADMIN`; drawn by :func:`prepare`."""
    stored: dict[str, str] = json.loads((home(folder) / "passwords.json").read_text(encoding="utf-8"))
    return stored[ADMIN]


def shipped(name: str) -> Path:
    """`dags` or `plugins`: beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(ftl.__file__).resolve().parent
    inside = package / "_shipped" / name
    return inside if inside.is_dir() else package.parent / name


def prepare(folder: Folder, port: int) -> None:
    """Write settings and secrets, and bring the database up to date. Quick when nothing has changed.

    Args:
        folder: the consortium.
        port: of the API and the pages.

    Raises:
        ServiceError: Airflow cannot make its database.
    """
    where = home(folder)
    where.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write_once(where / "passwords.json", json.dumps({ADMIN: secrets.token_urlsafe(12)}))
    _write_once(where / "secrets.json", json.dumps(_new_secrets()))
    _write_settings(folder, port)
    bring_up_to_date(
        where / "airflow.db",
        version("apache-airflow"),
        [sys.executable, "-m", "airflow", "db", "migrate"],
        environment(folder) | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:///{database}"},
    )


def _new_secrets() -> dict[str, str]:
    from cryptography.fernet import Fernet

    return {
        "fernet_key": Fernet.generate_key().decode(),
        "secret_key": secrets.token_urlsafe(48),
        "jwt_secret": secrets.token_urlsafe(64),
    }


def _write_settings(folder: Folder, port: int) -> None:
    where, host = home(folder), folder.consortium.coordinator.host
    drawn = json.loads((where / "secrets.json").read_text(encoding="utf-8"))
    settings = {
        "core": {
            "dags_folder": shipped("dags"),
            "plugins_folder": shipped("plugins"),
            "executor": "ftl_airflow.executor.WarmLocalExecutor",
            "parallelism": PARALLEL_TASKS,
            "load_examples": False,
            "dags_are_paused_at_creation": False,
            "simple_auth_manager_users": f"{ADMIN}:admin",
            "simple_auth_manager_passwords_file": where / "passwords.json",
            "fernet_key": drawn["fernet_key"],
        },
        "database": {"sql_alchemy_conn": f"sqlite:///{where / 'airflow.db'}?timeout=30"},
        "logging": {"base_log_folder": where / "logs"},
        "api": {
            "host": host,
            "port": port,
            "base_url": f"http://{host}:{port}",
            "secret_key": drawn["secret_key"],
            "workers": 1,
        },
        "api_auth": {"jwt_secret": drawn["jwt_secret"]},
        # More often than by default: a step follows the one before it sooner.
        # A task whose process was killed with its services is seen to be lost within a minute, not five.
        "scheduler": {"scheduler_idle_sleep_time": 0.5, "task_instance_heartbeat_timeout": 60},
        "dag_processor": {"parsing_processes": 1, "refresh_interval": 60, "min_file_process_interval": 60},
        "ftl": {"folder": folder.root.resolve()},
    }
    parser = RawConfigParser()
    # Airflow reads the file with interpolation: a lone % would be taken for a placeholder.
    parser.read_dict({part: {k: str(v).replace("%", "%%") for k, v in its.items()} for part, its in settings.items()})
    path = where / "airflow.cfg"
    path.touch(mode=0o600)
    with path.open("w", encoding="utf-8") as file:
        parser.write(file)


def _write_once(path: Path, text: str) -> None:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
