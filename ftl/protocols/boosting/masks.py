"""Leaves that a passive party still allows for the people of the holdout, as they cross to the active party."""

import numpy as np

from ftl.errors import ProtocolError
from ftl.protocols.boosting.messages import Masks, receive, require_shape
from ftl.protocols.recipe import SubScores, Task


def mask_type(depth: int) -> np.dtype[np.unsignedinteger]:
    """The smallest unsigned integer with a bit for each leaf."""
    return np.dtype(f"<u{max(1 << depth, 8) // 8}")


def collect_masks(task: Task, party: str, trees: int, depth: int) -> SubScores:
    """What a passive party says of the people of the holdout.

    Args:
        task: of the run.
        party: who sends.
        trees: in the model.
        depth: levels of a tree.

    Raises:
        ProtocolError: they are no masks of such trees.
    """
    leaves = receive(task, party, "masks", Masks).leaves
    require_shape(party, "masks", leaves, (len(task.test), trees))
    full = (1 << (1 << depth)) - 1
    if leaves.dtype != mask_type(depth) or (leaves & full == 0).any():
        raise ProtocolError(f"{party!r} sent masks that leave no leaf of a tree of depth {depth}.")
    return SubScores(np.ones(len(leaves), dtype=bool), np.zeros(len(leaves)), leaves.astype(np.uint64))
