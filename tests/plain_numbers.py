"""How a program may write a number in the clear, to look for it in what was sent.

Megabytes of ciphertext hold any four bytes by chance, so single precision is looked for as neighbours in a column, and
text only where it is long.
"""

import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise

_SHORTEST_TEXT = 8


def encodings(value: float) -> list[bytes]:
    """One number: float64 of either order, and as text."""
    text = repr(float(value)).encode()
    return [struct.pack("<d", value), struct.pack(">d", value), *([text] if len(text) >= _SHORTEST_TEXT else [])]


def single_encodings(column: Sequence[float]) -> Iterator[bytes]:
    """Every two neighbours that are not both 0: float32 of either order."""
    for pair in pairwise(column):
        if any(pair):
            yield from (struct.pack("<ff", *pair), struct.pack(">ff", *pair))
