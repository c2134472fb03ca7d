"""Products of encrypted numbers with known ones: the cipher of Brakerski, Fan and Vercauteren (2012), by SEAL.

TenSEAL brings SEAL along. What is used of it here are encryption, addition and multiplication by a plaintext: an
additively homomorphic cipher that works on 8,192 residues at once. Residues, and not approximate numbers as in CKKS:
a result under a uniform mask then tells exactly nothing, and what is computed can be checked to the last bit.

What it is believed to be worth. Ring learning with errors, dimension 8,192, 218 bits of modulus, ternary secret: 128
bits of classical work by the tables of the homomorphic encryption standard (Albrecht et al. 2018). No quantum attack
better than a square root is known, unlike for Okamoto–Uchiyama and Paillier.

What the key holder learns of the *known* numbers. They are in the product's noise, which it can see. Therefore a result
is (1) added to a fresh encryption of 0 under the public key, which makes its random half look random even to the key
holder, and (2) divided and rounded from 177 bits of modulus to 57 (modulus switching). The noise, below 2^66, is so
divided by 2^120. It changes the rounding of any of 8,192 coefficients with a probability of at most 2^-40; otherwise
the result depends on the masked plaintext, the key and what looks random alone.

SEAL holds the interpreter's lock and computes on one core.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tenseal.sealapi as seal
from numpy.typing import NDArray

from ftl.crypto.shares import PRIMES, random_below
from ftl.errors import CipherError

SLOTS = 8192
"""Residues in one ciphertext; also the ring's dimension."""

_MODULUS_BITS = [57, 60, 60, 41]
"""Of the ciphertext modulus: what a result is rounded to, what is divided away, and a prime that SEAL sets aside."""

MOST_PRODUCTS = 1 << 12
"""In one sum, so that the noise stays below 2^72 at the very most and results can be decrypted."""

OPERAND_COST, RESULT_COST = 5.0, 7.0
"""Milliseconds that a ciphertext of operands and one of results take both parties, but for the products."""

Slots = NDArray[np.int64]
"""int64, shape (n, 8192): residues of n plaintexts."""


@dataclass(frozen=True)
class Operands:
    """Ciphertexts of a peer, ready to be multiplied; what is in `values` is SEAL's."""

    values: list[Any] = field(repr=False)

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Factor:
    """A known plaintext, ready to multiply with, any number of times."""

    value: Any | None = field(repr=False)
    """None for zeros, which SEAL refuses to multiply with."""


