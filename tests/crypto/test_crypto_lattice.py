"""Sums of products under encryption: exact, masked, refreshed, and refused when they are something else."""

import numpy as np
import pytest

from ftl.crypto import lattice
from ftl.crypto.shares import PRIMES, random_below
from ftl.errors import CipherError


@pytest.fixture(scope="module", params=[0, 1])
def key(request) -> lattice.LatticeKey:
    return lattice.LatticeKey(request.param)


@pytest.fixture(scope="module")
def public(key) -> lattice.LatticePublic:
    return lattice.LatticePublic(PRIMES.index(key.prime), key.public())


def exact_sums(left: np.ndarray, right: np.ndarray, prime: int) -> np.ndarray:
    return (left.astype(object) * right.astype(object)).sum(axis=0) % prime


@pytest.mark.parametrize(("rows", "width", "regions"), [(50, 200, 1), (7, 33, 1), (100, 64, 3), (1, 8192, 1)])
def test_sums_over_rows_are_exact_modulo_the_prime(key, public, rows, width, regions):
    hidden = random_below(key.prime, (rows, width))
    known = [random_below(key.prime, (rows, width)) for _ in range(regions)]
    count = lattice.block_count(rows, width, regions)
    operands = public.operands(key.encrypt(lattice.blocks(*[hidden] * regions)), count)
    (mask,) = lattice.masks(key.prime, 1)
    factors = [public.factor(slots) for slots in lattice.blocks(*known)]
    result = public.sum_of_products(operands, range(count), factors, mask)
    came = lattice.folded(key.decrypt([result], 1), width, key.prime, regions)
    taken = lattice.folded(mask[None], width, key.prime, regions)
    for region, matrix in enumerate(known):
        expected = exact_sums(hidden, matrix, key.prime)
        assert ((came - taken)[0, region] % key.prime == expected).all()


def test_products_of_single_rows_come_back_in_their_order(key, public):
    hidden, known = random_below(key.prime, (90, 200)), random_below(key.prime, (90, 200))
    operands = public.operands(key.encrypt(lattice.blocks(hidden)), 3)
    masks = lattice.masks(key.prime, 3)
    results = [
        public.sum_of_products(operands, [place], [public.factor(slots)], mask)
        for place, (slots, mask) in enumerate(zip(lattice.blocks(known), masks, strict=True))
    ]
    came = lattice.rows((key.decrypt(results, 3) - masks) % key.prime, 90, 200)
    assert (came == hidden.astype(object) * known.astype(object) % key.prime).all()


def test_the_same_plaintexts_never_give_the_same_bytes(key, public):
    slots = lattice.blocks(np.ones((1, 10), dtype=np.int64))
    first, second = key.encrypt(np.concatenate([slots, slots]))
    assert first != second
    operands, mask = public.operands([first], 1), lattice.masks(key.prime, 1)[0]
    results = {public.sum_of_products(operands, [0], [public.factor(slots[0])], mask) for _ in range(3)}
    assert len(results) == 3


def test_zeros_can_be_multiplied_with(key, public):
    operands = public.operands(key.encrypt(lattice.blocks(np.ones((1, 10), dtype=np.int64))), 1)
    mask = lattice.masks(key.prime, 1)[0]
    result = public.sum_of_products(operands, [0], [public.factor(np.zeros(lattice.SLOTS, dtype=np.int64))], mask)
    assert (key.decrypt([result], 1)[0] == mask).all()


def test_the_key_holder_sees_no_more_noise_of_large_factors_than_of_small_ones(key, public):
    """What noise is left after rounding is that of rounding itself."""
    operands = public.operands(key.encrypt(lattice.masks(key.prime, 40)), 40)
    mask = lattice.masks(key.prime, 1)[0]
    left = []
    for factors in (np.ones((40, lattice.SLOTS), dtype=np.int64), lattice.masks(key.prime, 40)):
        known = [public.factor(slots) for slots in factors]
        result = public.sum_of_products(operands, range(40), known, mask)
        left.append(noise_budget(key, result))
    assert left[0] == pytest.approx(left[1], abs=1)
    assert min(left) >= 2


def noise_budget(key: lattice.LatticeKey, result: bytes) -> int:
    ciphertext = lattice.seal.Ciphertext()
    lattice._read(ciphertext, key._context, result, "ciphertext")
    return key._decryptor.invariant_noise_budget(ciphertext)


def test_what_is_no_ciphertext_of_the_key_is_refused(key, public):
    fresh = key.encrypt(lattice.masks(key.prime, 1))[0]
    with pytest.raises(CipherError, match="no ciphertext"):
        public.operands([fresh[:-50]], 1)
    with pytest.raises(CipherError, match="2 were due"):
        public.operands([fresh], 2)
    with pytest.raises(CipherError, match="not a result"):
        key.decrypt([fresh], 1)
    with pytest.raises(CipherError, match="no public key"):
        lattice.LatticePublic(0, b"nonsense")
    stranger = lattice.LatticeKey(PRIMES.index(key.prime))
    operands = public.operands(stranger.encrypt(lattice.masks(key.prime, 1)), 1)
    factor, mask = public.factor(lattice.masks(key.prime, 1)[0]), lattice.masks(key.prime, 1)[0]
    with pytest.raises(CipherError, match="another key"):
        key.decrypt([public.sum_of_products(operands, [0], [factor], mask)], 1)


def test_a_result_cannot_be_multiplied_again(key, public):
    operands = public.operands(key.encrypt(lattice.masks(key.prime, 1)), 1)
    factor, mask = public.factor(lattice.masks(key.prime, 1)[0]), lattice.masks(key.prime, 1)[0]
    result = public.sum_of_products(operands, [0], [factor], mask)
    with pytest.raises(CipherError, match="not a fresh one"):
        public.operands([result], 1)
    with pytest.raises(CipherError, match="sum of 0 products"):
        public.sum_of_products(operands, [], [], mask)


def test_more_regions_are_chosen_where_they_save_results():
    assert lattice.best_regions(500, 32, 24) > 1
    assert lattice.best_regions(2000, 200, 24) == 1
    with pytest.raises(CipherError, match="do not fit"):
        lattice.blocks(np.zeros((1, 8193), dtype=np.int64))
