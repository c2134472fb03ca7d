"""Pseudonyms: texts replaced by a keyed hash, so that what they name never lands and equal texts stay equal."""

import hmac
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from ftl.crypto import KeyStore

KEY = "pseudonyms"
"""Name of the node's key; whoever loses it cannot join new rows to old ones."""

BYTES = 16
"""Of a pseudonym: two of 2**40 different texts meet with a probability below 2**-48."""


class Pseudonyms:
    """The pseudonyms that one node gives: the first 16 bytes of HMAC-SHA-256, as 32 hexadecimal digits.

    Args:
        keys: folder of the node's key store; the key is drawn there when the first pseudonym is asked for.
    """

    def __init__(self, keys: Path) -> None:
        self._keys = keys

    def of(self, values: pa.Array) -> pa.Array:
        """string, n cells: null stays null, equal texts have equal pseudonyms in every table of this node."""
        encoded = values.cast(pa.string()).dictionary_encode()
        made = [
            hmac.digest(self._key, text.encode(), "sha256")[:BYTES].hex() for text in encoded.dictionary.to_pylist()
        ]
        return pa.DictionaryArray.from_arrays(encoded.indices, pa.array(made, pa.string())).dictionary_decode()

    @cached_property
    def _key(self) -> bytes:
        return KeyStore(self._keys).key(KEY)
