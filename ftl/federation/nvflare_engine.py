"""The engine over NVFlare: every party is a process of its own at its own site, connected by mutual TLS."""

import fcntl
import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from ftl.consortium import Folder
from ftl.errors import EngineUnavailable
from ftl.federation.failure import told
from ftl.federation.kits import CONTROLLER, EXECUTOR
from ftl.federation.memory import finished_result
from ftl.federation.pulse import Pulse, ask, end_run
from ftl.federation.record import Attempt, RunRecord
from ftl.federation.run import Progress, Request, Result, members
from ftl.federation.services import missing_sites
from ftl.federation.session import admin_session

log = logging.getLogger(__name__)

POLL = 0.2
"""Seconds between two looks at the progress file."""
SOON = 2.0
"""Seconds between two tries to reach server and sites."""
LONGEST = 4 * 3600.0
"""Seconds a run may take altogether."""
RESTARTS = 3
"""Times that a run which has lost a process is started again by itself; it goes on from its last common round."""
RECONNECT = 180.0
"""Seconds that server and sites have to come back before a run is given up."""


class NvflareEngine:
    """Carries runs over the consortium's NVFlare processes, which must be running.

    Args:
        folder: the consortium.
        longest: seconds after which a run is cancelled.
    """

    def __init__(self, folder: Folder, longest: float = LONGEST) -> None:
        self.folder = folder
        self.longest = longest

    def submit(self, request: Request) -> None:
        """Start a run; does nothing when a run of that id was submitted before.

        Raises:
            EngineUnavailable: the server does not answer, or a party's site is not connected (named).
            FederationError: the id was used for another request, or NVFlare refused the job.
        """
        record = RunRecord(self.folder.run(request.run_id))
        with _alone(record.path):
            fresh = record.begin(request)
            if not fresh and (record.ended or record.attempt() is not None):
                return
            with admin_session(self.folder) as session:
                parties = members(request, self.folder.consortium)
                missing = [party for party in missing_sites(self.folder, session) if party in parties]
                if missing:
                    raise EngineUnavailable(
                        f"The site of {', '.join(missing)} is not connected to the federation server.",
                        cure="Start it, or read its log.",
                    )
                record.carried_by(Attempt("nvflare", self._submit(session, request, record), time.time()))

    def watch(self, run_id: str, after: int = 0) -> Iterator[Progress]:
        """Progress lines above `after` until the run ends.

        A run that has lost a process, at a party or at the server, is started again and goes on from the last round
        that all parties have kept.

        Raises:
            FtlError: the run failed; says at which party and why.
        """
        record = RunRecord(self.folder.run(run_id))
        while True:
            try:
                for line in record.follow(after, Pulse(self.folder, record, self.longest).check, POLL):
                    after = line.number
                    yield line
            except EngineUnavailable as exc:
                if record.failures >= RESTARTS:
                    raise
                log.warning("federation.run started again", extra={"run_id": run_id, "because": exc.message})
                self._start_again(record)
            else:
                return

    def result(self, run_id: str) -> Result:
        """The result of a finished run.

        Raises:
            FtlError: the run failed, or has not finished.
        """
        return finished_result(RunRecord(self.folder.run(run_id)))

    def cancel(self, run_id: str) -> None:
        """End a run at all parties; does nothing when it has ended.

        Raises:
            FederationError: there is no such run.
            EngineUnavailable: the server does not answer.
        """
        end_run(self.folder, RunRecord(self.folder.run(run_id)), "was cancelled")

    def _start_again(self, record: RunRecord) -> None:
        """Submit a run again, once server and sites are there.

        Raises:
            EngineUnavailable: they did not come back; names who is missing.
        """
        deadline = time.monotonic() + RECONNECT
        while True:
            try:
                return self.submit(record.request())
            except EngineUnavailable as exc:
                if time.monotonic() >= deadline:
                    record.fail(told(exc))
                    raise
                time.sleep(SOON)

    def _submit(self, session: Any, request: Request, record: RunRecord) -> str:
        """Hand the job over. The token makes NVFlare answer with the same job when it has it already."""
        with tempfile.TemporaryDirectory(prefix="ftl-job-") as work:
            job = write_job(Path(work) / request.run_id, request, members(request, self.folder.consortium))
            return str(ask(session, "submit_job", str(job), submit_token=f"{request.run_id}-{record.failures}"))


def write_job(path: Path, request: Request, parties: tuple[str, ...]) -> Path:
    """Write the job's folder: two config files that name installed classes, and no code.

    Args:
        path: the folder to make; its name is the job's name.
        request: the run.
        parties: all of them must take part.

    Returns:
        `path`.
    """
    settings = {"request": msgspec.json.encode(request).decode()}
    meta = {
        "name": path.name,
        "resource_spec": {},
        "min_clients": len(parties),
        "mandatory_clients": list(parties),
        "deploy_map": {"app": ["server", *parties]},
    }
    server = {"format_version": 2, "workflows": [{"id": "run", "path": CONTROLLER, "args": settings}], "components": []}
    executor = {"tasks": ["run"], "executor": {"path": EXECUTOR, "args": settings}}
    client = {"format_version": 2, "executors": [executor], "components": []}
    config = path / "app" / "config"
    config.mkdir(parents=True)
    for file, content in (
        (path / "meta.json", meta),
        (config / "config_fed_server.json", server),
        (config / "config_fed_client.json", client),
    ):
        file.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1))
    return path


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep two callers from submitting the same run at the same time."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (path / "submit.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
