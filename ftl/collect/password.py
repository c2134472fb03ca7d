"""Where a source's password and other secrets come from."""

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Protocol

from ftl.consortium.stores import Secret
from ftl.errors import SourceError


class Guarded(Protocol):
    """Settings that say where a password is."""

    @property
    def password_env(self) -> str | None:
        """Environment variable."""
        ...

    @property
    def password_file(self) -> PurePosixPath | None:
        """File."""
        ...


def password_of(label: str, settings: Guarded, root: Path) -> str | None:
    """The password; None where the settings name neither a file nor a variable.

    Args:
        label: how messages name the source.
        settings: of the source.
        root: folder against which a file's path is resolved.

    Raises:
        SourceError: the file or the environment variable is missing.
    """
    if settings.password_file is not None:
        return _from_file(f"{label}.password_file", root / settings.password_file)
    if settings.password_env is not None:
        return _from_environment(f"{label}.password_env", settings.password_env)
    return None


def secrets_of(label: str, secrets: Mapping[str, Secret], root: Path) -> dict[str, str]:
    """Name to value.

    Args:
        label: how messages name the source.
        secrets: of its settings.
        root: folder against which a file's path is resolved.

    Raises:
        SourceError: a file or an environment variable is missing.
    """
    found = {}
    for name, secret in secrets.items():
        if secret.file is not None:
            found[name] = _from_file(f"{label}.secrets.{name}.file", root / secret.file)
        elif secret.env is not None:
            found[name] = _from_environment(f"{label}.secrets.{name}.env", secret.env)
    return found


def _from_file(setting: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as exc:
        raise SourceError(
            f"{setting}: {path} cannot be read ({exc.strerror}).",
            cure="Write the secret into that file and let only this user read it (chmod 600).",
        ) from exc


def _from_environment(setting: str, variable: str) -> str:
    if variable not in os.environ:
        raise SourceError(
            f"{setting}: the environment variable {variable} is not set.",
            cure=f"Export {variable}, or name a file.",
        )
    return os.environ[variable]
