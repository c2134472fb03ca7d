"""Which columns are worth modelling with, by thresholds on what was found; each refusal has one reason."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftl.features.dependence import inflation
from ftl.protocols.feature_report.messages import Reason
from ftl.protocols.feature_report.settings import Settings

WORDS: dict[Reason, str] = {
    "": "",
    "constant": "its people are all in one bin",
    "chance": "could be chance",
    "iv": "information value too low",
    "max_iv": "information value too high, it may have seen the label",
    "gain": "gain too low",
    "psi": "not stable",
    "correlation": "correlated with a selected column of more information value",
    "vif": "determined by the other selected columns",
}


@dataclass(frozen=True)
class Finding:
    """What the thresholds are laid on, for one column.

    Attributes:
        bins: merged bins.
        information_value, chance, gain: from the active party's counts.
        stability: index against the holdout, None without one.
    """

    bins: int
    information_value: float
    chance: float
    gain: float
    stability: float | None


def in_words(reason: Reason) -> str:
    """The reason as a sentence's part."""
    return WORDS[reason]


def select(
    found: Sequence[Finding],
    related: NDArray[np.float64],
    joint: NDArray[np.float64],
    sizes: Sequence[int],
    settings: Settings,
) -> list[Reason]:
    """Per column why it is not selected, empty where it is.

    First each column by itself; then, from the greatest information value down, those too close to one selected before;
    then, while the selected ones determine each other, the one of least information value among those too inflated.

    Args:
        found: p columns.
        related: float64, shape (p, p): strongest correlation of every two columns; NaN where not known.
        joint: float64, shape (v, v): correlation of all vectors.
        sizes: vectors of each column.
        settings: of the run.
    """
    reasons = [_alone(each, settings) for each in found]
    by_value = sorted(range(len(found)), key=lambda place: -found[place].information_value)
    kept: list[int] = []
    for place in (place for place in by_value if not reasons[place]):
        if (related[place, kept] > settings.max_correlation).any():
            reasons[place] = "correlation"
        else:
            kept.append(place)
    while (worst := _inflated(kept, joint, sizes, settings.max_vif)) is not None:
        reasons[worst] = "vif"
        kept.remove(worst)
    return reasons


def within_selected(kept: Sequence[int], joint: NDArray[np.float64], sizes: Sequence[int]) -> NDArray[np.float64]:
    """Variance inflation of each of the columns `kept` given the others of them, float64, shape (len(kept),)."""
    ends = np.cumsum([0, *sizes])
    places = np.concatenate([np.empty(0, np.int64), *(np.arange(ends[each], ends[each + 1]) for each in kept)])
    part = joint[np.ix_(places.astype(np.int64), places.astype(np.int64))]
    return inflation(part, [sizes[each] for each in kept])


def _alone(found: Finding, settings: Settings) -> Reason:
    """The first threshold that a column fails by itself."""
    failed: list[tuple[Reason, bool]] = [
        ("constant", found.bins < 2),
        ("chance", found.chance > settings.max_chance),
        ("iv", found.information_value < settings.min_iv),
        ("max_iv", settings.max_iv is not None and found.information_value > settings.max_iv),
        ("gain", found.gain < settings.min_gain),
        ("psi", found.stability is not None and found.stability > settings.max_psi),
    ]
    return next((reason for reason, fails in failed if fails), "")


def _inflated(kept: list[int], joint: NDArray[np.float64], sizes: Sequence[int], most: float) -> int | None:
    """Of the columns inflated beyond `most` the one of least information value, which stands last."""
    factors = within_selected(kept, joint, sizes)
    return next((place for place, factor in zip(kept[::-1], factors[::-1], strict=True) if factor > most), None)
