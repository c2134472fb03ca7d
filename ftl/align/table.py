"""A table that gives a value for each key it was made of, and random bytes for every other key.

An oblivious key-value store: three places per key in three thirds of the table, whose exclusive or is the key's value,
found by peeling (Garimella, Pinkas, Rosulek, Trieu and Yanai 2021, section 3; Botelho, Pagh and Ziviani 2007). Places
that no key needs are random, so with random values nothing in the table tells which keys it was made of.
"""

import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftl.errors import AlignmentError

Keys = NDArray[np.uint64]
"""uint64, shape (n,): random-looking."""

Values = NDArray[np.uint8]
"""uint8, shape (n, width)."""

Places = NDArray[np.int64]

PLACES_PER_KEY = 1.3
"""Peeling succeeds almost surely from 1.222 on, when there are many keys (Molloy 2005)."""

LEAST_PLACES = 120
"""On top of that, for few keys."""

MOST_ATTEMPTS = 64


@dataclass(frozen=True)
class Filled:
    """A filled table: its places, uint8 of shape (slots, width), and which hash functions it goes by."""

    rows: Values
    attempt: int


def slots_for(keys: int) -> int:
    """Places of a table for `keys` keys; a multiple of three."""
    return 3 * -(-int(PLACES_PER_KEY * keys + LEAST_PLACES) // 3)


def fill(keys: Keys, values: Values) -> Filled:
    """A table in which each of `keys` has its value.

    Hash functions are tried in turn until peeling succeeds, nearly always at once. Which one it was tells of the keys
    no more than that those before it failed.

    Raises:
        AlignmentError: two keys are equal.
    """
    slots = slots_for(len(keys))
    for attempt in range(MOST_ATTEMPTS):
        places = places_of(keys, slots, attempt)
        if (rounds := _peel(places, slots)) is not None:
            return Filled(_assign(places, rounds, values, slots), attempt)
    raise AlignmentError("No table can be made of these people: two of them are the same.")


def places_of(keys: Keys, slots: int, attempt: int) -> Places:
    """int64, shape (n, 3): the places of each key, one in each third."""
    third = np.uint64(slots // 3)
    columns = [
        (_mixed(keys, 3 * attempt + part) % third + np.uint64(part) * third).astype(np.int64) for part in range(3)
    ]
    return np.stack(columns, axis=1)


def look_up(rows: Values, keys: Keys, attempt: int) -> Values:
    """uint8, shape (n, width): what the table says for each key."""
    places = places_of(keys, len(rows), attempt)
    found: Values = rows[places[:, 0]] ^ rows[places[:, 1]] ^ rows[places[:, 2]]
    return found


def _mixed(keys: Keys, number: int) -> Keys:
    """The `number`-th of a family of hash functions: the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    mixed = keys + np.uint64((number + 1) * 0x9E3779B97F4A7C15 & 2**64 - 1)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _peel(places: Places, slots: int) -> list[tuple[Places, Places]] | None:
    """Keys and the place that only each of them has among the keys not yet taken, round by round; None if stuck.

    `held` is, for a place with one key left, that key: the exclusive or of all keys that are left there.
    """
    count = np.bincount(places.ravel(), minlength=slots)
    held = np.zeros(slots, dtype=np.int64)
    np.bitwise_xor.at(held, places.ravel(), np.repeat(np.arange(len(places)), 3))
    rounds, left = [], len(places)
    single = np.flatnonzero(count == 1)
    while len(single):
        keys, first = np.unique(held[single], return_index=True)
        rounds.append((keys, single[first]))
        touched = places[keys].ravel()
        np.subtract.at(count, touched, 1)
        np.bitwise_xor.at(held, touched, np.repeat(keys, 3))
        left -= len(keys)
        single = np.unique(touched[count[touched] == 1])
    return rounds if left == 0 else None


def _assign(places: Places, rounds: list[tuple[Places, Places]], values: Values, slots: int) -> Values:
    width = values.shape[1]
    rows = np.frombuffer(secrets.token_bytes(slots * width), dtype=np.uint8).reshape(slots, width).copy()
    for keys, own in reversed(rounds):
        rows[own] = 0
        around = places[keys]
        rows[own] = values[keys] ^ rows[around[:, 0]] ^ rows[around[:, 1]] ^ rows[around[:, 2]]
    return rows
