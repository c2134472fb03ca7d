"""A model's leaf values laid out for speed: one look-up from a tree's mask of leaves to a value."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ftl.protocols.trees import MOST_LEAVES, lowest_leaf

SMALL = 8
"""Trees of so many leaves have 256 masks, few enough to tabulate."""


class LeafTables:
    """Leaf values of all trees.

    Args:
        trees: per tree its leaf values; at most 64.
    """

    def __init__(self, trees: list[list[float]]) -> None:
        self.count = len(trees)
        self._width = max((len(values) for values in trees), default=1)
        self._values = np.zeros((len(trees), MOST_LEAVES))
        for row, values in zip(self._values, trees, strict=True):
            row[: len(values)] = values

    def values(self, leaves: NDArray[np.unsignedinteger]) -> NDArray[np.float64]:
        """Value of the lowest set leaf of each mask, float64, shape (m, trees).

        Args:
            leaves: any unsigned integer, shape (m, trees).
        """
        if leaves.dtype == np.uint8:
            return np.asarray(self._lowest[np.arange(self.count), leaves])
        place = np.minimum(lowest_leaf(leaves), MOST_LEAVES - 1)
        return np.asarray(self._values[np.arange(self.count), place])

    def least(
        self, trees: NDArray[np.int64], leaves: NDArray[np.unsignedinteger], scale: float = 1.0
    ) -> NDArray[np.float64]:
        """Smallest scaled value among the set leaves of each mask, float64, shape (m, k); 0 where none is set.

        Args:
            trees: int64, shape (k,): whose masks they are.
            leaves: any unsigned integer, shape (m, k).
            scale: factor on the values, of any sign.
        """
        if leaves.dtype == np.uint8:
            return np.asarray(scale * (self._smallest if scale >= 0 else self._largest)[trees, leaves])
        return _extreme(scale * self._values[trees, : self._width], leaves)

    @cached_property
    def _lowest(self) -> NDArray[np.float64]:
        """float64, shape (trees, 256)."""
        place = np.minimum(lowest_leaf(np.arange(256, dtype=np.uint64)), MOST_LEAVES - 1)
        return np.ascontiguousarray(self._values[:, place])

    @cached_property
    def _smallest(self) -> NDArray[np.float64]:
        return self._extremes(1.0)

    @cached_property
    def _largest(self) -> NDArray[np.float64]:
        return -self._extremes(-1.0)

    def _extremes(self, sign: float) -> NDArray[np.float64]:
        """float64, shape (trees, 256): smallest of sign · value for every mask."""
        masks = np.repeat(np.arange(256, dtype=np.uint8)[:, None], self.count, axis=1)
        return np.ascontiguousarray(_extreme(sign * self._values[:, : min(self._width, SMALL)], masks).T)


def _extreme(values: NDArray[np.float64], leaves: NDArray[np.unsignedinteger]) -> NDArray[np.float64]:
    """Smallest of `values`, shape (k, width), among the set leaves of masks of shape (m, k); 0 where none is set."""
    best = np.full(leaves.shape, np.inf)
    for leaf in range(values.shape[1]):
        allowed = (leaves >> leaves.dtype.type(leaf) & leaves.dtype.type(1)).astype(bool)
        np.minimum(best, values[:, leaf], out=best, where=allowed)
    return np.where(np.isfinite(best), best, 0.0)
