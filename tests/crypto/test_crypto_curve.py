"""Texts on the curve, and multiplication by secrets that commute."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings

from ftl.crypto import (
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
from ftl.crypto.curve import CHUNK, ORDER, PRIME, SMALL_ORDER
from ftl.errors import CipherError

A = 486662
TEXTS = [f"id-{i}".encode() for i in range(40)]


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def coordinates(points: np.ndarray) -> list[int]:
    return [int.from_bytes(point.tobytes(), "little") for point in points]


def as_points(us: list[int]) -> np.ndarray:
    return np.array([list(u.to_bytes(32, "little")) for u in us], dtype=np.uint8)


@given(st.lists(st.binary(max_size=50), max_size=30, unique=True))
@settings(max_examples=25, deadline=None)
def test_every_text_lands_on_the_curve_and_never_on_its_twist(texts: list[bytes]) -> None:
    points = hash_to_points(texts, b"salt")
    for u in coordinates(points):
        assert pow(u**3 + A * u**2 + u, (PRIME - 1) // 2, PRIME) == 1
    assert len(np.unique(as_keys(points))) == len(texts)
    check_points(points)


def test_points_are_in_the_subgroup_of_prime_order_once_they_are_multiplied() -> None:
    # libsodium checks the order of Edwards points only.
    for u in coordinates(multiply(random_scalar(), hash_to_points(TEXTS, b""))):
        y = (u - 1) * pow(u + 1, -1, PRIME) % PRIME
        assert bindings.crypto_core_ed25519_is_valid_point(y.to_bytes(32, "little"))


def test_the_map_is_elligator_2_of_libsodium_but_for_the_cofactor() -> None:
    scalar = random_scalar()
    for text in TEXTS:
        prefix = b"ftl/hash-to-point/2" + (4).to_bytes(8, "little") + b"salt"
        digest = hashlib.sha512(prefix + text).digest()[:32]
        edwards = bindings.crypto_core_ed25519_from_uniform(digest[:31] + bytes([digest[31] & 127]))
        cleared = np.frombuffer(bindings.crypto_sign_ed25519_pk_to_curve25519(edwards), dtype=np.uint8).reshape(1, 32)
        eightfold = int.from_bytes(multiplier(scalar), "little") * pow(8, -1, ORDER) % ORDER
        assert (
            ladder(eightfold, coordinates(cleared)[0])
            == coordinates(multiply(scalar, hash_to_points([text], b"salt")))[0]
        )


def multiplier(scalar: bytes) -> bytes:
    """A scalar as X25519 clamps it."""
    return bytes([scalar[0] & 248, *scalar[1:31], (scalar[31] & 127) | 64])


def ladder(factor: int, u: int) -> int:
    """The u-coordinate of `factor` times a point: the Montgomery ladder of RFC 7748, without its clamping."""
    x, z, x1, z1 = 1, 0, u, 1
    for bit in f"{factor:b}":
        if bit == "1":
            x, z, x1, z1 = x1, z1, x, z
        plus, minus, plus1, minus1 = x + z, x - z, x1 + z1, x1 - z1
        cross, other = minus1 * plus, plus1 * minus
        x1, z1 = (cross + other) ** 2 % PRIME, u * (cross - other) ** 2 % PRIME
        square, square1 = plus * plus % PRIME, minus * minus % PRIME
        e = square - square1
        x, z = square * square1 % PRIME, e * (square + 121665 * e) % PRIME
        if bit == "1":
            x, z, x1, z1 = x1, z1, x, z
    return x * pow(z, -1, PRIME) % PRIME


def test_the_same_text_has_the_same_point_only_under_the_same_salt() -> None:
    first, again, other = (hash_to_points(TEXTS, salt) for salt in (b"a", b"a", b"b"))
    np.testing.assert_array_equal(first, again)
    assert not np.isin(as_keys(first), as_keys(other)).any()


def test_two_secrets_commute_and_one_does_not_undo_another() -> None:
    points = hash_to_points(TEXTS, b"s")
    a, b = random_scalar(), random_scalar()
    once = multiply(a, points)
    np.testing.assert_array_equal(multiply(b, once), multiply(a, multiply(b, points)))
    assert not np.isin(as_keys(once), as_keys(multiply(b, points))).any()


def test_the_inverse_takes_a_secret_off_again_and_nothing_else() -> None:
    points = hash_to_points(TEXTS, b"s")
    (a, inverse), b = random_pair(), random_scalar()
    once = multiply(b, points)
    np.testing.assert_array_equal(multiply(inverse, multiply(a, once)), once)
    np.testing.assert_array_equal(multiply(inverse, multiply(b, multiply(a, points))), once)
    assert not np.isin(as_keys(multiply(inverse, points)), as_keys(points)).any()


def test_two_factors_of_a_secret_are_that_secret_and_differ_each_time() -> None:
    whole, points = random_scalar(), multiply(random_scalar(), hash_to_points(TEXTS, b"s"))
    factors = [random_factors(whole) for _ in range(5)]
    for first, second in factors:
        np.testing.assert_array_equal(multiply(first, multiply(second, points)), multiply(whole, points))
    assert len({factor for pair in factors for factor in pair}) == 10


def test_multiplication_is_x25519_of_rfc_7748() -> None:
    scalar = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    u = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    product = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert multiply(scalar, np.frombuffer(u, dtype=np.uint8).reshape(1, 32)).tobytes().hex() == product


def test_digests_are_blake2b_of_each_point_under_the_key() -> None:
    points = hash_to_points(TEXTS, b"s")
    for words in (2, 5):
        expected = [
            hashlib.blake2b(point.tobytes(), key=b"k", digest_size=8 * words, person=b"ftl/point-digest").digest()
            for point in points
        ]
        assert [row.tobytes() for row in digests(points, b"k", words)] == expected


@pytest.mark.parametrize("length", [0, 1, CHUNK, 2 * CHUNK + 1])
def test_work_spread_over_threads_comes_back_in_order(length: int, pool: Executor) -> None:
    numbers = np.arange(length)
    np.testing.assert_array_equal(spread(pool, length, lambda some: numbers[some] * 2), numbers * 2)


def test_no_points_give_no_points() -> None:
    empty = hash_to_points([], b"")
    assert empty.shape == multiply(random_scalar(), empty).shape == (0, 32)
    assert digests(empty, b"", 2).shape == (0, 2)


@pytest.mark.parametrize("u", SMALL_ORDER)
def test_points_of_small_order_are_refused_by_the_check_and_by_multiplication(u: int) -> None:
    bad = np.concatenate([hash_to_points([b"x"], b""), as_points([u])])
    with pytest.raises(CipherError, match="1 of 2 points are of small order"):
        check_points(bad)
    with pytest.raises(CipherError, match="of small order cannot be multiplied"):
        multiply(random_scalar(), bad)


@pytest.mark.parametrize("u", [PRIME, PRIME + 1, 2**255, 2**255 + 9, 2**256 - 1])
def test_a_second_way_to_write_a_point_is_refused(u: int) -> None:
    with pytest.raises(CipherError, match="1 of 1 points are not written as numbers below"):
        check_points(as_points([u]))


def test_the_largest_canonical_number_is_only_refused_for_its_order() -> None:
    check_points(as_points([PRIME - 2]))


@pytest.mark.parametrize("points", [np.zeros((2, 31), dtype=np.uint8), np.zeros(32, dtype=np.uint8), np.zeros((1, 32))])
def test_what_is_not_n_times_32_bytes_is_no_list_of_points(points: np.ndarray) -> None:
    with pytest.raises(CipherError, match="Points must be bytes of shape"):
        check_points(points)
