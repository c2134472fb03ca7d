"""The ciphers against plain arithmetic, and what they refuse."""

import functools
import math
import threading
import time
from pathlib import Path
from typing import Any

import gmpy2
import msgspec
import numpy as np
import pytest
from clear_cipher import ClearCipher, ClearScheme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ftl.crypto import Ciphertexts, OuScheme, Packing, PaillierScheme, PublicCipher, SecretCipher, compressed_length
from ftl.crypto.ahead import WORTH_A_PROCESS, Ahead
from ftl.crypto.groups import column_groups
from ftl.crypto.ou_cipher import OuSecretCipher
from ftl.crypto.ou_key import OuKey, OuPublic
from ftl.errors import CipherError

SLOW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@functools.cache
def key(name: str) -> Any:
    """A key pair; the same whenever asked for by the same name, because they take seconds to draw."""
    return (PaillierScheme() if name.endswith("paillier") else OuScheme()).generate()


@pytest.fixture(params=["ou", "paillier"])
def secret(request: pytest.FixtureRequest) -> SecretCipher:
    return key(request.param)


@pytest.fixture
def ou() -> OuSecretCipher:
    return key("ou")


@functools.cache
def public_of(secret: SecretCipher) -> PublicCipher:
    scheme = OuScheme() if isinstance(secret, OuSecretCipher) else PaillierScheme()
    return scheme.load_public(secret.public())


def integers(values: list[int]) -> NDArray[Any]:
    return np.array([*values, None], dtype=object)[:-1]


def across(public: PublicCipher, secret: SecretCipher, ciphertexts: Any) -> Any:
    """Ciphertexts as the key holder receives them."""
    return secret.load(public.dump(ciphertexts), len(ciphertexts))


@given(data=st.data())
@SLOW
def test_what_the_public_key_encrypts_adds_and_subtracts_the_secret_key_reads(
    secret: SecretCipher, data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, 5))
    numbers = st.lists(st.integers(0, (1 << secret.capacity - 1) - 1), min_size=n, max_size=n)
    a, b = data.draw(numbers), data.draw(numbers)
    small, large = [min(x, y) for x, y in zip(a, b, strict=True)], [max(x, y) for x, y in zip(a, b, strict=True)]
    public = public_of(secret)
    x, y = public.encrypt(integers(small)), public.encrypt(integers(large))
    width = secret.capacity
    assert secret.decrypt(across(public, secret, x), width).tolist() == small
    assert secret.decrypt(across(public, secret, public.add(x, y)), width).tolist() == [
        p + q for p, q in zip(small, large, strict=True)
    ]
    assert secret.decrypt(across(public, secret, public.subtract(y, x)), width).tolist() == [
        q - p for p, q in zip(small, large, strict=True)
    ]


