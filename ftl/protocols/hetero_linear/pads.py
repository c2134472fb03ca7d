"""Random numbers that two parties can both compute and nobody else, so that one of two shares need not be sent.

A third reader of all messages, such as the coordinator that relays them, sees the other share only, which is uniform.
Keys are agreed by X25519 (RFC 7748), fresh for every run; numbers come from SHAKE-256 of key and topic.
"""

import hashlib
from dataclasses import dataclass, field

import numpy as np

from ftl.crypto import POINT_BYTES, check_points, multiply, random_scalar
from ftl.errors import CipherError, ProtocolError
from ftl.protocols.hetero_linear.fixed import Residues, multiplied
from ftl.protocols.hetero_linear.messages import MODULUS

_BASE = np.array([[9, *[0] * (POINT_BYTES - 1)]], dtype=np.uint8)


@dataclass(frozen=True)
class Pads:
    """One party's keys with the others.

    Attributes:
        point: to be sent to the others.
    """

    _secret: bytes = field(default_factory=random_scalar, repr=False)
    _keys: dict[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def point(self) -> bytes:
        """What the others need of this party, 32 bytes."""
        return multiply(self._secret, _BASE).tobytes()

    def agree(self, party: str, point: bytes) -> None:
        """Agree on a key with a party.

        Raises:
            ProtocolError: what it sent is no point; names the party.
        """
        if len(point) != POINT_BYTES:
            raise ProtocolError(f"{party!r} sent a key of {len(point)} bytes.")
        points = np.frombuffer(point, dtype=np.uint8).reshape(1, POINT_BYTES)
        try:
            check_points(points)
            shared = multiply(self._secret, points).tobytes()
        except CipherError as exc:
            raise ProtocolError(f"{party!r} sent what is no key: {exc.message}", cure=exc.cure) from exc
        self._keys[party] = hashlib.sha256(b"ftl/hetero-linear/pad" + shared).digest()

    def numbers(self, party: str, topic: str, people: int, modulus: int) -> Residues:
        """Uniform integers below the modulus that `party` computes too, int64, shape (people,).

        Args:
            party: the other.
            topic: no two uses may have the same.
            people: how many.
            modulus: MODULUS, or a power of two up to 2^62.
        """
        data = hashlib.shake_256(self._keys[party] + topic.encode()).digest(16 * people)
        high, low = np.frombuffer(data, dtype="<u8").reshape(people, 2).T
        if modulus != MODULUS:
            return (low % np.uint64(modulus)).astype(np.int64)
        parts = [(half % np.uint64(MODULUS)).astype(np.int64) for half in (high, low)]
        # 128 bits are uniform modulo a prime of 46 up to 2^-82.
        return np.asarray((multiplied(parts[0], np.array((1 << 64) % MODULUS)) + parts[1]) % MODULUS)
