"""The cipher that a recipe's settings name."""

from typing import Literal

from ftl.crypto.cipher import AdditiveScheme
from ftl.crypto.ou_cipher import OuScheme
from ftl.crypto.paillier_cipher import PaillierScheme


def scheme_of(cipher: Literal["ou", "paillier"], bits: int) -> AdditiveScheme:
    """Where ciphers of that name come from.

    Args:
        cipher: ``ou`` for Okamoto–Uchiyama or ``paillier``.
        bits: length of the modulus.

    Raises:
        CipherError: a modulus too short to be safe.
    """
    return OuScheme(bits) if cipher == "ou" else PaillierScheme(bits)
