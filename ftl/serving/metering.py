"""Who was billed for what: one line per answered request, without anything that names the applicant."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from ftl.serving.appender import Appender

SCORES = "scores"
"""Service of whoever asks for scores alone."""
_ENCODER = msgspec.json.Encoder()


class Use(msgspec.Struct, frozen=True):
    """One answered request.

    Attributes:
        at: when.
        subject: hex, 16 bytes; the same for the same applicant under this coordinator's metering key, and unlike the
            pseudonym that the parties know.
        model: ``name/version``; empty where the service needs no score.
        parties: whose sub-scores the answer rests on; none where there is no score.
        degraded: whether one was missing.
        client: who asked.
        service: code of the decision that was asked for, or ``scores``.
        price: of it, in the consortium's currency.
    """

    at: datetime
    subject: str
    model: str
    parties: list[str]
    degraded: bool
    client: str
    service: str = SCORES
    price: float = 0.0


class Meter:
    """Appends to ``metering/YYYY-MM.jsonl``.

    Args:
        folder: where the files lie.
        key: of the coordinator; makes subjects.
        clock: tells the time, with its zone.
        prices: service to the price of one answer; what is not named costs nothing.
    """

    def __init__(
        self, folder: Path, key: bytes, clock: Callable[[], datetime], prices: Mapping[str, float] | None = None
    ) -> None:
        self._folder, self._clock, self._key, self._prices = folder, clock, key, prices or {}
        self._month = ""
        self._file: Appender | None = None

    def subject(self, pseudonym: bytes) -> str:
        """What stands for an applicant in the coordinator's own files: keyed, and unlike what the parties know."""
        return hashlib.blake2b(pseudonym, key=self._key, digest_size=16).hexdigest()

    def record(
        self,
        pseudonym: bytes,
        model: str,
        parties: list[str],
        *,
        degraded: bool,
        client: str,
        service: str = SCORES,
    ) -> None:
        """Note one answered request; written at the next flush.

        Args:
            pseudonym: as the parties know the applicant; not written.
            model: ``name/version``, or empty.
            parties: that answered and know the applicant.
            degraded: whether a needed one did not answer.
            client: who asked.
            service: that was asked for.
        """
        now = self._clock()
        use = Use(
            now, self.subject(pseudonym), model, parties, degraded, client, service, self._prices.get(service, 0.0)
        )
        self._of(f"{now.year:04d}-{now.month:02d}").add(_ENCODER.encode(use))

    def flush(self) -> None:
        """Write what has been gathered."""
        if self._file:
            self._file.flush()

    def close(self) -> None:
        """Write what has been gathered and close the current file."""
        if self._file:
            self._file.close()
        self._month, self._file = "", None

    def _of(self, month: str) -> Appender:
        if self._file is None or month != self._month:
            self.close()
            self._month, self._file = month, Appender(self._folder / f"{month}.jsonl")
        return self._file
