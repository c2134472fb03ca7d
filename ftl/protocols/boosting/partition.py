"""Where people stand while the trees of one round grow in lockstep; every party keeps the same."""

import numpy as np
from numpy.typing import NDArray


class Partition:
    """Node of every person in each of the round's trees, level by level.

    A node that is not split hands all its people to its left child, which is closed; so a leaf's number is the path to
    it, and the leaves under node i of level l are i · 2^(depth-l) and the following.

    Args:
        training: bool, shape (trees, people): who trains each tree.

    Attributes:
        node: int64, shape (trees, people): number of the person's node within the level.
        open: bool, shape (trees, nodes): nodes that may still be split.
        level: levels grown so far.
    """

    def __init__(self, training: NDArray[np.bool_]) -> None:
        self.training = training
        self.node = np.zeros(training.shape, dtype=np.int64)
        self.open = np.ones((len(training), 1), dtype=bool)
        self.level = 0

    def advance(self, split: NDArray[np.bool_], left: NDArray[np.bool_]) -> None:
        """Go one level down.

        Args:
            split: bool, shape (trees, nodes): nodes that were split.
            left: bool, shape (trees, people): who goes left; matters only in nodes that were split.
        """
        was_split = np.take_along_axis(split, self.node, axis=1)
        self.node = 2 * self.node + (was_split & ~left)
        self.open = np.repeat(split, 2, axis=1)
        self.level += 1

    def members(self, tree: int, node: int) -> NDArray[np.bool_]:
        """bool, shape (people,): who is in a node, trained on or not."""
        return np.asarray(self.node[tree] == node)

    def trained(self, tree: int, node: int) -> NDArray[np.bool_]:
        """bool, shape (people,): who is in a node and trains the tree."""
        return np.asarray((self.node[tree] == node) & self.training[tree])

    def summed(self) -> list[tuple[int, int, int | None]]:
        """(tree, node, sibling) of every node whose sums cross: of two siblings the one with fewer training people.

        The other's sums are the parent's minus these. A root has no sibling.
        """
        if self.level == 0:
            return [(tree, 0, None) for tree in range(len(self.open))]
        pairs: list[tuple[int, int, int | None]] = []
        for tree, parent in np.argwhere(self.open[:, ::2]):
            small, large = 2 * int(parent), 2 * int(parent) + 1
            counts = [np.count_nonzero(self.trained(tree, node)) for node in (small, large)]
            pairs.append((int(tree), small, large) if counts[0] <= counts[1] else (int(tree), large, small))
        return pairs


def bundles(count: int, together: int) -> list[range]:
    """Trees 0 to `count` - 1 in as few runs of at most `together` as there can be, of nearly the same length."""
    runs = -(-count // together)
    return [range(run * count // runs, (run + 1) * count // runs) for run in range(runs)]


def leaf_bits(node: int, level: int, depth: int) -> int:
    """Bits of the leaves under node `node` of `level` in a tree of `depth` levels."""
    width = 1 << (depth - level)
    return ((1 << width) - 1) << (node * width)


def to_bits(rows: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Eight people per byte along the last axis."""
    return np.packbits(rows, axis=-1)


def from_bits(bits: NDArray[np.uint8], count: int) -> NDArray[np.bool_]:
    """Undo :func:`to_bits` for `count` people."""
    return np.unpackbits(bits, axis=-1, count=count).astype(bool)


def bytes_of(people: int) -> int:
    """Bytes that :func:`to_bits` makes of so many people."""
    return -(-people // 8)


def columns_of(seed: int, party: str, number: int, trees: int, count: int, share: float) -> NDArray[np.bool_]:
    """bool, shape (trees, count): the columns of a party that the trees of a round may use.

    Args:
        seed: of the run.
        party: whose columns.
        number: of the round.
        trees: of the round.
        count: of the party's usable columns.
        share: of them; rounded up.
    """
    if share >= 1 or not count:
        return np.ones((trees, count), dtype=bool)
    random = np.random.default_rng([seed, 3, number, *party.encode()])
    places = random.permuted(np.tile(np.arange(count), (trees, 1)), axis=1)
    return np.asarray(places < np.ceil(share * count))