class LatticePublic:
    """What everybody may do with a public key.

    Args:
        prime: 0 or 1: which of :data:`~ftl.crypto.shares.PRIMES` plaintexts are residues of.
        public: the key, as :meth:`LatticeKey.public` wrote it.

    Raises:
        CipherError: it is no public key of these parameters.
    """

    def __init__(self, prime: int, public: bytes) -> None:
        self._context = _context(prime)
        self.prime = PRIMES[prime]
        key = seal.PublicKey()
        _read(key, self._context, public, "public key")
        self._encryptor = seal.Encryptor(self._context, key)
        self._evaluator = seal.Evaluator(self._context)
        self._encoder = seal.BatchEncoder(self._context)

    def operands(self, ciphertexts: Sequence[bytes], count: int) -> Operands:
        """Ciphertexts that the key holder sent.

        Args:
            ciphertexts: as received.
            count: how many there must be.

        Raises:
            CipherError: they are no fresh ciphertexts of these parameters, or not so many.
        """
        if len(ciphertexts) != count:
            raise CipherError(f"{len(ciphertexts)} ciphertexts where {count} were due.")
        return Operands([self._operand(one) for one in ciphertexts])

    def factor(self, slots: NDArray[np.int64]) -> Factor:
        """A plaintext of 8,192 residues to multiply with; about 1 ms."""
        if not slots.any():
            return Factor(None)
        plain = _encoded(self._encoder, slots)
        self._evaluator.transform_to_ntt_inplace(plain, self._context.first_parms_id())
        return Factor(plain)

    def sum_of_products(
        self, operands: Operands, places: Sequence[int], factors: Sequence[Factor], mask: NDArray[np.int64]
    ) -> bytes:
        """Slot by slot the sum over i of operands[places[i]] × factors[i], plus `mask`; fit for the key holder.

        Args:
            operands: of the key holder.
            places: n numbers of operands.
            factors: n known plaintexts.
            mask: int64, shape (8192,): uniform residues; the key holder learns the masked sum.

        Raises:
            CipherError: no terms or too many of them.
        """
        if not 1 <= len(places) <= MOST_PRODUCTS or len(places) != len(factors):
            raise CipherError(f"A sum of {len(places)} products with {len(factors)} factors.")
        total, term = seal.Ciphertext(self._context), seal.Ciphertext(self._context)
        self._encryptor.encrypt_zero(total)
        self._evaluator.transform_to_ntt_inplace(total)
        for place, factor in zip(places, factors, strict=True):
            if factor.value is None:
                continue
            self._evaluator.multiply_plain(operands.values[place], factor.value, term)
            self._evaluator.add_inplace(total, term)
        self._evaluator.transform_from_ntt_inplace(total)
        self._evaluator.add_plain_inplace(total, _encoded(self._encoder, mask))
        self._evaluator.mod_switch_to_inplace(total, self._context.last_parms_id())
        return _written(total)

    def _operand(self, data: bytes) -> Any:
        ciphertext, operand = seal.Ciphertext(), seal.Ciphertext(self._context)
        _read(ciphertext, self._context, data, "ciphertext")
        fresh = ciphertext.parms_id() == self._context.first_parms_id()
        if not fresh or ciphertext.size() != 2 or ciphertext.is_ntt_form():
            raise CipherError("A ciphertext is not a fresh one.")
        self._evaluator.transform_to_ntt(ciphertext, operand)
        return operand


class LatticeKey:
    """A fresh key pair; the secret key has no bytes and so never leaves the process.

    Args:
        prime: as of :class:`LatticePublic`.
    """

    def __init__(self, prime: int) -> None:
        self._context = _context(prime)
        self.prime = PRIMES[prime]
        generator, self._public = seal.KeyGenerator(self._context), seal.PublicKey()
        generator.create_public_key(self._public)
        secret = generator.secret_key()
        self._encryptor = seal.Encryptor(self._context, self._public, secret)
        self._decryptor = seal.Decryptor(self._context, secret)
        self._encoder = seal.BatchEncoder(self._context)

    def public(self) -> bytes:
        """The public key, to be sent to those who multiply."""
        return _written(self._public)

    def encrypt(self, slots: Slots) -> list[bytes]:
        """Ciphertexts of n plaintexts, each under fresh randomness; about 390,000 bytes each."""
        return [self._encrypt(row) for row in slots]

    def decrypt(self, ciphertexts: Sequence[bytes], count: int) -> Slots:
        """Masked sums that a peer made with :meth:`LatticePublic.sum_of_products`, shape (count, 8192).

        Raises:
            CipherError: they are no such results, or not so many.
        """
        if len(ciphertexts) != count:
            raise CipherError(f"{len(ciphertexts)} ciphertexts where {count} were due.")
        return np.array([self._decrypt(one) for one in ciphertexts], dtype=np.int64).reshape(count, SLOTS)

    def _encrypt(self, row: NDArray[np.int64]) -> bytes:
        ciphertext = seal.Ciphertext(self._context)
        self._encryptor.encrypt_symmetric(_encoded(self._encoder, row), ciphertext)
        return _written(ciphertext)

    def _decrypt(self, data: bytes) -> list[int]:
        ciphertext, plain = seal.Ciphertext(), seal.Plaintext()
        _read(ciphertext, self._context, data, "ciphertext")
        if ciphertext.parms_id() != self._context.last_parms_id() or ciphertext.size() != 2:
            raise CipherError("A ciphertext is not a result of sums of products.")
        if self._decryptor.invariant_noise_budget(ciphertext) == 0:
            raise CipherError(
                "A ciphertext cannot be decrypted: it is of another key, or was changed.",
                cure="See that both parties run the same version.",
            )
        self._decryptor.decrypt(ciphertext, plain)
        decoded: list[int] = self._encoder.decode_uint64(plain)
        return decoded


