"""A party's features as one numeric matrix, and the encoder that makes it the same way at scoring time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """One party's people and columns, in the order of their identifiers.

    Attributes:
        party: the owner.
        columns: p feature names.
        values: float64, shape (n, p), C order. NaN is *missing*; a categorical column holds codes 0 … k-1.
        categories: column name to its k category texts, in code order; only categorical columns appear.
        ids: n identifier texts, the consortium's identifiers joined by ``"|"``. Never leaves the party.
        label: float64, shape (n,), 1 is *bad*, NaN where unknown; None at a passive party.
        holdout: bool, shape (n,), rows kept for evaluation; None at a passive party.
    """

    party: str
    columns: tuple[str, ...]
    values: NDArray[np.float64]
    categories: dict[str, tuple[str, ...]]
    ids: tuple[str, ...]
    label: NDArray[np.float64] | None = None
    holdout: NDArray[np.bool_] | None = None

    @property
    def categorical(self) -> NDArray[np.bool_]:
        """bool, shape (p,): which columns hold codes."""
        return np.array([column in self.categories for column in self.columns], dtype=bool)
