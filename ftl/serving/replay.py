"""Refuses a request that was sent before under the same idempotency key, whichever gateway process got it.

Only a keyed hash of the key is remembered, for some minutes: nothing of an applicant is kept, so a repeat is told apart
but cannot be given the first answer again.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ftl.errors import FtlError, InvalidRequest, Replayed
from ftl.serving.shared import NAME_BYTES, SharedTable

FILE = "keys.table"
MINUTES = 10
BUCKETS = 1 << 14
MOST_LENGTH = 255


class Replays:
    """Keys seen lately.

    Args:
        folder: where the gateway processes of one machine keep what they share.
        secret: of the coordinator; a key cannot be guessed from its hash without it.
        clock: seconds since 1970.
    """

    def __init__(self, folder: Path, secret: bytes, clock: Callable[[], float]) -> None:
        self._secret, self._clock = secret, clock
        self._seen = SharedTable(folder / FILE, "", BUCKETS)

    @contextmanager
    def once(self, client: str, key: bytes | None) -> Iterator[None]:
        """Let a request with this key through once; again when it ended in an error that may pass.

        Args:
            client: who sent it.
            key: the header ``Idempotency-Key``; requests without one are not compared.

        Raises:
            Replayed: the client sent that key before.
            InvalidRequest: the key is empty or too long.
        """
        if key is None:
            yield
            return
        if not 0 < len(key) <= MOST_LENGTH:
            raise InvalidRequest(f"Idempotency-Key has {len(key)} bytes.", cure=f"Send 1 to {MOST_LENGTH}.")
        text = client.encode() + b"|" + key
        name = hashlib.blake2b(text, key=self._secret, digest_size=NAME_BYTES, person=b"idempotency").digest()
        self._seen.change(name, self._clock(), self._refuse)
        try:
            yield
        except FtlError as error:
            if error.transient:
                self._seen.change(name, 0.0, lambda *_: ())
            raise

    def close(self) -> None:
        """Close the file."""
        self._seen.close()

    def _refuse(self, at: float, seen: tuple[object, ...] | None) -> tuple[()]:
        # Also when the clock has been set back since.
        if seen is not None and abs(self._clock() - at) < 60 * MINUTES:
            raise Replayed(
                "A request with this Idempotency-Key was answered before.", cure="Send a new key for a new request."
            )
        return ()
