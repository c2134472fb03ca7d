"""Tags: widths, repeats and equal pairs, against sets."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftl.align import matching
from ftl.align.matching import equal_places, narrowed, repeats, tag_bytes, widened

WORDS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2**64 - 1) | st.integers(0, 2)), max_size=12)


def as_tags(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.array(pairs, dtype=np.uint64).reshape(-1, 2)


@given(WORDS)
def test_repeats_are_what_a_set_would_drop(pairs: list[tuple[int, int]]) -> None:
    assert repeats(as_tags(pairs)) == len(pairs) - len(set(pairs))


@given(WORDS.map(lambda pairs: list(dict.fromkeys(pairs))), WORDS.map(lambda pairs: list(dict.fromkeys(pairs))))
def test_equal_pairs_are_all_found_where_first_words_collide_too(
    own: list[tuple[int, int]], theirs: list[tuple[int, int]]
) -> None:
    mine, others = equal_places(as_tags(own), as_tags(theirs))
    assert {(own[i], theirs[j]) for i, j in zip(mine, others, strict=True)} == {(x, x) for x in {*own} & {*theirs}}
    assert len(mine) == len({*own} & {*theirs})


def test_long_lists_are_looked_up_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "PIECE", 7)
    tags = np.random.default_rng(0).integers(0, 2**63, (100, 2)).astype(np.uint64)
    own, theirs = tags[:40], tags[20:][::-1]
    mine, others = equal_places(own, theirs)
    np.testing.assert_array_equal(own[mine], theirs[others])
    assert sorted(mine) == list(range(20, 40))


@pytest.mark.parametrize("width", [8, 10, 16])
def test_a_tag_that_was_sent_is_its_first_bytes(width: int) -> None:
    tags = np.random.default_rng(1).integers(0, 2**63, (5, 2)).astype(np.uint64)
    sent = narrowed(tags, width)
    assert [bytes(row) for row in sent] == [row.tobytes()[:width] for row in tags]
    np.testing.assert_array_equal(narrowed(widened(sent), width), sent)


@pytest.mark.parametrize(("own", "theirs"), [(0, 0), (1, 10**7), (10**4, 10**7), (10**6, 10**6), (10**7, 10**7)])
def test_a_tag_is_wide_enough_for_its_probabilities_and_at_most_eleven_bytes(own: int, theirs: int) -> None:
    bits = 8 * tag_bytes(own, theirs)
    assert math.log2(max(own * theirs, 1)) - bits <= -40
    assert math.log2(max(own, theirs, 1) ** 2 / 2) - bits <= -33
    assert tag_bytes(own, theirs) == tag_bytes(theirs, own) <= 11
    assert tag_bytes(10**4, 10**7) == 10