@given(
    rows=st.integers(1, 60),
    buckets=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
@SLOW
def test_encrypted_bucket_sums_equal_the_clear_ones_whole_masked_and_empty(
    ou: SecretCipher, rows: int, buckets: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    packing = Packing(rows)
    plaintexts = packing.pack(rng.uniform(-1, 1, rows), rng.uniform(0, 0.25, rows))
    bins = np.stack([rng.integers(0, number, rows) for number in buckets], axis=1).astype(np.int8)
    masks = [np.ones(rows, dtype=bool), rng.random(rows) < 0.4, np.zeros(rows, dtype=bool)]
    public, clear = public_of(ou), ClearCipher(ou.capacity)
    sums = public.bucket_sums(public.encrypt(plaintexts), masks, bins, buckets)
    expected = clear.bucket_sums(clear.encrypt(plaintexts), masks, bins, buckets)
    for encrypted, plain in zip(sums, expected, strict=True):
        assert len(encrypted) == sum(buckets)
        whole = across(public, ou, public.refresh(encrypted))
        assert ou.decrypt(whole, packing.bits).tolist() == plain.values
        packed = across(public, ou, public.compress(encrypted, packing.bits))
        assert len(packed) == compressed_length(sum(buckets), ou.capacity, packing.bits)
        assert ou.decrypt(packed, packing.bits, sum(buckets)).tolist() == plain.values
        in_clear = clear.compress(plain, packing.bits)
        assert clear.decrypt(in_clear, packing.bits, sum(buckets)).tolist() == plain.values


@given(length=st.integers(1, 30), bits=st.integers(1, 400), data=st.data())
@SLOW
def test_compressed_slots_keep_their_values_up_to_the_last_bit(
    ou: SecretCipher, length: int, bits: int, data: st.DataObject
) -> None:
    extremes = st.sampled_from([0, (1 << bits) - 1]) | st.integers(0, (1 << bits) - 1)
    values = data.draw(st.lists(extremes, min_size=length, max_size=length))
    packed = ou.compress(ou.encrypt(integers(values)), bits)
    assert ou.decrypt(packed, bits, length).tolist() == values


def test_a_sibling_is_its_parent_minus_the_other_child(ou: SecretCipher) -> None:
    rng = np.random.default_rng(1)
    packing = Packing(200)
    rows = packing.pack(rng.uniform(-1, 1, 200), rng.uniform(0, 0.25, 200))
    bins, left = rng.integers(0, 16, (200, 3)).astype(np.int8), rng.random(200) < 0.3
    whole, child, sibling = ou.bucket_sums(ou.encrypt(rows), [left | True, left, ~left], bins, [16] * 3)
    difference = ou.decrypt(ou.refresh(ou.subtract(whole, child)), packing.bits)
    assert difference.tolist() == ou.decrypt(sibling, packing.bits).tolist()


def test_ciphertexts_are_taken_by_place_and_never_beyond_the_list(ou: SecretCipher) -> None:
    three = ou.encrypt(integers([10, 20, 30]))
    assert ou.decrypt(ou.take(three, np.array([2, 0, 2])), 8).tolist() == [30, 10, 30]
    for wrong in ([3], [-1], []):
        with pytest.raises(CipherError, match="not all of them among 3 ciphertexts"):
            ou.take(three, np.array(wrong, dtype=np.int64))


def test_a_drawn_key_is_what_the_papers_ask_for() -> None:
    key = OuKey.draw(2048)
    n, square = key.p**2 * key.q, key.p**2
    assert n.bit_length() == 2048
    assert all(gmpy2.is_prime(prime) for prime in (key.p, key.q, key.t))
    assert key.t.bit_length() == 224
    assert (key.p - 1) % key.t == 0
    assert key.h == pow(key.g, n, n)
    assert pow(key.h, key.t, square) == 1 != key.h % square
    assert pow(key.g, key.t, square) != 1 == pow(key.g, key.t * key.p, square)
    assert repr(key) == "OuKey()"


@pytest.mark.parametrize("bits", [2048, 2049, 2050, 3072])
def test_a_key_has_the_bits_that_were_asked_for_and_says_what_fits(bits: int) -> None:
    key = OuKey.draw(bits)
    cipher = OuScheme(bits).load_public(key.public())
    assert (key.p**2 * key.q).bit_length() == bits
    assert cipher.capacity == key.p.bit_length() - 1 >= bits // 3 - 1


def test_a_key_that_is_too_short_or_whose_bases_are_none_is_refused(ou: OuSecretCipher) -> None:
    n = int(ou._n).to_bytes(257, "big")
    for bases in ([b"\x00", b"\x02"], [b"\x02", b"\x01"], [b"\x02", n], [int(ou._p).to_bytes(90, "big"), b"\x02"]):
        with pytest.raises(CipherError, match="its bases do not fit its modulus"):
            OuScheme().load_public(msgspec.msgpack.encode(OuPublic(n, *bases)))
    with pytest.raises(CipherError, match=r"has 2048 bits|has 2049 bits"):
        OuScheme(3072).load_public(ou.public())


def test_no_ciphertext_repeats_whether_of_equal_plaintexts_equal_sums_or_empty_buckets(ou: SecretCipher) -> None:
    rows = ou.encrypt(integers([7] * 20))
    bins = np.zeros((20, 1), dtype=np.int8)
    mask = np.ones(20, dtype=bool)
    [sums] = ou.bucket_sums(rows, [mask], bins, [30])
    sent = [
        ou.dump(rows), ou.dump(ou.refresh(sums)), ou.dump(ou.refresh(sums)),
        ou.dump(ou.compress(sums, 40)), ou.dump(ou.compress(sums, 40)),
    ]  # fmt: skip
    pieces = [bytes(data[i : i + 24]) for data in sent for i in range(200, len(data) - 24, 271)]
    assert len(set(sent)) == len(sent)
    assert len(set(pieces)) == len(pieces)


def test_the_size_of_what_is_sent_does_not_tell_empty_from_full(ou: SecretCipher) -> None:
    rows = ou.encrypt(integers([(1 << 90) - 1] * 50))
    full, empty = np.ones(50, dtype=bool), np.zeros(50, dtype=bool)
    bins = np.zeros((50, 4), dtype=np.int8)
    sizes = [len(ou.dump(ou.compress(sums, 96))) for sums in ou.bucket_sums(rows, [full, empty], bins, [40] * 4)]
    # A ciphertext is a number below n: one in 256 is a byte shorter, whatever it holds.
    assert abs(sizes[0] - sizes[1]) <= 4


@pytest.mark.parametrize("outside", [-1, 1 << 690, 1 << 5000], ids=["negative", "wide", "very wide"])
def test_a_plaintext_out_of_bounds_is_refused(ou: SecretCipher, outside: int) -> None:
    with pytest.raises(CipherError, match=r"2 plaintexts, not all of them from 0 to 2\^68[23] - 1"):
        ou.encrypt(integers([1, outside]))


def test_nothing_cannot_be_encrypted(ou: SecretCipher) -> None:
    with pytest.raises(CipherError, match="0 plaintexts"):
        ou.encrypt(integers([]))


def test_a_decryption_wider_than_agreed_is_refused(ou: SecretCipher) -> None:
    with pytest.raises(CipherError, match="wider than 40 bits"):
        ou.decrypt(ou.encrypt(integers([1 << 40])), 40)
    with pytest.raises(CipherError, match=r"negative|wider than 40 bits"):
        ou.decrypt(ou.subtract(ou.encrypt(integers([1])), ou.encrypt(integers([2]))), 40)


def test_ciphertexts_of_another_key_are_refused(ou: SecretCipher) -> None:
    other = key("another")
    foreign = other.dump(other.encrypt(integers([1])))
    with pytest.raises(CipherError, match=r"encrypted for another key, or is an attack|are no ciphertexts"):
        ou.decrypt(ou.load(foreign, 1), 90)


@pytest.mark.parametrize("noise", [b"", b"abc", b"\x00" * 300, b"\xff" * 300])
def test_noise_is_no_ciphertext_and_no_key(ou: SecretCipher, noise: bytes) -> None:
    with pytest.raises(CipherError, match=rf"These {len(noise)} bytes are no ciphertexts"):
        ou.load(noise, 1)
    with pytest.raises(CipherError, match="no public key"):
        PaillierScheme().load_public(noise)
    with pytest.raises(CipherError, match="no public key"):
        OuScheme().load_public(noise)


def test_a_truncated_or_short_list_of_ciphertexts_is_refused(ou: SecretCipher) -> None:
    data = ou.dump(ou.encrypt(integers([1, 2, 3])))
    with pytest.raises(CipherError, match="are no ciphertexts"):
        ou.load(data[:-10], 3)
    with pytest.raises(CipherError, match="were due"):
        ou.load(data, 4)


def test_a_key_of_another_scheme_is_refused(ou: SecretCipher) -> None:
    with pytest.raises(CipherError, match="no public key"):
        PaillierScheme().load_public(ou.public())
    with pytest.raises(CipherError, match="no public key"):
        OuScheme().load_public(key("paillier").public())


@pytest.mark.parametrize("bits", [1024, 2047, 100_000])
def test_a_modulus_too_short_to_be_safe_or_too_long_to_be_meant_is_refused(bits: int) -> None:
    with pytest.raises(CipherError, match="Use 2048 to 8192 bits"):
        PaillierScheme(bits)
    with pytest.raises(CipherError, match="Use 2048 to 8192 bits"):
        OuScheme(bits)


def test_buckets_and_masks_that_do_not_fit_are_refused(ou: SecretCipher) -> None:
    rows, mask = ou.encrypt(integers([1, 2])), np.ones(2, dtype=bool)
    good = np.zeros((2, 1), dtype=np.int8)
    with pytest.raises(CipherError, match="in a bucket that its feature does not have"):
        ou.bucket_sums(rows, [mask], good + np.int8(3), [3])
    with pytest.raises(CipherError, match="in a bucket that its feature does not have"):
        ou.bucket_sums(rows, [mask], good - np.int8(1), [3])
    with pytest.raises(CipherError, match="int8 of shape"):
        ou.bucket_sums(rows, [mask], good.astype(np.int64), [3])
    with pytest.raises(CipherError, match="mask must be bool"):
        ou.bucket_sums(rows, [np.ones(3, dtype=bool)], good, [3])
    with pytest.raises(CipherError, match="1 to 128 buckets"):
        ou.bucket_sums(rows, [mask], good, [129])


def test_the_printed_form_of_ciphertexts_shows_nothing(ou: SecretCipher) -> None:
    assert repr(ou.encrypt(integers([1]))) == "Ciphertexts(length=1)"


def test_the_clear_cipher_speaks_the_same_interface() -> None:
    clear = ClearScheme().load_public(ClearScheme().generate().public())
    data = clear.dump(clear.compress(clear.encrypt(integers([3, 0, 1023])), 10))
    assert clear.decrypt(clear.load(data, 1), 10, 3).tolist() == [3, 0, 1023]
    with pytest.raises(CipherError, match="holds more than"):
        clear.decrypt(clear.encrypt(integers([1 << 30])), 10, 3)


def test_what_the_key_holder_encrypts_is_decrypted_by_the_papers_formula(ou: OuSecretCipher) -> None:
    numbers = integers([0, 1, (1 << 94) - 1])
    ours = [int(value) for value in ou.encrypt(numbers).values]
    n, p, t = int(ou._n), int(ou._p), int(ou._t)
    slope = (pow(int(ou._g), t, p * p) - 1) // p
    assert [(pow(c, t, p * p) - 1) // p * pow(slope, -1, p) % p for c in ours] == numbers.tolist()
    assert all(0 < c < n for c in ours)


def wait_for(ahead: Ahead, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(ahead) < count and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(ahead) >= count


def test_what_was_drawn_ahead_serves_one_encryption_each(ou: OuSecretCipher) -> None:
    ou.ahead(150)
    with ou.idle():
        wait_for(ou._ahead, 150)
    drawn = {int(zero) for zero, _ in ou._ahead._stock}
    assert len(drawn) == 150
    first, second = ou.encrypt(integers([9] * 100)), ou.encrypt(integers([9] * 100))
    assert len(ou._ahead) == 0
    assert len({int(value) for value in (*first.values, *second.values)}) == 200
    assert ou.decrypt(ou.add(first, second), 8).tolist() == [18] * 100


def test_who_stops_waiting_is_free_before_everything_is_drawn(ou: OuSecretCipher) -> None:
    ahead = Ahead(ou._ahead._drawing, beside=False)
    ahead.want(1_000_000)
    with ahead.idle():
        wait_for(ahead, 1)
    assert "randomness ahead" not in {thread.name for thread in threading.enumerate()}
    assert 0 < len(ahead) < 100_000


def test_a_process_beside_draws_what_is_asked_for_once_each_and_ends_with_its_owner(ou: OuSecretCipher) -> None:
    ahead = Ahead(ou._ahead._drawing, beside=True)
    ahead.want(WORTH_A_PROCESS)
    worker = ahead._worker
    process = worker._process
    with ahead.idle():
        assert "randomness ahead" not in {thread.name for thread in threading.enumerate()}
    drawn = ahead.take(WORTH_A_PROCESS)
    assert len({int(zero) for zero, _ in drawn}) == WORTH_A_PROCESS
    zeros = [zero for zero, _ in drawn[:: WORTH_A_PROCESS // 16]]
    assert ou.decrypt(Ciphertexts(zeros, len(zeros)), 8).tolist() == [0] * len(zeros)
    arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert f"{ou._p:x}"[:20].encode() not in arguments
    del ahead, worker
    assert process.wait(10) is not None


def test_an_encryption_shows_nothing_in_its_part_modulo_q_or_in_its_jacobi_symbol(ou: OuSecretCipher) -> None:
    values = ou.encrypt(integers([5] * 400)).values
    squares = sum(gmpy2.jacobi(value, ou._n) == 1 for value in values)
    assert 140 < squares < 260
    middle = sum(value % ou._q > ou._q // 2 for value in values)
    assert 140 < middle < 260


@given(rows=st.integers(0, 30_000), buckets=st.lists(st.integers(1, 128), min_size=1, max_size=12))
def test_every_column_is_in_one_group_and_groups_never_cost_more(rows: int, buckets: list[int]) -> None:
    groups = column_groups(rows, buckets)
    assert sorted(column for group in groups for column in group) == list(range(len(buckets)))
    cells = [min(math.prod(buckets[column] for column in group), rows) for group in groups]
    cost = sum(rows + (cell * len(group) if len(group) > 1 else 0) for group, cell in zip(groups, cells, strict=True))
    assert cost <= rows * len(buckets)


def test_two_columns_of_32_buckets_are_summed_together() -> None:
    assert sorted(len(group) for group in column_groups(24_000, [32] * 10)) == [2] * 5
