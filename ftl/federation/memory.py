"""The engine without processes: every party is a thread of this one, its messages never leave the memory."""

import os
import threading
import time
from collections.abc import Iterator

import psutil

from ftl.channel import Channel, connect
from ftl.consortium import Folder
from ftl.errors import EngineUnavailable, FederationError, FtlError
from ftl.federation.failure import Failure, told
from ftl.federation.party import run_party
from ftl.federation.record import Attempt, Ledger, RunRecord
from ftl.federation.run import Progress, Request, Result, members

POLL = 0.05
"""Seconds between two looks at the progress file."""
JOIN_SECONDS = 10.0
"""A party's thread ends sooner once its run has ended."""


class MemoryEngine:
    """Carries runs in this process; for quick work, tests and scenarios where all data are ours.

    Args:
        folder: the consortium.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._threads: dict[str, list[threading.Thread]] = {}

    def submit(self, request: Request) -> None:
        """Start a run in threads; does nothing when a run of that id was submitted before.

        Raises:
            FederationError: the id was used for another request.
        """
        record = RunRecord(self.folder.run(request.run_id))
        parties = members(request, self.folder.consortium)
        _check_alive(record)
        if not record.begin(request):
            return
        record.carried_by(Attempt("memory", _this_process(), time.time()))
        ledger = Ledger(record, parties)
        threads = [
            threading.Thread(
                target=self._take_part, args=(party, channel, ledger), name=f"{request.run_id}-{party}", daemon=True
            )
            for party, channel in connect(parties).items()
        ]
        self._threads[request.run_id] = threads
        for thread in threads:
            thread.start()

    def watch(self, run_id: str, after: int = 0) -> Iterator[Progress]:
        """Progress lines above `after` until the run ends.

        Raises:
            FtlError: the run failed; says at which party and why.
        """
        record = RunRecord(self.folder.run(run_id))
        try:
            yield from record.follow(after, lambda: _check_alive(record), POLL)
        finally:
            # A thread that still runs foreign code when the interpreter ends brings the whole process down.
            for thread in self._threads.pop(run_id, []) if record.ended else ():
                thread.join(JOIN_SECONDS)

    def result(self, run_id: str) -> Result:
        """The result of a finished run.

        Raises:
            FederationError: the run has not finished.
        """
        return finished_result(RunRecord(self.folder.run(run_id)))

    def _take_part(self, party: str, channel: Channel, ledger: Ledger) -> None:
        try:
            result = run_party(self.folder.node(party), ledger.request, channel, lambda step: ledger.step(party, step))
            ledger.finished(result)
        except FtlError as exc:
            ledger.failed(told(exc))


def _this_process() -> str:
    return f"{os.getpid()}@{psutil.Process().create_time()}"


def _check_alive(record: RunRecord) -> None:
    """Fail a run whose process has ended."""
    attempt = record.attempt()
    if attempt is None or attempt.engine != "memory" or record.ended:
        return
    pid, _, started = attempt.handle.partition("@")
    try:
        alive = psutil.Process(int(pid)).create_time() == float(started)
    except psutil.NoSuchProcess:
        alive = False
    if not alive and not record.ended:
        message = f"The process that carried run {record.path.name} has ended."
        record.fail(Failure(EngineUnavailable.code, message, "Submit it again."))


def finished_result(record: RunRecord) -> Result:
    """The result in a record.

    Raises:
        FtlError: the run failed, or has not finished.
    """
    result = record.result()
    if result is not None:
        return result
    failure = record.failure()
    if failure is not None:
        raise failure.error()
    record.request()
    raise FederationError(f"Run {record.path.name} has not finished.", cure="Watch it until it ends.")
