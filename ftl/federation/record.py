"""The coordinator's folder of one run: what was asked, how far it is, how it ended. Engines write, callers follow.

`request.json`, `attempt.json` (which process or job carries the run), `progress.jsonl`, and at the end `result.json` or
`error.json`.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from ftl.errors import FederationError, FtlError
from ftl.federation.failure import Failure, told
from ftl.federation.parts import write_atomically
from ftl.federation.party import PartyResult, check_run_id
from ftl.federation.run import Progress, Request, Result
from ftl.protocols import Step

T = TypeVar("T")


class Attempt(msgspec.Struct, frozen=True):
    """What carries a run.

    Attributes:
        engine: ``memory`` or ``nvflare``.
        handle: the process, as ``pid@start time``, or the engine's own job id.
        started: seconds since the epoch.
    """

    engine: str
    handle: str
    started: float


class RunRecord:
    """Files of one run.

    Args:
        path: the run's folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, request: Request) -> bool:
        """Note the request; False when this run was submitted before and there is nothing to start.

        An attempt that failed in a way that can pass (its error is transient) may be started again.

        Raises:
            FederationError: the id cannot name a run, or was used for another request.
        """
        check_run_id(request.run_id)
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._create("request.json", request):
            return True
        if self.request() != request:
            raise FederationError(
                f"Run {request.run_id} was already submitted with another recipe, seed or setting.",
                cure="Choose another run id.",
            )
        failure = self.failure()
        if failure is None or not failure.transient:
            return False
        earlier = self.failures + 1
        with suppress(FileNotFoundError):  # another caller was quicker and starts it
            (self.path / "attempt.json").unlink(missing_ok=True)
            (self.path / "error.json").rename(self.path / f"error-{earlier}.json")
            return True
        return False

    def request(self) -> Request:
        """What was asked.

        Raises:
            FederationError: there is no such run.
        """
        request = self._read("request.json", Request)
        if request is None:
            raise FederationError(f"There is no run {self.path.name}.", cure="Submit it first, or check the run id.")
        return request

    def carried_by(self, attempt: Attempt) -> None:
        """Note what carries the run."""
        write_atomically(self.path / "attempt.json", msgspec.json.encode(attempt))

    @property
    def failures(self) -> int:
        """How many earlier attempts have failed and were followed by another."""
        return len(list(self.path.glob("error-*.json")))

    def attempt(self) -> Attempt | None:
        """What carries the run, or carried it last."""
        return self._read("attempt.json", Attempt)

    def failure(self) -> Failure | None:
        """Why the run failed, if it did."""
        return self._read("error.json", Failure)

    def result(self) -> Result | None:
        """The result, if the run has finished."""
        return self._read("result.json", Result)

    @property
    def ended(self) -> bool:
        """Whether there is a result or an error."""
        return (self.path / "result.json").exists() or (self.path / "error.json").exists()

    def progress(self, after: int = 0) -> list[Progress]:
        """Progress lines with a number above `after`."""
        try:
            lines = (self.path / "progress.jsonl").read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        return [msgspec.json.decode(line, type=Progress) for line in lines[after:] if line.endswith(b"\n")]

    def append(self, progress: Progress) -> None:
        """Add one progress line; one write, so that a reader sees a whole line or none."""
        handle = os.open(self.path / "progress.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, msgspec.json.encode(progress) + b"\n")
        finally:
            os.close(handle)

    def succeed(self, result: Result) -> None:
        """Write the result, unless the run has ended."""
        if not self.ended:
            write_atomically(self.path / "result.json", msgspec.json.format(msgspec.json.encode(result), indent=1))

    def fail(self, failure: Failure) -> None:
        """Write why the run failed, unless it has ended: the first failure counts."""
        if not (self.path / "result.json").exists():
            self._create("error.json", failure)

    def follow(self, after: int, check: Callable[[], None], poll: float) -> Iterator[Progress]:
        """Progress lines as they come until the run ends.

        Args:
            after: number of the last line already known.
            check: called between two looks; raises, or fails the record, when nothing carries the run any more.
            poll: seconds between two looks.

        Yields:
            progress lines above `after`.

        Raises:
            FtlError: the run failed; says at which party and why.
        """
        self.request()
        while True:
            ended = self.ended
            for line in self.progress(after):
                after = line.number
                yield line
            failure = self.failure() if ended else None
            if failure is not None:
                raise failure.error()
            if ended and (self.path / "result.json").exists():  # else another caller has just started it again
                return
            check()
            time.sleep(poll)

    def _create(self, name: str, value: object) -> bool:
        """Write a file that must not exist yet, whole; False when it does."""
        draft = self.path / f".{name}.{os.getpid()}.{threading.get_ident()}"
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1))
        try:
            os.link(draft, self.path / name)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True

    def _read(self, name: str, kind: type[T]) -> T | None:
        try:
            return msgspec.json.decode((self.path / name).read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as exc:
            raise FederationError(f"{self.path / name} is damaged: {exc}.", cure="Start a new run.") from exc


class Ledger:
    """Gathers what the parties report into a run's record.

    Args:
        record: the run's files.
        parties: everyone who takes part.
        clock: seconds, for `Progress.elapsed`.
    """

    def __init__(
        self, record: RunRecord, parties: tuple[str, ...], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.record = record
        self.request = record.request()
        self.parties = parties
        self._clock = clock
        self._lock = threading.Lock()
        earlier = record.progress()
        self._number = len(earlier)
        self._start = clock() - (earlier[-1].elapsed if earlier else 0.0)  # an attempt that is resumed counts on
        self._results: dict[str, PartyResult] = {}
        self._failed = False

    def step(self, party: str, step: Step) -> None:
        """Write a progress line; none after a failure, when another attempt may have begun."""
        with self._lock:
            if self._failed:
                return
            self._number += 1
            self.record.append(Progress(self._number, party, step, round(self._clock() - self._start, 3)))

    def finished(self, result: PartyResult) -> None:
        """Take a party's result; the last one completes the run."""
        with self._lock:
            self._results[result.party] = result
            if self._failed or len(self._results) < len(self.parties):
                return
            try:
                self.record.succeed(combined(self.request, [self._results[party] for party in self.parties]))
            except FtlError as exc:
                self._failed = True
                self.record.fail(told(exc))

    def failed(self, failure: Failure) -> None:
        """Take a party's failure; the first one ends the run, a later one must not touch another attempt."""
        with self._lock:
            if not self._failed:
                self._failed = True
                self.record.fail(failure)


def combined(request: Request, results: list[PartyResult]) -> Result:
    """The run's result from those of all parties.

    Raises:
        FederationError: no party told the figures, or one has no part of the model.
    """
    verdicts = [(result, result.verdict) for result in results if result.verdict is not None]
    if len(verdicts) != 1:
        raise FederationError(f"{len(verdicts)} parties told the figures of run {request.run_id}; expected one.")
    active, verdict = verdicts[0]
    parts = [result.part for result in results if result.part is not None]
    if verdict.combiner is not None and len(parts) < len(results):
        raise FederationError(f"A party of run {request.run_id} kept no model part.", cure="Correct the recipe.")
    return Result(
        run_id=request.run_id,
        recipe=request.recipe,
        seed=request.seed,
        aligned=verdict.aligned,
        metrics=verdict.metrics,
        gain=verdict.gain,
        combiner=verdict.combiner,
        parts=parts,
        rows={result.party: result.rows for result in results},
        columns={result.party: result.columns for result in results},
        settings=verdict.settings,
        seconds=active.seconds,
        bytes_sent={result.party: result.bytes_sent for result in results},
        messages={result.party: result.messages for result in results},
        notes=list(dict.fromkeys(note for result in results for note in result.notes)),
        report=verdict.report,
        groups=verdict.groups,
    )
