"""Deletion vectors: which rows of a Parquet file are no longer part of a Delta table.

A vector is a set of row positions, kept as Roaring bitmaps (Lemire et al. 2016, the portable 64-bit layout that the
Delta protocol prescribes under "Deletion Vector Format"). With it a merge deletes rows without writing their files
anew.
"""

import struct
import uuid
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = 1_681_511_377
_NO_RUNS = 12_346
"""Cookie of a 32-bit Roaring bitmap that holds no run containers."""
_CONTAINER = 1 << 16
_DENSE = 4096
"""A container of more values than this is a bitmap of 65,536 bits, else a list of 16-bit values."""
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"

Descriptor = dict[str, Any]
"""How an `add` or `remove` action names a vector."""


def write_vectors(folder: Path, vectors: Mapping[str, NDArray[np.int64]]) -> dict[str, Descriptor]:
    """Write the vectors of several data files into one new file of the table's folder.

    Args:
        folder: of the table.
        vectors: data file to the positions of its deleted rows, ascending, each once, below 2**32.

    Returns:
        data file to the descriptor of its vector.
    """
    name = uuid.uuid4()
    written = bytearray(b"\x01")
    found = {}
    for file, positions in vectors.items():
        data = encode(positions)
        found[file] = {
            "storageType": "u",
            "pathOrInlineDv": _z85(name.bytes),
            "offset": len(written),
            "sizeInBytes": len(data),
            "cardinality": len(positions),
        }
        written += struct.pack(">I", len(data)) + data + struct.pack(">I", zlib.crc32(data))
    if found:
        (folder / f"deletion_vector_{name}.bin").write_bytes(written)
    return found


def file_name(vector: Descriptor) -> str:
    """The file of the table's folder that holds a vector written by :func:`write_vectors`."""
    text = vector["pathOrInlineDv"][-20:]
    words = (text[first : first + 5] for first in range(0, 20, 5))
    numbers = (sum(_Z85.index(char) * 85 ** (4 - place) for place, char in enumerate(word)) for word in words)
    return f"deletion_vector_{uuid.UUID(bytes=struct.pack('>4I', *numbers))}.bin"


def encode(positions: NDArray[np.int64]) -> bytes:
    """The set as the Delta protocol stores it.

    Args:
        positions: ascending, each once, below 2**32.
    """
    return struct.pack("<IQI", _MAGIC, 1, 0) + _bitmap(positions)


def _bitmap(positions: NDArray[np.int64]) -> bytes:
    """A 32-bit Roaring bitmap: cookie, number of containers, their keys and sizes, their places, the containers."""
    keys, starts, sizes = np.unique(positions // _CONTAINER, return_index=True, return_counts=True)
    containers = [_container(part % _CONTAINER) for part in np.split(positions, starts[1:])] if len(keys) else []
    header = np.column_stack([keys, sizes - 1]).astype("<u2").tobytes()
    first = 8 + len(header) + 4 * len(containers)
    places = first + np.cumsum([0, *map(len, containers)][: len(containers)])
    return b"".join(
        [struct.pack("<II", _NO_RUNS, len(containers)), header, places.astype("<u4").tobytes(), *containers]
    )


def _container(low: NDArray[np.int64]) -> bytes:
    if len(low) <= _DENSE:
        return low.astype("<u2").tobytes()
    bits = np.zeros(_CONTAINER, dtype=bool)
    bits[low] = True
    return np.packbits(bits, bitorder="little").tobytes()


def _z85(data: bytes) -> str:
    """Base85 as ZeroMQ RFC 32 has it; `data` is a multiple of 4 bytes long."""
    words = struct.unpack(f">{len(data) // 4}I", data)
    return "".join(_Z85[word // 85**place % 85] for word in words for place in (4, 3, 2, 1, 0))
