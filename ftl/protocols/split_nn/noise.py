"""Gaussian noise that a party can draw again and nobody else can foresee.

It comes from SHAKE-256 under a key made of all the party's own values and the run's seed. The same run on the same data
so gives the same model and shows nobody a second draw that could be averaged with the first; and who does not have all
the party's values does not have the key.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from ftl.features import Frame


def secret_key(frame: Frame, seed: int) -> bytes:
    """32 bytes from all that the party's frame holds, its label included, and the run's seed."""
    digest = hashlib.blake2b(f"split_nn|{seed}|{frame.party}|".encode(), digest_size=32)
    digest.update("|".join(frame.ids).encode())
    digest.update(np.ascontiguousarray(frame.values).tobytes())
    if frame.label is not None:
        digest.update(np.ascontiguousarray(frame.label).tobytes())
    return digest.digest()


def gaussian(key: bytes, topic: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Standard normal numbers for a topic, float64, of `shape`."""
    stream = hashlib.shake_256(key + topic.encode()).digest(8 * int(np.prod(shape)))
    return _normal(stream).reshape(shape)


def gaussian_of_rows(key: bytes, values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Standard normal numbers that belong to each row's values, float64, shape (m, width)."""
    rows = np.ascontiguousarray(values + 0.0)  # -0.0 and 0.0 are the same value
    stream = b"".join(hashlib.shake_256(key + row.tobytes()).digest(8 * width) for row in rows)
    return _normal(stream).reshape(len(rows), width)


def _normal(stream: bytes) -> NDArray[np.float64]:
    uniform = (np.frombuffer(stream, dtype="<u8") >> np.uint64(11)).astype(np.float64) + 0.5
    return np.asarray(ndtri(np.ldexp(uniform, -53)))
