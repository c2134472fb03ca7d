"""Keys of Okamoto–Uchiyama, with a base of randomness whose order modulo p² is a prime of 224 bits.

Okamoto and Uchiyama 1998 with the base of Coron, Naccache and Paillier 1999: n = p²q; p - 1 = t u with t prime; g is a
u-th power whose order modulo p² is p t, and h = g^n, whose order modulo p² is t. A plaintext m is hidden as g^m h^r.

What it is believed to be worth. It hides plaintexts from everybody who holds only n, g and h, as long as the p-subgroup
problem is hard, which it is not for those who can factor n. At 2048 bits p and q have 683 bits each. The number field
sieve needs for this n what it needs for any 2048-bit number, about 112 bits of work; the elliptic-curve method, whose
work depends on the smallest prime, needs more for 683 bits. No better attack on p²q of this size is published, but the
form is studied less than Paillier's and RSA's. A guessed plaintext could be verified by a discrete logarithm in the
group of h, of which 2^112 steps are needed (Pollard's rho in a group of 224 bits). Whoever has chosen ciphertexts
decrypted can factor a key with one plaintext above p, so decryption refuses every plaintext wider than was agreed. It
does not resist a quantum computer.
"""

import secrets
from dataclasses import dataclass, field

import gmpy2
import msgspec
from gmpy2 import mpz

from ftl.errors import CipherError

ORDER_BITS = 224
"""Of t: twice the 112 bits of work that a modulus of 2048 bits is worth."""
LEAST_BITS = 2048
MOST_BITS = 8192
PRIME_TESTS = 40
"""Rounds of GMP's test; the first ones are Baillie–PSW, which no composite is known to pass."""


class OuPublic(msgspec.Struct, frozen=True, array_like=True):
    """A public key as it is sent: n, g and h, big-endian."""

    n: bytes
    g: bytes
    h: bytes


_BEGIN = {0: 0b1111, 1: 0b1011, 2: 0b1000}
"""The four highest bits of p and q by how many bits three of their length exceed the modulus: p²q then has as many bits
as were asked for, whatever follows."""


@dataclass(frozen=True)
class OuKey:
    """A key pair. Its printed form shows nothing.

    Attributes:
        p: prime, kept.
        q: prime, kept.
        t: prime order of h modulo p², kept.
        g: hides plaintexts.
        h: hides them with randomness.
    """

    p: mpz = field(repr=False)
    q: mpz = field(repr=False)
    t: mpz = field(repr=False)
    g: mpz = field(repr=False)
    h: mpz = field(repr=False)

    @classmethod
    def draw(cls, bits: int) -> "OuKey":
        """A fresh key pair whose modulus has exactly `bits` bits, so that all ciphertexts have one size; 0.02 s."""
        size = -(-bits // 3)
        begin = _BEGIN[3 * size - bits] << size - 4
        end = begin + (1 << size - 4)
        t = _prime(1 << ORDER_BITS - 1, 1 << ORDER_BITS)
        p, u = _prime_above(t, begin, end)
        q = _prime(begin, end)
        n, square = p * p * q, p * p
        while True:
            g = gmpy2.powmod(mpz(secrets.randbelow(int(n) - 3)) + 2, u, n)
            h = gmpy2.powmod(g, n, n)
            if gmpy2.powmod(g, t, square) != 1 and h % square != 1:
                return cls(p, q, t, g, h)

    def public(self) -> bytes:
        """The public key, to be sent to those who add."""
        numbers = (self.p * self.p * self.q, self.g, self.h)
        return msgspec.msgpack.encode(OuPublic(*[number.to_bytes(_width(number), "big") for number in numbers]))


def read_public(public: bytes, bits: int) -> tuple[mpz, mpz, mpz]:
    """n, g and h of a public key that a peer sent.

    Raises:
        CipherError: it is no public key, or one shorter than `bits`, or longer than any.
    """
    try:
        key = msgspec.msgpack.decode(public, type=OuPublic)
    except msgspec.DecodeError as exc:
        raise CipherError("This is no public key.", cure="See that both parties run the same version.") from exc
    n, g, h = (mpz.from_bytes(number, "big") for number in (key.n, key.g, key.h))
    if not bits <= n.bit_length() <= MOST_BITS:
        raise CipherError(
            f"The public key has {n.bit_length()} bits and is none of ou with {bits} bits or more.",
            cure="Let all parties run with the same cipher settings.",
        )
    if not all(1 < base < n - 1 and gmpy2.gcd(base, n) == 1 for base in (g, h)) or gmpy2.is_even(n):
        raise CipherError("This is no public key: its bases do not fit its modulus.")
    return n, g, h


def capacity(n: mpz) -> int:
    """Bits of a plaintext: one fewer than those of p, which has a third of n's."""
    return -(-int(n.bit_length()) // 3) - 1


def _prime(begin: int, end: int) -> mpz:
    """A prime of [begin, end)."""
    while True:
        drawn = mpz(begin + secrets.randbelow(end - begin)) | 1
        if gmpy2.is_prime(drawn, PRIME_TESTS):
            return drawn


def _prime_above(t: mpz, begin: int, end: int) -> tuple[mpz, mpz]:
    """A prime p of [begin, end) and u, with p - 1 = t u."""
    lowest, highest = begin // t + 1, (end - 2) // t
    while True:
        u = lowest + secrets.randbelow(int(highest - lowest))
        u += gmpy2.is_odd(u)
        if t * u + 1 < end and gmpy2.is_prime(t * u + 1, PRIME_TESTS):
            return t * u + 1, u


def _width(number: mpz) -> int:
    return (int(number.bit_length()) + 7) // 8
