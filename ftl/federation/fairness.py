"""How a model treats groups of people: approval rate, bad rate and AUC of each, with intervals.

Groups come from the active party's own protected columns, on the holdout: it knows label, answer and column. A
partner's column is compared nowhere: that would show one party what belongs to another. Only groups large enough to
hide their people are told.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ftl.features import Frame
from ftl.federation.evaluation import evaluate
from ftl.federation.run import Group, Rate

LEAST_OF_A_GROUP = 50
"""People; a smaller group is left out."""
LEAST_OF_A_KIND = 10
"""Bad people, and good ones, that it must have, so that its figures tell nobody's label."""
RESAMPLES = 300
NORMAL = 1.959964
"""97.5 % quantile of the standard normal."""
THIRDS = ("lowest third", "middle third", "highest third")
MISSING = "not known"

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def groups(
    frame: Frame, test: NDArray[np.int64], probability: Floats, protected: Sequence[str], cutoff: float
) -> list[Group]:
    """Compare the groups of each protected column.

    Args:
        frame: the active party's; its label is bad or good.
        test: int64, shape (m,), rows of the holdout people.
        probability: of default, float64, shape (m,).
        protected: columns of the frame.
        cutoff: probability up to which a person counts as approved.

    Returns:
        columns in the order given, values in the order of their codes; groups that are too small are missing.
    """
    label = np.empty(0) if frame.label is None else frame.label[test]
    found = []
    for column in protected:
        for value, members in _split(frame, test, column):
            if _tellable(label[members]):
                found.append(_group(column, value, label[members], probability[members], cutoff))
    return found


def wilson(hits: int, people: int) -> Rate:
    """A share with its 95 % score interval (Wilson 1927).

    Args:
        hits: of them.
        people: at least 1.
    """
    share, square = hits / people, NORMAL**2
    centre = (share + square / (2 * people)) / (1 + square / people)
    half = NORMAL / (1 + square / people) * np.sqrt(share * (1 - share) / people + square / (4 * people**2))
    return share, max(0.0, float(centre - half)), min(1.0, float(centre + half))


def _split(frame: Frame, test: NDArray[np.int64], column: str) -> Iterator[tuple[str, Bools]]:
    values = frame.values[test, frame.columns.index(column)]
    known = ~np.isnan(values)
    if column in frame.categories:
        yield from ((text, values == code) for code, text in enumerate(frame.categories[column]))
    elif known.any():
        third = np.searchsorted(np.quantile(values[known], [1 / 3, 2 / 3]), values)
        yield from ((name, known & (third == number)) for number, name in enumerate(THIRDS))
    yield MISSING, ~known


def _tellable(label: Floats) -> bool:
    return len(label) >= LEAST_OF_A_GROUP and min(label.sum(), len(label) - label.sum()) >= LEAST_OF_A_KIND


def _group(column: str, value: str, label: Floats, probability: Floats, cutoff: float) -> Group:
    measured = evaluate(label, probability, resamples=RESAMPLES)
    approved, people = int((probability <= cutoff).sum()), len(label)
    auc = (measured.auc, *measured.intervals["auc"])
    return Group(column, value, people, wilson(approved, people), wilson(int(label.sum()), people), auc)
