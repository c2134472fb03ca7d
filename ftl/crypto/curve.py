"""Points of Curve25519 for private set intersection: texts hashed to the curve, and multiplied by a secret.

A text is hashed by SHA-512 and mapped to the curve by Elligator 2 (Bernstein, Hamburg, Krasnova and Lange 2013; RFC
9380 section 6.7.1), straight to the u-coordinate that X25519 works on. Taking the hash itself as u would be cheaper
and wrong: half of all u lie on the twist, multiplication keeps them there, and every point would tell one bit of its
text's hash. One map reaches about half of the points of the curve. That is enough here: preimages can be sampled, so a
simulator of the Diffie–Hellman argument can program the hash to a point of which it knows the logarithm, drawing again
when the point has no preimage.

Multiplication is X25519 (RFC 7748): scalars are multiples of 8, so the first one takes every point into the subgroup of
prime order, and a(bP) = b(aP) holds on u-coordinates. Security is that of the decisional Diffie–Hellman problem on
Curve25519, about 128 bits. X25519 takes the same time for every scalar and point; Elligator here does not. It works on
a party's own texts in that party's process, and what can be timed from outside is the sum over thousands of them.

The functions work in the calling thread. Two thirds of a microsecond per point apart, libsodium works outside the
interpreter's lock, so :func:`spread` over a pool of threads uses all cores.
"""

import hashlib
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TypeVar

import gmpy2
import numpy as np

# The functions of `nacl.bindings` copy each point twice; these write in place. 36 µs a point instead of 44.
from nacl._sodium import ffi, lib
from nacl.bindings import sodium_init
from numpy.typing import NDArray

from ftl.errors import CipherError

# Chooses the code for this processor. Without it, multiplication works too, but takes 51 µs a point.
sodium_init()

POINT_BYTES = 32
PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of the subgroup all points are in once they were multiplied."""
SMALL_ORDER = (
    0,
    1,
    PRIME - 1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
"""u-coordinates of order 1, 2, 4 and 8 on the curve and its twist."""

CHUNK = 256
"""Points that one thread works on before it looks for more; about 10 ms."""

Points = NDArray[np.uint8]
"""uint8, shape (n, 32): u-coordinates, little-endian, canonical."""

Digests = NDArray[np.uint64]
"""uint64, shape (n, words)."""

T = TypeVar("T", bound=np.generic)


def spread(pool: Executor, length: int, work: Callable[[slice], NDArray[T]]) -> NDArray[T]:
    """`work` on 0 … `length`, a slice at a time in the threads of `pool`; its results in order, one after the other."""
    slices = [slice(first, min(first + CHUNK, length)) for first in range(0, length, CHUNK)]
    return np.concatenate(list(pool.map(work, slices or [slice(0, 0)])))


def random_scalar() -> bytes:
    """A fresh secret factor, 32 bytes from the operating system's generator."""
    return secrets.token_bytes(POINT_BYTES)


def random_pair() -> tuple[bytes, bytes]:
    """A fresh secret factor, and the factor that undoes it on points that were multiplied by it.

    X25519 uses only factors that are multiples of 8 from 2^254 up to 2^255. About half of them have an inverse modulo
    the group's order that can be written so; the others are drawn again, which costs one bit.
    """
    while True:
        scalar = random_scalar()
        if (inverse := _lift(pow(_value(scalar), -1, ORDER))) is not None:
            return scalar, inverse


def random_factors(product: bytes) -> tuple[bytes, bytes]:
    """A fresh secret factor, and the factor that completes it to `product` (a factor too)."""
    while True:
        scalar = random_scalar()
        if (rest := _lift(_value(product) * pow(_value(scalar), -1, ORDER) % ORDER)) is not None:
            return scalar, rest


def hash_to_points(texts: Sequence[bytes], salt: bytes) -> Points:
    """Points of `texts`, in their order; the same text and salt give the same point everywhere.

    The points are on the curve, but only a multiplication takes them into its subgroup of prime order.

    Args:
        texts: n texts.
        salt: separates this use from every other.
    """
    start = hashlib.sha512(b"ftl/hash-to-point/2" + len(salt).to_bytes(8, "little") + salt)
    return _points(
        b"".join([u.to_bytes(POINT_BYTES, "little") for u in _elligator([_digest(start, t) for t in texts])])
    )


