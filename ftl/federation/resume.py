"""What a node keeps of a run that is under way, so that the run goes on where it was after a node was lost.

A folder of the node, readable by its owner only: the alignment's result and the recipe's state after its last two
rounds. At every start of a run the parties tell the active one what they have kept, and it decides from where all of
them go on: from the last round that *all* have, or from the beginning when any of them has nothing of the same attempt.
The folder is removed when the run has ended for good.
"""

import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.channel import decode, encode
from ftl.errors import EngineUnavailable, ProtocolError
from ftl.features import Frame
from ftl.federation.link import Link
from ftl.federation.parts import write_atomically
from ftl.federation.run import Request

log = logging.getLogger(__name__)

T = TypeVar("T")
Rows = NDArray[np.int64]

KEPT, RESUME = "kept", "resume"
"""Topics: what a party has kept, and the active party's decision."""
FINISHED, OVER = "finished", "over"
"""Topics: a party needs nothing of this run any more, and nobody does."""
ATTEMPT_BYTES = 16
ROUNDS = 2
"""Rounds kept: a party may have finished one that another has not."""
ABANDONED = 7 * 86_400.0
"""Seconds after which the state of a run that nobody has resumed is removed."""
POLL = 0.2


class Kept(msgspec.Struct, frozen=True):
    """What one party has kept.

    Attributes:
        attempt: names the attempt that all parties began together; empty when nothing is kept.
        aligned: whether the alignment's result is there.
        rounds: numbers of the rounds whose state is there.
    """

    attempt: bytes = b""
    aligned: bool = False
    rounds: list[int] = []


class Resume(msgspec.Struct, frozen=True):
    """From where all parties go on.

    Attributes:
        attempt: as in :class:`Kept`; a new one to begin.
        aligned: use the kept result of the alignment.
        round: go on after this round; 0 to train from the beginning.
    """

    attempt: bytes
    aligned: bool = False
    round: int = 0


class Mark(msgspec.Struct, frozen=True):
    """First file of the folder: which attempt of what it belongs to."""

    attempt: bytes
    fingerprint: bytes


