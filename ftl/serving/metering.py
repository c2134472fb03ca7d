"""Who was billed for what: one line per answered request, without anything that names the applicant."""

import hashlib
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

_ENCODER = msgspec.json.Encoder()


class Use(msgspec.Struct, frozen=True):
    """One answered request.

    Attributes:
        at: when.
        subject: hex, 16 bytes; the same for the same applicant under this coordinator's metering key, and unlike the
            pseudonym that the parties know.
        model: ``name/version``.
        parties: whose sub-scores the answer rests on.
        degraded: whether one was missing.
        client: who asked.
    """

    at: datetime
    subject: str
    model: str
    parties: list[str]
    degraded: bool
    client: str


class Meter:
    """Appends to ``metering/YYYY-MM.jsonl``; whole lines in one write, so that several gateways may share the file.

    Lines are gathered until :meth:`flush`: a gateway that dies loses those of its last moment.

    Args:
        folder: where the files lie.
        key: of the coordinator; makes subjects.
        clock: tells the time, with its zone.
    """

    def __init__(self, folder: Path, key: bytes, clock: Callable[[], datetime]) -> None:
        self._folder, self._clock = folder, clock
        self._key = key
        self._month, self._file = "", -1
        self._lines: list[bytes] = []

    def record(self, pseudonym: bytes, model: str, parties: list[str], *, degraded: bool, client: str) -> None:
        """Note one answered request, until the next flush in memory.

        Args:
            pseudonym: as the parties know the applicant; not written.
            model: ``name/version``.
            parties: that answered and know the applicant.
            degraded: whether a needed one did not answer.
            client: who asked.
        """
        now = self._clock()
        month = f"{now.year:04d}-{now.month:02d}"
        if month != self._month:
            self._begin(month)
        subject = hashlib.blake2b(pseudonym, key=self._key, digest_size=16).hexdigest()
        self._lines.append(_ENCODER.encode(Use(now, subject, model, parties, degraded, client)))

    def flush(self) -> None:
        """Write what has been gathered."""
        if self._lines:
            lines, self._lines = self._lines, []
            os.write(self._file, b"\n".join(lines) + b"\n")

    def close(self) -> None:
        """Write what has been gathered and close the current file."""
        self.flush()
        if self._file >= 0:
            os.close(self._file)
            self._month, self._file = "", -1

    def _begin(self, month: str) -> None:
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / f"{month}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._month = month
