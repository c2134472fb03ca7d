"""The model version that answers now: follows the alias, survives MLflow's absence, changes between two requests."""

import asyncio
import logging
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from ftl import registry
from ftl.consortium import Folder
from ftl.errors import FtlError, RegistryError
from ftl.registry import Bundle, ModelVersion

log = logging.getLogger(__name__)

POLL_SECONDS = 3.0


class Champion(msgspec.Struct, frozen=True):
    """A version and its bundle, as kept on disk for a start without MLflow."""

    version: ModelVersion
    bundle: Bundle


class ChampionSource:
    """Knows the champion. `current` is replaced as a whole, so that a request sees one version from start to end.

    Args:
        folder: the consortium.
        alias: to follow.
        name: of the registered model; the consortium's own when None.
    """

    def __init__(self, folder: Folder, alias: str = registry.CHAMPION, name: str | None = None) -> None:
        self.alias = alias
        self.current: Champion | None = None
        self.trouble: str | None = None
        """Why MLflow could not be asked the last time, or None."""
        self._folder, self._seen, self._told = folder, 0, asyncio.Event()
        self._name = name or folder.consortium.training.model_name

    @property
    def kept(self) -> Path:
        """File with the last good bundle."""
        return self._folder.coordinator / "serving" / f"{self._name}@{self.alias}.json"

    def restore(self) -> None:
        """Take the bundle that is kept on disk, if one has been kept since the last look: by any gateway process."""
        try:
            written = self.kept.stat().st_mtime_ns
            if written != self._seen:
                self._seen = written
                self.current = msgspec.json.decode(self.kept.read_bytes(), type=Champion)
        except FileNotFoundError:
            return
        except msgspec.MsgspecError:
            log.warning("serving.bundle unreadable", extra={"path": str(self.kept)})

    def refresh(self) -> bool:
        """Ask MLflow once; blocks.

        Returns:
            whether another version answers from now on.

        Raises:
            RegistryUnavailable: MLflow does not answer.
            RegistryError: its bundle is unreadable.
        """
        uri = registry.tracking_uri(self._folder)
        version = registry.current_version(uri, self._name, self.alias)
        if version is None:
            raise RegistryError(f"There is no {self._name}@{self.alias}.", cure="Train and register a model first.")
        if self.current and self.current.version.version == version.version:
            return False
        self._keep(Champion(version, registry.bundle_of(uri, version)))
        log.info("serving.model changed", extra={"model": version.name, "version": version.version})
        return True

    async def follow(self, seconds: float = POLL_SECONDS) -> None:
        """Refresh for ever; trouble is logged when it starts and when it ends, and the last good version answers on.

        Args:
            seconds: between two looks.
        """
        while True:
            try:
                await asyncio.to_thread(self.refresh)
                self._note(None)
            except FtlError as error:
                self._note(error.message)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._told.wait()
            self._told.clear()

    def look(self) -> None:
        """Refresh at once; for whoever knows that the alias has moved."""
        self._told.set()

    def _keep(self, champion: Champion) -> None:
        self.kept.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.kept.with_suffix(f".{os.getpid()}.new")
        fresh.write_bytes(msgspec.json.encode(champion))
        fresh.replace(self.kept)
        self._seen = self.kept.stat().st_mtime_ns
        self.current = champion

    def _note(self, trouble: str | None) -> None:
        if trouble and not self.trouble:
            log.warning("serving.registry trouble", extra={"reason": trouble})
        elif self.trouble and not trouble:
            log.info("serving.registry back")
        self.trouble = trouble