def masks(prime: int, count: int) -> Slots:
    """Uniform residues for `count` sums of products."""
    return random_below(prime, (count, SLOTS))


def blocks(*matrices: NDArray[np.int64]) -> Slots:
    """Rows of matrices of one shape (n, k) side by side, zeros behind.

    With m matrices each plaintext has m regions, region i for rows of matrix i; all regions hold the same row numbers.

    Raises:
        CipherError: they do not fit into a plaintext.
    """
    count, width = matrices[0].shape
    per = rows_per_region(width, len(matrices))
    plaintexts = -(-count // per)
    padded = np.zeros((len(matrices), plaintexts * per, width), dtype=np.int64)
    padded[:, :count] = matrices
    regions = padded.reshape(len(matrices), plaintexts, per * width).transpose(1, 0, 2)
    slots = np.zeros((plaintexts, SLOTS), dtype=np.int64)
    slots[:, : len(matrices) * per * width] = regions.reshape(plaintexts, -1)
    return slots


def rows(slots: Slots, count: int, width: int) -> NDArray[np.int64]:
    """The first `count` rows of a matrix that :func:`blocks` laid out in one region, shape (count, width)."""
    per = rows_per_region(width, 1)
    return slots[:, : per * width].reshape(-1, width)[:count]


def folded(slots: Slots, width: int, prime: int, regions: int = 1) -> NDArray[np.int64]:
    """Per plaintext and region the sum of its rows of `width` residues, modulo `prime`, shape (n, regions, width)."""
    per = rows_per_region(width, regions)
    shaped = slots[:, : regions * per * width].reshape(len(slots), regions, per, width)
    return np.asarray(shaped.sum(axis=2) % prime)


def block_count(count: int, width: int, regions: int = 1) -> int:
    """Plaintexts that :func:`blocks` makes of `count` rows of `width`."""
    return -(-count // rows_per_region(width, regions))


def rows_per_region(width: int, regions: int) -> int:
    """Rows that a region of a plaintext holds.

    Raises:
        CipherError: none.
    """
    if width < 1 or regions < 1 or width * regions > SLOTS:
        raise CipherError(f"{regions} rows of {width} numbers do not fit into a plaintext of {SLOTS}.")
    return SLOTS // (width * regions)


def best_regions(count: int, width: int, results: int) -> int:
    """Regions with which sums over `count` rows of `width`, `results` of them, take least time.

    More regions mean more plaintexts to encrypt, and fewer results to refresh and to decrypt.
    """
    choices = [regions for regions in range(1, results + 1) if regions * width <= SLOTS]
    return min(choices, key=lambda m: OPERAND_COST * block_count(count, width, m) + RESULT_COST * -(-results // m))


def _context(prime: int) -> Any:
    parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
    parameters.set_poly_modulus_degree(SLOTS)
    parameters.set_coeff_modulus(seal.CoeffModulus.Create(SLOTS, _MODULUS_BITS))
    parameters.set_plain_modulus(seal.Modulus(PRIMES[prime]))
    context = seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)
    if not context.parameters_set():
        raise CipherError(f"SEAL refuses the parameters: {context.parameters_error_message()}.")
    return context


def _encoded(encoder: Any, slots: NDArray[np.int64]) -> Any:
    plain = seal.Plaintext()
    encoder.encode(slots.tolist(), plain)
    return plain


def _written(thing: Any) -> bytes:
    """Bytes of a SEAL object, which it writes to files only: one in memory."""
    file = os.memfd_create("ftl")
    try:
        thing.save(f"/proc/self/fd/{file}")
        return os.pread(file, os.fstat(file).st_size, 0)
    finally:
        os.close(file)


def _read(thing: Any, context: Any, data: bytes, name: str) -> None:
    file = os.memfd_create("ftl")
    try:
        os.write(file, data)
        thing.load(context, f"/proc/self/fd/{file}")
    except (RuntimeError, ValueError, IndexError, OSError) as exc:
        raise CipherError(
            f"These {len(data)} bytes are no {name}.", cure="See that both parties run the same version."
        ) from exc
    finally:
        os.close(file)
