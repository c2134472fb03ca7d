"""Additive secret sharing over two prime fields, with fixed point, and products of what two parties hold.

A number is held as its residues modulo two primes of 46 bits, which together stand for an integer of 91 bits and a sign
(Chinese remainder theorem). Primes and not 2^64: products of random masks, without which no two parties can multiply
(Beaver 1991), can then be made by :mod:`~ftl.crypto.lattice` exactly and without a dealer, since its plaintexts are
residues of the same primes. And with 91 bits a chain of five factors needs no rounding of shares in between, which on
shares goes wrong by the whole modulus once in a while (Mohassel and Zhang 2017, theorem 1).

Both shares of a number are uniform, so that one alone tells nothing, whatever its holder can compute.

A product of *left* (known to one party) and *right* (known to the other): each opens its operand under a random mask, r
and s, and both hold shares of r·s beforehand. Then left·right = left·(right - s) + (left - r)·s + r·s, where the first
term is the left party's own, the second the right party's, the third shared. Works for any bilinear product.
"""

import secrets
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ftl.errors import CipherError

PRIMES = (70368743587841, 70368743669761)
"""Below 2^46, and 1 modulo 16,384, as the lattice cipher needs them."""

PRIME_BITS = 46
RANGE_BITS = sum(prime.bit_length() for prime in PRIMES) - 2
"""Magnitudes below 2^RANGE_BITS (90) can be told from each other."""

MOST_TERMS = 1 << 19
"""Of an inner product, so that sums of products of 16 bits stay exact in float64."""

Residues = NDArray[np.int64]
"""int64, shape (2, …): residues of the two primes."""

Product = Callable[[Residues, Residues], Residues]
"""A bilinear product of residues: :func:`multiply`, :func:`matmul`, or one made of them."""

_LIMB = 16


def encode(values: NDArray[np.float64], fraction: int) -> Residues:
    """Real numbers in fixed point: the nearest multiples of 2^-fraction.

    Args:
        values: float64, any shape.
        fraction: bits after the binary point.

    Raises:
        CipherError: a value is not finite, or does not fit into 62 bits.
    """
    scaled = np.ldexp(values, fraction)
    if not (np.abs(scaled) < 2.0**62).all():
        raise CipherError(
            f"A number does not fit into 62 bits with {fraction} of them after the point.",
            cure="Look for values that are not finite or of another order of magnitude than the rest.",
        )
    return from_integers(np.rint(scaled).astype(np.int64))


def from_integers(values: NDArray[np.int64]) -> Residues:
    """Integers as residues."""
    return np.stack([values % prime for prime in PRIMES])


def decode(residues: Residues, fraction: int) -> NDArray[np.float64]:
    """Back to real numbers, by Garner's form of the Chinese remainder theorem.

    Args:
        residues: as :func:`encode` or arithmetic on them left it.
        fraction: bits after the binary point.

    Raises:
        CipherError: a number is so large that the shares were no longer those of one.
    """
    first, second = PRIMES
    inverse = np.int64(pow(first, -1, second))
    digit = _multiply((residues[1] - residues[0]) % second, inverse, second)
    negative = digit >= second // 2
    whole = (digit - negative * second).astype(np.float64) * float(first) + residues[0]
    if (np.abs(whole) > 2.0 ** (RANGE_BITS - 2)).any():
        raise CipherError("A sum of products left the range of the secret shares.", cure="Use fewer fraction bits.")
    # A float64 keeps 53 bits of the large part; a small number is exact, because then the digit is 0 or -1.
    return np.asarray(np.ldexp(whole, -fraction))


def random_residues(shape: tuple[int, ...]) -> Residues:
    """Uniform residues of `shape`, from the operating system's generator: masks and shares."""
    return np.stack([random_below(prime, shape) for prime in PRIMES])