def multiply(scalar: bytes, points: Points) -> Points:
    """Every point times `scalar`.

    Raises:
        CipherError: a point is of small order.
    """
    raw = np.ascontiguousarray(points)
    product = np.empty_like(raw)
    source, target, factor = ffi.from_buffer(raw), ffi.from_buffer(product), ffi.from_buffer(scalar)
    step = lib.crypto_scalarmult
    failed = [step(target + at, factor, source + at) for at in range(0, raw.size, POINT_BYTES)]
    if any(failed):
        raise CipherError("A point of small order cannot be multiplied.")
    return product


def digests(points: Points, key: bytes, words: int) -> Digests:
    """Random-looking words that tell nothing of the points, by BLAKE2b (RFC 7693).

    Args:
        points: n points.
        key: separates this use from every other, at most 64 bytes.
        words: of 64 bits, for each point; at most 8.
    """
    raw = np.ascontiguousarray(points).tobytes()
    start = hashlib.blake2b(key=key, digest_size=8 * words, person=b"ftl/point-digest")
    pieces = []
    for at in range(0, len(raw), POINT_BYTES):
        state = start.copy()
        state.update(raw[at : at + POINT_BYTES])
        pieces.append(state.digest())
    return np.frombuffer(b"".join(pieces), dtype="<u8").reshape(-1, words)


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


def _digest(start: "hashlib._Hash", text: bytes) -> "gmpy2.mpz":
    state = start.copy()
    state.update(text)
    return gmpy2.mpz.from_bytes(state.digest()[:POINT_BYTES], "little") & _MASK


def _elligator(hashes: "Sequence[gmpy2.mpz]") -> "list[gmpy2.mpz]":
    """The u-coordinates that Elligator 2 maps `hashes` to, with one inversion for all (Montgomery's trick).

    With w = 1 + 2r², the first candidate is u = -A/w; it is on the curve when u³ + Au² + u is a square, which is when
    -Aw(A² - A²w + w²) is one (the same times w⁴). If not, -A - u is on it.
    """
    ws = [(2 * r * r + 1) % _FIELD for r in hashes]
    products = [_ONE]
    for w in ws:
        products.append(products[-1] * w % _FIELD)
    inverse = gmpy2.invert(products[-1], _FIELD)
    us, minus_a = [], -_A
    for w, before in zip(reversed(ws), reversed(products[:-1]), strict=True):
        u = minus_a * inverse * before % _FIELD
        inverse = inverse * w % _FIELD
        # The factor -A is left to the symbol of a constant.
        on_curve = gmpy2.jacobi(w * (_A_SQUARED * (_ONE - w) + w * w) % _FIELD, _FIELD) == _MINUS_A_SYMBOL
        us.append(u if on_curve else (minus_a - u) % _FIELD)
    return us[::-1]


def _value(scalar: bytes) -> int:
    """The factor that X25519 makes of 32 bytes (RFC 7748 section 5)."""
    return (int.from_bytes(scalar, "little") & (2**254 - 8)) | 2**254


def _lift(residue: int) -> bytes | None:
    """The factor equal to `residue` modulo the group's order that X25519 can use; None when there is none."""
    lifted = residue + (-residue * pow(ORDER, -1, 8) % 8) * ORDER
    return lifted.to_bytes(POINT_BYTES, "little") if 2**254 <= lifted < 2**255 else None


def _points(raw: bytes) -> Points:
    return np.frombuffer(raw, dtype=np.uint8).reshape(-1, POINT_BYTES)


_FIELD = gmpy2.mpz(PRIME)
_ONE = gmpy2.mpz(1)
_MASK = gmpy2.mpz(2**255 - 1)
_A = gmpy2.mpz(486662)
_A_SQUARED = _A**2
_MINUS_A_SYMBOL = gmpy2.jacobi(-_A, _FIELD)
_SMALL = np.array([list(u.to_bytes(POINT_BYTES, "little")) for u in SMALL_ORDER], dtype=np.uint8)
