"""Texts on the curve, and multiplication by secrets that commute."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings

from ftl.crypto import as_keys, check_points, hash_to_points, multiply, random_scalar
from ftl.crypto.curve import CHUNK, PRIME, SMALL_ORDER, _montgomery
from ftl.errors import CipherError

A = 486662


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def coordinates(points: np.ndarray) -> list[int]:
    return [int.from_bytes(point.tobytes(), "little") for point in points]


def as_points(us: list[int]) -> np.ndarray:
    return np.array([list(u.to_bytes(32, "little")) for u in us], dtype=np.uint8)


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=30, unique=True))
@settings(max_examples=25, deadline=None)
def test_every_text_lands_on_the_curve_and_never_on_its_twist(texts: list[str]) -> None:
    with ThreadPoolExecutor(1) as threads:
        points = hash_to_points(texts, b"salt", threads)
    for u in coordinates(points):
        assert pow(u**3 + A * u**2 + u, (PRIME - 1) // 2, PRIME) == 1
    assert len(np.unique(as_keys(points))) == len(texts)
    check_points(points)


def test_points_lie_in_the_subgroup_of_prime_order(pool: Executor) -> None:
    points = hash_to_points([str(i) for i in range(20)], b"", pool)
    # libsodium checks the order of Edwards points only.
    for u in coordinates(points):
        y = (u - 1) * pow(u + 1, -1, PRIME) % PRIME
        assert bindings.crypto_core_ed25519_is_valid_point(y.to_bytes(32, "little"))


def test_the_coordinates_agree_with_libsodiums_own_conversion(pool: Executor) -> None:
    edwards = [
        bindings.crypto_core_ed25519_from_uniform(hashlib.sha256(bytes([i % 256, i // 256])).digest())
        for i in range(1, CHUNK + 3)
    ]
    converted = [u.to_bytes(32, "little") for u in _montgomery(edwards)]
    assert converted == [bindings.crypto_sign_ed25519_pk_to_curve25519(point) for point in edwards]


def test_the_same_text_has_the_same_point_only_under_the_same_salt(pool: Executor) -> None:
    texts = [f"id-{i}" for i in range(CHUNK + 10)]
    first, again, other = (hash_to_points(texts, salt, pool) for salt in (b"a", b"a", b"b"))
    np.testing.assert_array_equal(first, again)
    assert not np.isin(as_keys(first), as_keys(other)).any()


def test_two_secrets_commute_and_one_does_not_undo_another(pool: Executor) -> None:
    points = hash_to_points([f"id-{i}" for i in range(2 * CHUNK + 1)], b"s", pool)
    a, b = random_scalar(), random_scalar()
    once = multiply(a, points, pool)
    np.testing.assert_array_equal(multiply(b, once, pool), multiply(a, multiply(b, points, pool), pool))
    assert not np.isin(as_keys(once), as_keys(multiply(b, points, pool))).any()


def test_multiplication_is_x25519_of_rfc_7748(pool: Executor) -> None:
    scalar = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    u = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    product = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    points = np.frombuffer(u, dtype=np.uint8).reshape(1, 32)
    assert multiply(scalar, points, pool).tobytes().hex() == product


def test_no_points_give_no_points(pool: Executor) -> None:
    empty = hash_to_points([], b"", pool)
    assert empty.shape == multiply(random_scalar(), empty, pool).shape == (0, 32)


@pytest.mark.parametrize("u", SMALL_ORDER)
def test_points_of_small_order_are_refused_by_the_check_and_by_multiplication(u: int, pool: Executor) -> None:
    bad = np.concatenate([hash_to_points(["x"], b"", pool), as_points([u])])
    with pytest.raises(CipherError, match="1 of 2 points are of small order"):
        check_points(bad)
    with pytest.raises(CipherError, match="of small order cannot be multiplied"):
        multiply(random_scalar(), bad, pool)


@pytest.mark.parametrize("u", [PRIME, PRIME + 1, 2**255, 2**255 + 9, 2**256 - 1])
def test_a_second_way_to_write_a_point_is_refused(u: int) -> None:
    with pytest.raises(CipherError, match="1 of 1 points are not written as numbers below"):
        check_points(as_points([u]))


def test_the_largest_canonical_number_is_only_refused_for_its_order() -> None:
    check_points(as_points([PRIME - 2]))


def test_half_a_surrogate_is_refused_without_showing_the_text(pool: Executor) -> None:
    with pytest.raises(CipherError, match="not Unicode") as caught:
        hash_to_points(["secret-\ud800"], b"", pool)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("points", [np.zeros((2, 31), dtype=np.uint8), np.zeros(32, dtype=np.uint8), np.zeros((1, 32))])
def test_what_is_not_n_times_32_bytes_is_no_list_of_points(points: np.ndarray) -> None:
    with pytest.raises(CipherError, match="Points must be bytes of shape"):
        check_points(points)