def random_below(prime: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Uniform integers from 0 to prime - 1, int64; exactly uniform, by rejection."""
    size = int(np.prod(shape))
    mask = np.uint64((1 << PRIME_BITS) - 1)
    drawn = np.frombuffer(secrets.token_bytes(8 * size), dtype="<u8") & mask
    values = drawn.astype(np.int64)
    while (over := values >= prime).any():
        again = np.frombuffer(secrets.token_bytes(8 * int(over.sum())), dtype="<u8") & mask
        values[over] = again.astype(np.int64)
    return values.reshape(shape)


def add(left: Residues, right: Residues) -> Residues:
    """Left + right."""
    total = left + right
    return total - _primes(total) * (total >= _primes(total))


def subtract(left: Residues, right: Residues) -> Residues:
    """Left - right."""
    difference = left - right
    return difference + _primes(difference) * (difference < 0)


def multiply(left: Residues, right: Residues) -> Residues:
    """Left × right, element by element; shapes behind the first axis broadcast."""
    return np.stack([_multiply(left[i], right[i], prime) for i, prime in enumerate(PRIMES)])


def shift(residues: Residues, bits: int) -> Residues:
    """Residues × 2^bits."""
    powers = [np.full(residues.shape[1:], pow(2, bits, prime), dtype=np.int64) for prime in PRIMES]
    return multiply(residues, np.stack(powers))


def matmul(left: Residues, right: Residues) -> Residues:
    """Matrix products, shapes (2, m, n) and (2, n, k) to (2, m, k), by exact products of 16-bit limbs in float64.

    Raises:
        CipherError: n is too large for them to be exact.
    """
    if left.shape[2] > MOST_TERMS:
        raise CipherError(f"An inner product of {left.shape[2]} terms; {MOST_TERMS} are the most.")
    return np.stack([_matmul(left[i], right[i], prime) for i, prime in enumerate(PRIMES)])


def left_share(product: Product, left: Residues, opened_right: Residues, share: Residues) -> Residues:
    """The left party's share of left·right.

    Args:
        product: the bilinear product, left operand first.
        left: its own operand.
        opened_right: the other's operand less its mask.
        share: its share of the product of the masks.
    """
    return add(product(left, opened_right), share)


def right_share(product: Product, opened_left: Residues, mask: Residues, share: Residues) -> Residues:
    """The right party's share of left·right.

    Args:
        product: the bilinear product, left operand first.
        opened_left: the other's operand less its mask.
        mask: of this party's own operand.
        share: its share of the product of the masks.
    """
    return add(product(opened_left, mask), share)


def _primes(residues: Residues) -> NDArray[np.int64]:
    return np.array(PRIMES, dtype=np.int64).reshape(2, *[1] * (residues.ndim - 1))


def _multiply(left: NDArray[np.int64], right: NDArray[np.int64] | np.int64, prime: int) -> NDArray[np.int64]:
    """Products modulo `prime`: the quotient from float64 is wrong by at most one, the rest is exact modulo 2^64."""
    quotient = (left.astype(np.float64) * right * (1.0 / prime)).astype(np.int64)
    rest = left * right - quotient * prime
    rest += prime * (rest < 0)
    rest -= prime * (rest >= prime)
    return np.asarray(rest)


def _matmul(left: NDArray[np.int64], right: NDArray[np.int64], prime: int) -> NDArray[np.int64]:
    rows, columns, limbs = left.shape[0], right.shape[1], -(-PRIME_BITS // _LIMB)
    tall = np.concatenate(_limbs(left, limbs), axis=0)
    wide = np.concatenate(_limbs(right, limbs), axis=1)
    products = (tall @ wide).reshape(limbs, rows, limbs, columns)
    result = np.zeros((rows, columns), dtype=np.int64)
    for power in range(2 * limbs - 1):
        pairs = [(i, power - i) for i in range(limbs) if 0 <= power - i < limbs]
        part = np.sum([products[i, :, j] for i, j in pairs], axis=0).astype(np.int64)
        result += _multiply(part % prime, np.int64(pow(2, _LIMB * power, prime)), prime)
    return result % prime


def _limbs(values: NDArray[np.int64], count: int) -> list[NDArray[np.float64]]:
    low = (1 << _LIMB) - 1
    return [(values >> (_LIMB * i) & low).astype(np.float64) for i in range(count)]
