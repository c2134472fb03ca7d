"""Secrets in files that only their owner may read, each written once."""

import os
import re
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from ftl.errors import CipherError

KEY_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class KeyStore:
    """A folder of secrets, mode 0700; every file in it has mode 0600.

    Attributes:
        folder: created when the first secret is written.
    """

    folder: Path

    def key(self, name: str) -> bytes:
        """The 32 random bytes under `name`, drawn from the operating system's generator when there are none yet.

        Two processes that ask at the same time get the same key.

        Raises:
            CipherError: the file is not a key, or others may read it.
        """
        create_once(self._path(name), secrets.token_bytes(KEY_BYTES))
        key = self.read(name)
        if len(key) != KEY_BYTES:
            raise CipherError(
                f"{self._path(name)} holds {len(key)} bytes; a key has {KEY_BYTES}.",
                cure="Restore it from a backup, or remove it and everything that was made with it.",
            )
        return key

    def keep(self, name: str, secret: bytes) -> None:
        """Keep a secret that came from elsewhere; keeping the same again does nothing.

        Raises:
            CipherError: another secret is kept under that name.
        """
        if not create_once(self._path(name), secret) and not secrets.compare_digest(self.read(name), secret):
            raise CipherError(
                f"{self._path(name)} already holds another secret.",
                cure="Keep the new one under another name, or remove the old one first.",
            )

    def read(self, name: str) -> bytes:
        """The secret under `name`.

        Raises:
            CipherError: there is none, or others may read it.
        """
        return read_secret(self._path(name))

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise CipherError(f"{name!r} cannot name a key.", cure="Use letters, digits, '.', '_' and '-'.")
        return self.folder / name


def read_secret(path: Path) -> bytes:
    """What a secret's file holds.

    Raises:
        CipherError: it cannot be read, or others may read it too.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise CipherError(f"{path} may be read by others (mode {mode:04o}).", cure=f"Run: chmod 600 {path}")
        return path.read_bytes()
    except OSError as exc:
        raise CipherError(f"The key {path} cannot be read: {exc.strerror}.", cure="Provision the consortium.") from exc


def create_once(path: Path, data: bytes, mode: int = 0o600) -> bool:
    """Write a file that is not there yet, whole or not at all.

    Args:
        path: its folder is created with mode 0700.
        data: what it shall hold.
        mode: of the file.

    Returns:
        False when the file was there already; it is left as it is.

    Raises:
        CipherError: it cannot be written.
    """
    if path.exists():
        return False
    temporary = _beside(path, data, mode)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as exc:
        raise CipherError(f"{path} cannot be written: {exc.strerror}.") from exc
    finally:
        temporary.unlink()
    return True


def replace(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file anew; who reads it meanwhile sees the old or the new one, whole.

    Raises:
        CipherError: it cannot be written.
    """
    _beside(path, data, mode).replace(path)


def _beside(path: Path, data: bytes, mode: int) -> Path:
    """A new file with that content in the same folder, on disk."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError as exc:
        raise CipherError(f"{path} cannot be written: {exc.strerror}.", cure="See who owns the folder.") from exc
    return temporary
