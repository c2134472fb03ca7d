"""Pseudonyms: texts replaced by a keyed hash, so that what they name never lands and equal texts stay equal."""

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ftl.crypto import KeyStore

KEY = "pseudonyms"
"""Name of the node's key; whoever loses it cannot join new rows to old ones."""

BYTES = 16
"""Of a pseudonym: two of 2**40 different texts meet with a probability below 2**-48."""

_REMEMBERED = 1 << 17
"""Texts whose pseudonyms are kept for the batches to come."""
_BLOCK = 64
"""Bytes of a block of SHA-256, to which HMAC pads its key (RFC 2104, section 2)."""


class Pseudonyms:
    """The pseudonyms that one node gives: the first 16 bytes of HMAC-SHA-256, as 32 hexadecimal digits.

    Args:
        keys: folder of the node's key store; the key is drawn there when the first pseudonym is asked for.
    """

    def __init__(self, keys: Path) -> None:
        self._keys = keys
        self._texts = self._made = pa.array([], pa.string())

    def of(self, values: pa.Array) -> pa.Array:
        """string, n cells: null stays null, equal texts have equal pseudonyms in every table of this node."""
        texts = values.cast(pa.string())
        known = pc.index_in(texts, value_set=self._texts)
        found = self._made.take(known)
        if found.null_count == texts.null_count:
            return found
        fresh = pc.unique(texts.filter(pc.is_null(known))).drop_null()
        made = pa.array(map(self._one, fresh.to_pylist()), pa.string(), size=len(fresh))
        self._remember(fresh, made)
        return pc.coalesce(found, made.take(pc.index_in(texts, value_set=fresh)))

    def _remember(self, texts: pa.Array, made: pa.Array) -> None:
        """Keep the pseudonyms for the batches to come; those of before go when there are too many."""
        if len(self._texts) + len(texts) > _REMEMBERED:
            self._texts, self._made = texts[:_REMEMBERED], made[:_REMEMBERED]
        else:
            self._texts, self._made = (pa.concat_arrays(pair) for pair in ((self._texts, texts), (self._made, made)))

    @cached_property
    def _one(self) -> Callable[[str], str]:
        return _hashing(KeyStore(self._keys).key(KEY))


def _hashing(key: bytes) -> Callable[[str], str]:
    """The function that gives a text's pseudonym; both hashes of HMAC have taken in the key once and for all."""
    padded = key.ljust(_BLOCK, b"\0")
    inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in padded)) for pad in (0x36, 0x5C))

    def pseudonym(text: str) -> str:
        first, second = inner.copy(), outer.copy()
        first.update(text.encode())
        second.update(first.digest())
        return second.hexdigest()[: 2 * BYTES]

    return pseudonym
