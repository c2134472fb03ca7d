"""Where a source's password comes from."""

import os
from pathlib import Path, PurePosixPath
from typing import Protocol

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
        path = root / settings.password_file
        try:
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as exc:
            raise SourceError(
                f"{label}.password_file: {path} cannot be read ({exc.strerror}).",
                cure="Write the password into that file and let only this user read it (chmod 600).",
            ) from exc
    if settings.password_env is None:
        return None
    if settings.password_env not in os.environ:
        raise SourceError(
            f"{label}.password_env: the environment variable {settings.password_env} is not set.",
            cure=f"Export {settings.password_env}, or use password_file.",
        )
    return os.environ[settings.password_env]
