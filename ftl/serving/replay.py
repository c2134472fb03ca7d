"""Refuses a request that was sent before under the same idempotency key.

Only a keyed hash of the key is remembered, for some minutes and in memory: nothing of an applicant is kept, so a repeat
is told apart but cannot be given the first answer again. Each gateway process remembers its own.
"""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable

from ftl.errors import InvalidRequest, Replayed

MINUTES = 10
MOST_KEYS = 100_000
MOST_LENGTH = 255


class Replays:
    """Keys seen lately.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def refuse(self, client: str, key: bytes | None) -> None:
        """Note a request's key; requests without one are not compared.

        Args:
            client: who sent it.
            key: the header ``Idempotency-Key``.

        Raises:
            Replayed: the client sent that key before.
            InvalidRequest: the key is empty or too long.
        """
        if key is None:
            return
        if not 0 < len(key) <= MOST_LENGTH:
            raise InvalidRequest(f"Idempotency-Key has {len(key)} bytes.", cure=f"Send 1 to {MOST_LENGTH}.")
        now, name = self._clock(), hashlib.blake2b(client.encode() + b"|" + key, key=self._secret).digest()
        while self._seen and (next(iter(self._seen.values())) < now - 60 * MINUTES or len(self._seen) >= MOST_KEYS):
            self._seen.popitem(last=False)
        if name in self._seen:
            raise Replayed(
                "A request with this Idempotency-Key was answered before.", cure="Send a new key for a new request."
            )
        self._seen[name] = now
