"""Keyed pseudonyms: the same person has the same one under a key, and without the key nobody can compute or test it."""

import hmac
from collections.abc import Iterable

from ftl.crypto.keystore import KEY_BYTES
from ftl.errors import CipherError


def pseudonym(key: bytes, text: str) -> bytes:
    """HMAC-SHA-256 of `text` in UTF-8, 32 bytes.

    Args:
        key: 32 random bytes.
        text: for example identifiers joined by ``"|"``.

    Raises:
        CipherError: the key is too short, or the text is not Unicode.
    """
    return pseudonyms(key, [text])[0]


def pseudonyms(key: bytes, texts: Iterable[str]) -> list[bytes]:
    """Pseudonyms of many texts, in their order; see :func:`pseudonym`."""
    if len(key) < KEY_BYTES:
        raise CipherError(f"A pseudonym's key has {len(key)} bytes; it needs {KEY_BYTES}.")
    try:
        return [hmac.digest(key, text.encode(), "sha256") for text in texts]
    except UnicodeEncodeError:
        # Without its cause, which would show the text.
        raise CipherError("A text is not Unicode.", cure="Look for broken encodings in the mapped columns.") from None
