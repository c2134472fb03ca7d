"""A party's features as one numeric matrix, and the encoder that makes it the same way at scoring time."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["binary", "number", "classes"]
"""What a label is: bad or good, a number such as income, or one of several classes."""


@dataclass(frozen=True)
class Frame:
    """One party's people and columns, in the order of their identifiers.

    Attributes:
        party: the owner.
        columns: p feature names.
        values: float64, shape (n, p), C order. NaN is *missing*; a categorical column holds codes 0 … k-1.
        categories: column name to its k category texts, in code order; only categorical columns appear.
        ids: n identifier texts, the consortium's identifiers joined by ``"|"``. Never leaves the party.
        lists: where people may be found by further identifiers, all lists in falling precedence, each of n texts, None
            for a person without; empty where `ids` is the only one. A person without the first list's identifiers is
            called by the number of the list that names it, a colon and that name in `ids`.
        label: float64, shape (n,), NaN where unknown; None at a passive party. Of kind ``binary``: 1 is *bad*; of kind
            ``classes``: number of the class.
        holdout: bool, shape (n,), rows kept for evaluation; None at a passive party.
        kind: what the label is.
        classes: texts of the classes in the order of their numbers; only of kind ``classes``.
        weight: float64, shape (n,), above 0: how much each labelled row counts; None for 1 each.
        monotone: int8, shape (p,): 1 where the answer may only rise with the column, -1 fall, 0 either; None for all 0.
    """

    party: str
    columns: tuple[str, ...]
    values: NDArray[np.float64]
    categories: dict[str, tuple[str, ...]]
    ids: tuple[str, ...]
    label: NDArray[np.float64] | None = None
    holdout: NDArray[np.bool_] | None = None
    kind: Kind = "binary"
    classes: tuple[str, ...] = ()
    weight: NDArray[np.float64] | None = None
    monotone: NDArray[np.int8] | None = None
    lists: tuple[tuple[str | None, ...], ...] = ()

    @property
    def categorical(self) -> NDArray[np.bool_]:
        """bool, shape (p,): which columns hold codes."""
        return np.array([column in self.categories for column in self.columns], dtype=bool)
