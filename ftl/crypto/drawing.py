"""Encryptions of zero by the holder of an Okamoto–Uchiyama key; also a program of its own that draws them ahead.

As a program it reads from its standard input the key's numbers (never from its arguments, which other users can see)
and then, line by line, how many to draw; it writes them to its standard output and ends with its input. It imports
nothing of this package, so that it is ready at once.
"""

import os
import sys
from dataclasses import dataclass, field
from functools import cached_property

import gmpy2
from gmpy2 import mpz

EXPONENT_BITS = 240
"""Of a random exponent; h has an order of 224 bits, so h^r is even among its powers but for 2^-16."""

WINDOW = 12
"""Bits of an exponent that one entry of the table stands for: 20 tables of 4,096 numbers, some 20 MB, 0.2 s once."""

CHUNK = 64
"""Encryptions drawn at once; who wants to stop meanwhile waits some 2 ms."""

Drawn = tuple[mpz, mpz]
"""An encryption of zero, and the slope by which a plaintext m moves it: zero + p q (slope · m mod p)."""


@dataclass(frozen=True)
class Drawing:
    """What is needed to draw. Its printed form shows nothing.

    Attributes:
        p: of the key, n = p²q.
        q: of the key.
        base: h mod p².
        factor: slope of the zero 1: κ / q mod p; see :mod:`ftl.crypto.ou_cipher`.
    """

    p: mpz = field(repr=False)
    q: mpz = field(repr=False)
    base: mpz = field(repr=False)
    factor: mpz = field(repr=False)

    @cached_property
    def _table(self) -> list[list[mpz]]:
        return table(self.base, self.p**2, WINDOW, EXPONENT_BITS)

    def draw(self, count: int) -> list[Drawn]:
        """`count` encryptions of zero: modulo p² a random power of h, modulo q any number."""
        p, q, square = self.p, self.q, self.p**2
        inverse = gmpy2.invert(q, square)
        powers = random_powers(self._table, WINDOW, square, count)
        return [
            (other + q * ((power - other) * inverse % square), power * self.factor % p)
            for power, other in zip(powers, _even(q, count), strict=True)
        ]

    @property
    def widths(self) -> tuple[int, int]:
        """Bytes of a zero and of a slope."""
        return (self.p**2 * self.q).bit_length() // 8 + 1, self.p.bit_length() // 8 + 1

    def dump(self, drawn: list[Drawn]) -> bytes:
        """As bytes of :attr:`widths`."""
        wide, narrow = self.widths
        return b"".join([zero.to_bytes(wide, "big") + slope.to_bytes(narrow, "big") for zero, slope in drawn])

    def load(self, data: bytes) -> list[Drawn]:
        """What :meth:`dump` wrote."""
        wide, narrow = self.widths
        return [
            (mpz.from_bytes(data[at : at + wide], "big"), mpz.from_bytes(data[at + wide : at + wide + narrow], "big"))
            for at in range(0, len(data), wide + narrow)
        ]


def table(base: mpz, modulus: mpz, window: int, bits: int) -> list[list[mpz]]:
    """Per digit of an exponent of `bits` bits the powers base^(d · 2^(window · digit))."""
    rows = []
    for _ in range(-(-bits // window)):
        row = [mpz(1)]
        for _ in range((1 << window) - 1):
            row.append(row[-1] * base % modulus)
        rows.append(row)
        base = row[-1] * base % modulus
    return rows


def random_powers(rows: list[list[mpz]], window: int, modulus: mpz, count: int) -> list[mpz]:
    """`count` powers of a table's base with random exponents."""
    mask = (1 << window) - 1
    powers = [mpz(1)] * count
    for row in rows:
        digits = memoryview(os.urandom(2 * count)).cast("H")
        powers = [power * row[digit & mask] % modulus for power, digit in zip(powers, digits, strict=True)]
    return powers


def _even(limit: mpz, count: int) -> list[mpz]:
    """Numbers from 1 to limit - 1, even but for 2^-64."""
    width = limit.bit_length() // 8 + 9
    data = os.urandom(width * count)
    return [mpz.from_bytes(data[at : at + width], "big") % (limit - 1) + 1 for at in range(0, len(data), width)]


def main() -> None:
    """Draw as many as every line asks for."""
    numbers = [mpz(sys.stdin.readline().strip(), 16) for _ in range(4)]
    drawing = Drawing(*numbers)
    for line in sys.stdin:
        for start in range(0, int(line), CHUNK):
            sys.stdout.buffer.write(drawing.dump(drawing.draw(min(CHUNK, int(line) - start))))
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt):  # whom it draws for has ended
        os._exit(0)
