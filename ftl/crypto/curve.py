"""Points of Curve25519 for private set intersection: texts hashed to the curve, and multiplied by a secret.

A text is hashed by SHA-512 and mapped by Elligator 2 into the subgroup of prime order of edwards25519 (libsodium's
``crypto_core_ed25519_from_uniform``; Bernstein, Hamburg, Krasnova and Lange 2013; RFC 9380 section 6.7), then taken to
its u-coordinate on Curve25519, u = (1 + y) / (1 - y) (RFC 7748 section 4.1). Taking the hash itself as u would be
cheaper and wrong: half of all u lie on the twist, multiplication keeps them there, and every point would tell one bit
of its text's hash. One map reaches about half of the points of the group. That is enough here: preimages can be
sampled, so a simulator of the Diffie–Hellman argument can program the hash to a point of which it knows the
logarithm, drawing again when the point has no preimage.

Multiplication is X25519 (RFC 7748), so scalars are clamped and a(bP) = b(aP) holds on u-coordinates. Security is that
of the decisional Diffie–Hellman problem on Curve25519, about 128 bits.
"""

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor

import numpy as np
from nacl import bindings
from nacl.exceptions import CryptoError
from numpy.typing import NDArray

from ftl.errors import CipherError

POINT_BYTES = 32
PRIME = 2**255 - 19
SMALL_ORDER = (
    0,
    1,
    PRIME - 1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
"""u-coordinates of order 1, 2, 4 and 8 on the curve and its twist."""

CHUNK = 512
"""Points that one thread works on before it looks for more; about 15 ms."""

Points = NDArray[np.uint8]
"""uint8, shape (n, 32): u-coordinates, little-endian, canonical."""


def random_scalar() -> bytes:
    """A fresh secret factor, 32 bytes from the operating system's generator."""
    return secrets.token_bytes(POINT_BYTES)


def hash_to_points(texts: Sequence[str], salt: bytes, pool: Executor) -> Points:
    """Points of `texts`, in their order; the same text and salt give the same point everywhere.

    Args:
        texts: n texts that can be written as UTF-8.
        salt: separates this use from every other.
        pool: threads; libsodium works outside the interpreter's lock, so that they use all cores.

    Raises:
        CipherError: a text is not Unicode (holds half of a surrogate pair).
    """
    start = hashlib.sha512(b"ftl/hash-to-point/1" + len(salt).to_bytes(8, "little") + salt)
    pieces = [texts[i : i + CHUNK] for i in range(0, len(texts), CHUNK)]
    return _points(pool.map(lambda piece: _hash_piece(start, piece), pieces))


def multiply(scalar: bytes, points: Points, pool: Executor) -> Points:
    """Every point times `scalar`.

    Raises:
        CipherError: a point is of small order.
    """
    raw = np.ascontiguousarray(points).tobytes()
    width = CHUNK * POINT_BYTES
    pieces = [raw[i : i + width] for i in range(0, len(raw), width)]
    return _points(pool.map(lambda piece: _multiply_piece(scalar, piece), pieces))


def check_points(points: Points) -> None:
    """See that points of a stranger are n × 32 bytes, canonical, and not of small order.

    Whether a point is on the curve or on its twist is not checked: the twist's group is as strong (RFC 7748), and a
    sender who puts a point there only makes that point match nothing.

    Raises:
        CipherError: says which of it, and how many points.
    """
    if points.dtype != np.uint8 or points.ndim != 2 or points.shape[1] != POINT_BYTES:
        raise CipherError(f"Points must be bytes of shape (n, {POINT_BYTES}), not {points.dtype} of {points.shape}.")
    words = np.ascontiguousarray(points).view("<u8")
    full = np.uint64(2**64 - 1)
    above = (words[:, 3] == 2**63 - 1) & (words[:, 2] == full) & (words[:, 1] == full) & (words[:, 0] >= 2**64 - 19)
    wrong = int((above | (words[:, 3] >= 2**63)).sum())
    if wrong:
        raise CipherError(f"{wrong} of {len(points)} points are not written as numbers below 2^255 - 19.")
    small = int(np.isin(as_keys(points), as_keys(_SMALL)).sum())
    if small:
        raise CipherError(f"{small} of {len(points)} points are of small order.")


def as_keys(points: Points) -> NDArray[np.void]:
    """The same memory as n values of 32 bytes that can be compared, sorted and intersected."""
    return np.ascontiguousarray(points).view(np.dtype((np.void, POINT_BYTES))).reshape(len(points))


def _hash_piece(start: "hashlib._Hash", texts: Sequence[str]) -> bytes:
    edwards = [bindings.crypto_core_ed25519_from_uniform(_digest(start, text)) for text in texts]
    return b"".join(u.to_bytes(POINT_BYTES, "little") for u in _montgomery(edwards))


def _digest(start: "hashlib._Hash", text: str) -> bytes:
    state = start.copy()
    try:
        state.update(text.encode())
    except UnicodeEncodeError:
        # Without its cause, which would show the text.
        raise CipherError("A text is not Unicode.", cure="Look for broken encodings in the mapped columns.") from None
    return state.digest()[:POINT_BYTES]


def _montgomery(edwards: Sequence[bytes]) -> list[int]:
    """The u-coordinates of compressed Edwards points, with one inversion for all (Montgomery's trick)."""
    ys = [int.from_bytes(point, "little") & (2**255 - 1) for point in edwards]
    products = [1]
    for y in ys:
        products.append(products[-1] * (1 - y) % PRIME)
    inverse = pow(products[-1], -1, PRIME)
    us = []
    for y, before in zip(reversed(ys), reversed(products[:-1]), strict=True):
        us.append((1 + y) * inverse * before % PRIME)
        inverse = inverse * (1 - y) % PRIME
    return us[::-1]


def _multiply_piece(scalar: bytes, raw: bytes) -> bytes:
    try:
        return b"".join(
            [bindings.crypto_scalarmult(scalar, raw[i : i + POINT_BYTES]) for i in range(0, len(raw), POINT_BYTES)]
        )
    except CryptoError as exc:
        raise CipherError("A point of small order cannot be multiplied.") from exc


def _points(pieces: Iterable[bytes]) -> Points:
    return np.frombuffer(b"".join(pieces), dtype=np.uint8).reshape(-1, POINT_BYTES)


_SMALL = np.array([list(u.to_bytes(POINT_BYTES, "little")) for u in SMALL_ORDER], dtype=np.uint8)
