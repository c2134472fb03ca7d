"""Who is a customer of both parties, and which rows a party has wrong, late or out of date."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DAMAGED = 24
LATE = 300
STALE = 200


@dataclass(frozen=True)
class Lapses:
    """Rows of one party that differ from the truth at first; positions in the public table, all disjoint.

    Attributes:
        damaged: int64, wrong for good; belong in quarantine.
        late: int64, not there yet.
        stale: int64, there with the values of the month before.
    """

    damaged: NDArray[np.int64]
    late: NDArray[np.int64]
    stale: NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """A scenario's draw over n people, who are numbered in table order.

    Attributes:
        test: bool, shape (n,).
        shared: bool, shape (n,), training people known to both.
        lapses: party to its lapses; never people known to both.
        order: int64, shape (n,), the row order of the partner's table.
        minutes: int64, shape (n,), when a row was last written, in minutes since the period began.
    """

    test: NDArray[np.bool_]
    shared: NDArray[np.bool_]
    lapses: dict[str, Lapses]
    order: NDArray[np.int64]
    minutes: NDArray[np.int64]

    @property
    def at_both(self) -> NDArray[np.bool_]:
        """bool, shape (n,): customers of both parties."""
        return self.shared | self.test


def draw(bad: NDArray[np.int64], shared: int, rng: np.random.Generator, *, minutes: int) -> Draw:
    """Split once and for all, then draw the rest.

    Args:
        bad: int64, shape (n,), the label; the split is stratified by it.
        shared: training people known to both.
        rng: draws everything but the split.
        minutes: length of the period in which rows were written.
    """
    people = len(bad)
    train, test = split(bad)
    chosen = rng.permutation(train)
    alone = chosen[shared:]
    return Draw(
        test=_mask(people, test),
        shared=_mask(people, chosen[:shared]),
        lapses={party: _lapses(rng.permutation(alone)) for party in ("bank", "partner")},
        order=rng.permutation(people),
        minutes=rng.integers(0, minutes, size=people),
    )


def split(bad: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Training and test positions, four to one; the same whatever the seed, so that figures compare."""
    from sklearn.model_selection import train_test_split  # takes a second to import

    train, test = train_test_split(np.arange(len(bad)), test_size=0.2, random_state=0, stratify=bad)
    return train, test


def _lapses(people: NDArray[np.int64]) -> Lapses:
    """Of people in random order; when nearly everyone is shared there are fewer lapses, down to none."""
    damaged, late, stale, _ = np.split(people, np.cumsum([DAMAGED, LATE, STALE]))
    return Lapses(damaged, late, stale)


def _mask(size: int, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    mask = np.zeros(size, dtype=bool)
    mask[positions] = True
    return mask
