"""Simulated people whose columns hang together across two parties, as those of real customers do."""

import numpy as np
from numpy.typing import NDArray

from ftl.features import Frame

SHARED, OUTSIDERS = 1600, 800
"""People of both parties who train, and people of both who do not (the holdout)."""

REGIONS = ("east", "north", "south", "west")


def population(seed: int) -> list[Frame]:
    """A bank with labels and a telecom; three hidden traits of a person show in the columns of both.

    Args:
        seed: of all draws.
    """
    random = np.random.default_rng(seed)
    people = SHARED + OUTSIDERS
    trait = random.normal(size=(people, 3))
    own = trait @ random.normal(size=(3, 6)) + 0.8 * random.normal(size=(people, 6))
    region = random.integers(0, len(REGIONS), people)
    theirs = trait @ random.normal(size=(3, 6)) + 1.2 * random.normal(size=(people, 6))
    late = random.poisson(np.exp(0.5 * trait[:, 0] - 0.3)).astype(float)
    theirs[random.random(theirs.shape) < 0.03] = np.nan
    margin = 0.7 * trait[:, 0] + 0.7 * (region == 1) + 0.5 * np.nan_to_num(theirs[:, 5]) + 0.8 * late - 2.6
    label = (random.random(people) < 1 / (1 + np.exp(-margin))).astype(float)
    holdout = np.arange(people) >= SHARED
    names = tuple(f"account_{j}" for j in range(6))
    bank = Frame("bank", names, own, {}, _ids(people), label, holdout)
    columns = (*(f"usage_{j}" for j in range(6)), "region", "late")
    telecom = Frame("telecom", columns, np.column_stack([theirs, region, late]), {"region": REGIONS}, _ids(people))
    return [bank, telecom]


def targets(frame: Frame) -> NDArray[np.bool_]:
    """bool, shape (n, p): what an attacker wants to know of each column, above its median or not (or is it *east*)."""
    middle = np.nanmedian(frame.values, axis=0)
    return np.where(frame.categorical, frame.values == 0, frame.values > middle)


def _ids(people: int) -> tuple[str, ...]:
    return tuple(f"person-{number:05d}" for number in range(people))
