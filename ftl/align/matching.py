"""Tags: what stands for a doubly hashed person. How many bytes of one are sent, which repeat, which are equal."""

import math

import numpy as np
from numpy.typing import NDArray

Tags = NDArray[np.uint64]
"""uint64, shape (n, 2), little-endian: 16 random-looking bytes each; what is beyond the width in use is 0."""

Places = NDArray[np.int64]

WRONG_MATCH_BITS = 40
"""In a run, somebody is matched wrongly with a probability of at most 2^-40."""

WRONG_REFUSAL_BITS = 32
"""Two people of one list have the same tag, which ends the run, with a probability of at most 2^-33."""

MOST_BYTES = 16

TABLED_BYTES = 12
"""Width of tags and shares when tables are used: one for all parties, and good for 2^28 people each."""

PIECE = 1 << 20
"""Tags that are looked up at a time."""


def tag_bytes(own: int, theirs: int) -> int:
    """Width of a tag such that, but for these probabilities, none of `own` × `theirs` pairs is equal by chance."""
    matches = math.log2(max(own, 1)) + math.log2(max(theirs, 1)) + WRONG_MATCH_BITS
    refusals = 2 * math.log2(max(own, theirs, 1)) + WRONG_REFUSAL_BITS
    return min(max(math.ceil(max(matches, refusals) / 8), 8), MOST_BYTES)


def narrowed(tags: Tags, width: int) -> NDArray[np.uint8]:
    """uint8, shape (n, width): the first bytes of each tag, as they are sent."""
    return np.ascontiguousarray(tags).view(np.uint8).reshape(len(tags), MOST_BYTES)[:, :width]


def widened(sent: NDArray[np.uint8]) -> Tags:
    """Tags from their first bytes, the others 0."""
    tags = np.zeros((len(sent), MOST_BYTES), dtype=np.uint8)
    tags[:, : sent.shape[1]] = sent
    return tags.view("<u8")


def cut(tags: Tags, width: int) -> Tags:
    """The same tags, in place, with 0 behind their first `width` bytes; words after the second stay."""
    tags.view(np.uint8)[:, width:MOST_BYTES] = 0
    return tags


def repeats(tags: Tags) -> int:
    """How many tags are equal to another one before them in some order."""
    first = np.sort(tags[:, 0])
    twice = first[1:][first[1:] == first[:-1]]
    if not len(twice):
        return 0
    alike = tags[np.isin(tags[:, 0], twice)]
    return len(alike) - len(np.unique(alike, axis=0))


def equal_places(own: Tags, theirs: Tags) -> tuple[Places, Places]:
    """Places i and j of all equal pairs ``own[i] == theirs[j]``; neither list repeats a tag.

    Sorts the shorter list by the first 8 bytes, looks the longer one up in it, and compares the rest.
    """
    if len(own) > len(theirs):
        there, here = equal_places(theirs, own)
        return here, there
    order = np.argsort(own[:, 0], kind="stable")
    first = own[order, 0]
    pieces = [_equal_in_piece(own, order, first, theirs, start) for start in range(0, len(theirs), PIECE)]
    empty = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))]
    mine, others = zip(*(pieces or empty), strict=True)
    return np.concatenate(mine), np.concatenate(others)


def _equal_in_piece(
    own: Tags, order: Places, first: NDArray[np.uint64], theirs: Tags, start: int
) -> tuple[Places, Places]:
    piece = theirs[start : start + PIECE]
    low = np.searchsorted(first, piece[:, 0], side="left")
    count = np.searchsorted(first, piece[:, 0], side="right") - low
    others = np.repeat(np.arange(len(piece)), count)
    within = np.arange(len(others)) - np.repeat(np.cumsum(count) - count, count)
    mine = order[np.repeat(low, count) + within]
    same = own[mine, 1] == piece[others, 1]
    return mine[same].astype(np.int64), others[same].astype(np.int64) + start
