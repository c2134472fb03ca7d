"""Whether NVFlare still carries a run that gives no sign, and how a run is ended from outside."""

import time
from typing import Any

from ftl.consortium import Folder
from ftl.errors import EngineUnavailable, FederationError, FtlError
from ftl.federation.failure import Failure
from ftl.federation.record import Attempt, RunRecord
from ftl.federation.run import members
from ftl.federation.services import missing_sites
from ftl.federation.session import admin_session

PATIENCE = 20.0
"""Seconds without progress after which the server is asked whether the job still lives."""
SOON = 5.0
"""Seconds until it is asked again when the answer was doubtful."""
DOUBTS = 3
"""Times that the server, a site or the job may be found missing, one after the other."""


class Pulse:
    """Looks, while a run gives no sign, whether NVFlare still carries it.

    Args:
        folder: the consortium.
        record: of the run.
        longest: seconds after which the run is ended.
    """

    def __init__(self, folder: Folder, record: RunRecord, longest: float) -> None:
        self._folder = folder
        self._record = record
        self._longest = longest
        self._lines = -1
        self._next = time.monotonic()
        self._doubts = 0

    def check(self) -> None:
        """Look, when it is time; what is found missing fails the run's record."""
        attempt = self._record.attempt()
        if attempt is None or attempt.engine != "nvflare":
            return
        if time.time() - attempt.started > self._longest:
            end_run(self._folder, self._record, f"took longer than {self._longest:g} s")
        lines = self._size()
        if lines != self._lines:
            self._lines, self._next, self._doubts = lines, time.monotonic() + PATIENCE, 0
        elif time.monotonic() > self._next:
            self._ask(attempt)
            self._next = time.monotonic() + (SOON if self._doubts else PATIENCE)

    def _size(self) -> int:
        path = self._record.path / "progress.jsonl"
        return path.stat().st_size if path.exists() else 0

    def _ask(self, attempt: Attempt) -> None:
        try:
            with admin_session(self._folder) as session:
                meta = ask(session, "get_job_meta", attempt.handle)
                carried = {job.job_id for job in ask(session, "get_system_info").job_info}
                parties = members(self._record.request(), self._folder.consortium)
                missing = [party for party in missing_sites(self._folder, session) if party in parties]
        except FtlError as exc:
            self._doubt(Failure(EngineUnavailable.code, exc.message, exc.cure))
            return
        status = str(meta.get("status", ""))
        if self._record.ended:
            return
        if status.startswith("FINISHED"):
            self._record.fail(self._finished(status, meta))
        elif missing:
            message = f"{', '.join(missing)}: the site has lost its connection to the federation server."
            self._doubt(Failure(EngineUnavailable.code, message, "Start it again; then try again."))
        elif status == "RUNNING" and attempt.handle not in carried:
            message = f"The federation server has lost the job of run {self._record.path.name}."
            self._doubt(Failure(EngineUnavailable.code, message, "It was started again meanwhile; try again."))
        else:
            self._doubts = 0

    def _finished(self, status: str, meta: dict[str, Any]) -> Failure:
        """With details a site has refused the job; without any, a process of the job was lost."""
        details = "; ".join(str(line) for line in meta.get("job_deploy_detail") or () if "OK" not in str(line))
        message = f"NVFlare ended the job of run {self._record.path.name} ({status}). {details}".strip()
        code = FederationError.code if details else EngineUnavailable.code
        return Failure(code, message, "Read the logs of its server and sites.")

    def _doubt(self, failure: Failure) -> None:
        """A busy machine may miss one answer; a run ends after several."""
        self._doubts += 1
        if self._doubts >= DOUBTS:
            self._record.fail(failure)


def end_run(folder: Folder, record: RunRecord, why: str) -> None:
    """End a run at all parties; does nothing when it has ended.

    Args:
        folder: the consortium.
        record: of the run.
        why: continues the sentence "Run NAME …".

    Raises:
        FederationError: there is no such run.
        EngineUnavailable: the server does not answer.
    """
    record.request()
    if record.ended:
        return
    record.fail(Failure(FederationError.code, f"Run {record.path.name} {why}.", "Start another one."))
    attempt = record.attempt()
    if attempt is not None:
        with admin_session(folder) as session:
            ask(session, "abort_job", attempt.handle)


def ask(session: Any, command: str, *arguments: str, **options: str) -> Any:
    """One command of the admin API.

    Raises:
        FederationError: the server refused it.
    """
    try:
        return getattr(session, command)(*arguments, **options)
    except Exception as exc:
        raise FederationError(
            f"The federation server refused {command}: {exc}", cure="Read the log of the federation server."
        ) from exc
