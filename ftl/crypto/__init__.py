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
from ftl.crypto.curve import (
    POINT_BYTES,
    Digests,
    Points,
    as_keys,
    check_points,
    digests,
    hash_to_points,
    multiply,
    random_factors,
    random_pair,
    random_scalar,
    spread,
)
from ftl.crypto.keystore import KeyStore
from ftl.crypto.ou_cipher import OuScheme
from ftl.crypto.packing import Packing, Plaintexts, Sums
from ftl.crypto.paillier_cipher import PaillierScheme
from ftl.crypto.pseudonym import pseudonym, pseudonyms
from ftl.crypto.schemes import scheme_of

__all__ = [
    "POINT_BYTES",
    "AdditiveScheme",
    "Certificate",
    "Ciphertexts",
    "Digests",
    "KeyStore",
    "OuScheme",
    "Packing",
    "PaillierScheme",
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
    "digests",
    "expand",
    "hash_to_points",
    "issue",
    "multiply",
    "pseudonym",
    "pseudonyms",
    "random_factors",
    "random_pair",
    "random_scalar",
    "scheme_of",
    "slots",
    "spread",
]