class RunState:
    """A party's folder of one run under way; as :class:`~ftl.protocols.Checkpoints` it keeps the recipe's rounds.

    Args:
        folder: of this run at this node.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._resumed: Resume | None = None

    @property
    def alignment(self) -> Path:
        """Where an interrupted alignment keeps its own state."""
        return self._folder / "alignment"

    def agree(self, link: Link, active: str, timeout: float, fingerprint: bytes) -> Resume:
        """Agree with all parties from where to go on.

        Args:
            link: the way to the other parties.
            active: name of the active party, which decides.
            timeout: seconds to wait for any one message.
            fingerprint: of all that the run depends on at this party; what was kept under another one is of no use.

        Raises:
            ProtocolError: a peer said what cannot be.
            ChannelTimeout: a peer did not answer.
        """
        own = self._kept(fingerprint)
        if link.me == active:
            kept = [own, *(_heard(link, peer, KEPT, Kept, timeout) for peer in link.peers)]
            resume = common(kept) or Resume(secrets.token_bytes(ATTEMPT_BYTES))
            for peer in link.peers:
                link.send(peer, RESUME, encode(resume))
        else:
            link.send(active, KEPT, encode(own))
            resume = _heard(link, active, RESUME, Resume, timeout)
            _check(link.me, active, own, resume)
        self._begin(resume, fingerprint)
        return resume

    def rows(self) -> Rows | None:
        """The alignment's result, int64, shape (m,), if all parties go on with it."""
        if self._resumed is None or not self._resumed.aligned:
            return None
        return np.frombuffer((self._folder / "rows").read_bytes(), dtype=np.int64)

    def keep_rows(self, rows: Rows) -> None:
        """Keep the alignment's result."""
        write_atomically(self._folder / "rows", rows.astype(np.int64).tobytes())

    def latest(self) -> tuple[int, bytes] | None:
        """The last round that *all* parties have kept, and this party's state of it; None to begin."""
        if self._resumed is None or not self._resumed.round:
            return None
        return self._resumed.round, self._round(self._resumed.round).read_bytes()

    def save(self, number: int, state: bytes) -> None:
        """Keep the state after round `number`, and the one before; written whole or not at all."""
        write_atomically(self._round(number), state)
        for old in sorted(self._rounds())[:-ROUNDS]:
            self._round(old).unlink()

    def finish(self, link: Link, active: str, timeout: float) -> None:
        """Wait until no party needs its state any more, then remove this one's.

        Args:
            link: the way to the other parties.
            active: name of the active party.
            timeout: seconds to wait for any one message.
        """
        if link.me == active:
            for peer in link.peers:
                link.receive(peer, FINISHED, timeout)
            for peer in link.peers:
                link.send(peer, OVER, b"")
        else:
            link.send(active, FINISHED, b"")
            link.receive(active, OVER, timeout)
        self.clear()

    def clear(self) -> None:
        """Forget the run."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def held(self, timeout: float) -> Iterator[None]:
        """Keep a former attempt of the run, which may not have noticed its end yet, from working on the same folder.

        Args:
            timeout: seconds to wait for it.

        Yields:
            nothing.

        Raises:
            EngineUnavailable: it still works.
        """
        self._folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self._folder.with_name(f"{self._folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(handle, self._folder.name, time.monotonic() + timeout)
            os.utime(handle)
            self._folder.mkdir(exist_ok=True, mode=0o700)
            _remove_abandoned(self._folder, os.fstat(handle).st_mtime)
            yield
        finally:
            os.close(handle)

    def _kept(self, fingerprint: bytes) -> Kept:
        try:
            mark = msgspec.msgpack.decode((self._folder / "mark").read_bytes(), type=Mark)
        except (FileNotFoundError, msgspec.MsgspecError):
            return Kept()
        if mark.fingerprint != fingerprint:
            return Kept()
        return Kept(mark.attempt, (self._folder / "rows").exists(), sorted(self._rounds()))

    def _begin(self, resume: Resume, fingerprint: bytes) -> None:
        """Drop what nobody goes on with."""
        for number in self._rounds():
            if number > resume.round or not resume.round:
                self._round(number).unlink()
        if not resume.aligned:
            (self._folder / "rows").unlink(missing_ok=True)
        write_atomically(self._folder / "mark", msgspec.msgpack.encode(Mark(resume.attempt, fingerprint)))
        self._resumed = resume

    def _round(self, number: int) -> Path:
        return self._folder / f"round-{number}"

    def _rounds(self) -> list[int]:
        return [int(path.name.removeprefix("round-")) for path in self._folder.glob("round-*")]


def common(kept: list[Kept]) -> Resume | None:
    """From where parties that have kept this can go on together; None when they were never in the same attempt."""
    attempt = kept[0].attempt
    if len(attempt) != ATTEMPT_BYTES or any(one.attempt != attempt for one in kept):
        return None
    aligned = all(one.aligned for one in kept)
    shared = set.intersection(*(set(one.rounds) for one in kept)) if aligned else set()
    return Resume(attempt, aligned, max(shared, default=0))


def fingerprint_of(request: Request, frame: Frame) -> bytes:
    """32 bytes that change with all that a run depends on at a party; they stay there."""
    digest = hashlib.blake2b(msgspec.msgpack.encode(request), digest_size=32)
    head = (frame.party, frame.columns, frame.categories, frame.kind, frame.classes)
    digest.update(msgspec.msgpack.encode((head, frame.ids, frame.lists)))
    for array in (frame.values, frame.label, frame.holdout, frame.weight, frame.monotone):
        digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.digest()


def _heard(link: Link, peer: str, topic: str, kind: type[T], timeout: float) -> T:
    return decode(link.receive(peer, topic, timeout), kind, sender=peer, topic=topic)


def _check(me: str, active: str, own: Kept, resume: Resume) -> None:
    """Refuse a decision that this party cannot follow."""
    begins = resume.attempt != own.attempt and not resume.aligned and not resume.round
    goes_on = resume.attempt == own.attempt and (own.aligned or not resume.aligned)
    possible = begins or (goes_on and (not resume.round or (resume.aligned and resume.round in own.rounds)))
    if len(resume.attempt) != ATTEMPT_BYTES or not possible:
        raise ProtocolError(
            f"{active} decided to go on from what {me} has not kept.",
            cure=f"See that {active} runs the same version; if it does, do not train with it until it was examined.",
        )


def _lock(handle: int, run_id: str, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            if time.monotonic() >= deadline:
                raise EngineUnavailable(
                    f"a former attempt of run {run_id} still works here.",
                    cure="Wait until it has ended, then try again.",
                ) from exc
            time.sleep(POLL)
        else:
            return


def _remove_abandoned(folder: Path, now: float) -> None:
    """Remove what runs have left that nobody resumes."""
    for lock in folder.parent.glob("*.lock"):
        other = lock.with_suffix("")
        if other == folder or now - lock.stat().st_mtime < ABANDONED:
            continue
        with suppress(FileNotFoundError):
            shutil.rmtree(other, ignore_errors=True)
            lock.unlink()
            log.info("federation.abandoned run removed", extra={"run_id": other.name})
