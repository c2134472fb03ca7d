"""Where a source's files lie: a folder of this machine, or any store that fsspec knows behind a URL."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import psutil

from ftl.errors import SourceError, SourceUnavailable

_TAGS = ("ETag", "etag", "md5Hash", "CRC", "mtime", "LastModified", "Last-Modified", "last_modified", "updated")
"""What stores tell of a file's state, the surest first."""
_BLOCK_BYTES = 1 << 20


class Store(Protocol):
    """A folder with files, by their names relative to it."""

    def names(self) -> tuple[str, ...]:
        """All files, also those in folders below, in order.

        Raises:
            SourceError: there is no such folder, or it may not be listed.
        """
        ...

    def matching(self, pattern: str) -> list[str]:
        """Files of this name or glob, in order."""
        ...

    def state(self, name: str) -> str:
        """A text that differs when the file may have changed."""
        ...

    def local(self, names: Sequence[str]) -> AbstractContextManager[list[Path]]:
        """The files as paths of this machine, for as long as it is entered."""
        ...


class LocalFolder:
    """A folder of this machine; its files are read where they lie.

    Args:
        label: how messages name the source.
        folder: the folder.
    """

    def __init__(self, label: str, folder: Path) -> None:
        self._label = label
        self._folder = folder

    def __str__(self) -> str:
        return str(self._folder)

    def names(self) -> tuple[str, ...]:
        """All files."""
        try:
            next(self._folder.iterdir(), None)  # of a folder that may not be read, a search tells that it is empty
        except PermissionError as exc:
            raise SourceError(
                f"{self._label}.path: this user may not list {self._folder}.",
                cure="Let it read and enter that folder and enter those above it.",
            ) from exc
        except OSError as exc:
            raise SourceError(
                f"{self._label}.path: there is no folder {self._folder}.",
                cure="Correct the path; a relative one starts at the folder of consortium.yaml.",
            ) from exc
        return tuple(sorted(self._named(path) for path in self._folder.rglob("*") if path.is_file()))

    def matching(self, pattern: str) -> list[str]:
        """Files of this name or glob."""
        if (self._folder / pattern).is_file():
            return [pattern]
        return [self._named(path) for path in sorted(self._folder.glob(pattern)) if path.is_file()]

    def state(self, name: str) -> str:
        """Size and time."""
        stat = (self._folder / name).stat()
        return f"{stat.st_size}@{stat.st_mtime_ns}"

    @contextmanager
    def local(self, names: Sequence[str]) -> Iterator[list[Path]]:
        """The files themselves."""
        paths = [self._folder / name for name in names]
        for path in paths:
            if path.exists() and not os.access(path, os.R_OK, effective_ids=True):
                raise SourceError(f"{self._label}: this user may not read {path}.", cure="Let it read the file.")
        yield paths

    def _named(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


class RemoteFolder:
    """A folder of a store; what is read is copied into the node's own folder first and removed afterwards.

    Args:
        label: how messages name the source.
        url: of the folder, for example ``s3://bucket/loans``.
        options: for the store's fsspec implementation, secrets included.
        secrets: values that no message may show.
        staging: folder for the copies.
    """

    def __init__(self, label: str, url: str, options: Mapping[str, Any], secrets: Sequence[str], staging: Path) -> None:
        self._label, self._url = label, url
        self._options, self._secrets, self._staging = options, secrets, staging

    def __str__(self) -> str:
        return self._url

    def names(self) -> tuple[str, ...]:
        """All files."""
        with self._translated():
            system, root = self._opened
            system.invalidate_cache()
            found = tuple(sorted(self._named(path) for path in system.find(root)))
            present = bool(found) or system.exists(root)
        if not present:
            raise SourceUnavailable(
                f"{self._label}.path: nothing is found at {self._url}.",
                cure="Correct the URL, or look whether the store can be reached from this machine.",
            )
        return found

    def matching(self, pattern: str) -> list[str]:
        """Files of this name or glob."""
        known = self.names()
        if pattern in known:
            return [pattern]
        with self._translated():
            found = {self._named(path) for path in self._opened[0].glob(self._path(pattern))}
        return sorted(found & set(known))

    def state(self, name: str) -> str:
        """Size and what the store says of the file's state; a digest of its content where it says nothing."""
        with self._translated():
            info = self._opened[0].info(self._path(name))
            tag = next((info[key] for key in _TAGS if info.get(key) is not None), None)
            return f"{info.get('size')}@{self._digest(name) if tag is None else tag}"

    @contextmanager
    def local(self, names: Sequence[str]) -> Iterator[list[Path]]:
        """Copies of the files."""
        self._staging.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sweep()
        with tempfile.TemporaryDirectory(prefix=f"{os.getpid()}-", dir=self._staging) as folder:
            paths = [Path(folder) / name for name in names]
            with self._translated():
                for name, path in zip(names, paths, strict=True):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    self._opened[0].get_file(self._path(name), str(path))
            yield paths

    def _sweep(self) -> None:
        """Remove the copies of processes that were killed."""
        import shutil

        for folder in self._staging.iterdir():
            owner = folder.name.partition("-")[0]
            if owner.isdecimal() and not psutil.pid_exists(int(owner)):
                shutil.rmtree(folder, ignore_errors=True)

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        import fsspec

        system, root = fsspec.core.url_to_fs(self._url, skip_instance_cache=True, **self._options)
        return system, str(root).rstrip("/")

    def _path(self, name: str) -> str:
        root = self._opened[1]
        return f"{root}/{name}" if root else name

    def _named(self, path: str) -> str:
        return path.removeprefix(self._opened[1]).lstrip("/")

    def _digest(self, name: str) -> str:
        digest = hashlib.sha256()
        with self._opened[0].open(self._path(name), "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except SourceError:
            raise
        except ImportError as exc:
            raise SourceError(
                f"{self._label}.path: {self._url} needs a package that is not installed.",
                cure=f"{self._first_line(exc)} (pip install, at this node).",
            ) from exc
        except (ValueError, TypeError, FileNotFoundError, PermissionError) as exc:
            raise SourceError(
                f"{self._label}.path: {self._url} cannot be read: {self._first_line(exc)}.",
                cure="Correct `path`, `options` and `secrets`, or let this user read it.",
            ) from exc
        except Exception as exc:  # each store has errors of its own, and no class in common
            raise SourceUnavailable(
                f"{self._label}.path: {self._url} does not answer as it should: {self._first_line(exc)}.",
                cure="Check `path`, `options` and `secrets`, and whether the store can be reached from this machine.",
            ) from exc

    def _first_line(self, exc: Exception) -> str:
        text = next(iter(str(exc).strip().splitlines()), "") or type(exc).__name__
        for secret in self._secrets:
            text = text.replace(secret, "…") if secret else text
        return text.rstrip(".")
