"""Ciphers, points, keys, pseudonyms and certificates. Knows no other room."""

from ftl.crypto.certificates import Certificate, create_authority, issue
from ftl.crypto.cipher import (
    AdditiveScheme,
    Ciphertexts,
    PublicCipher,
    SecretCipher,
    check_buckets,
    compressed_length,
    expand,
    slots,
)
from ftl.crypto.curve import POINT_BYTES, Points, as_keys, check_points, hash_to_points, multiply, random_scalar
from ftl.crypto.heu_cipher import HeuScheme
from ftl.crypto.keystore import KeyStore
from ftl.crypto.packing import Packing, Plaintexts, Sums
from ftl.crypto.pseudonym import pseudonym, pseudonyms

__all__ = [
    "POINT_BYTES",
    "AdditiveScheme",
    "Certificate",
    "Ciphertexts",
    "HeuScheme",
    "KeyStore",
    "Packing",
    "Plaintexts",
    "Points",
    "PublicCipher",
    "SecretCipher",
    "Sums",
    "as_keys",
    "check_buckets",
    "check_points",
    "compressed_length",
    "create_authority",
    "expand",
    "hash_to_points",
    "issue",
    "multiply",
    "pseudonym",
    "pseudonyms",
    "random_scalar",
    "slots",
]
