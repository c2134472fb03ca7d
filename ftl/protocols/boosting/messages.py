"""What parties say to each other while trees grow; every message of the rounds is one of these."""

from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.channel import decode, encode
from ftl.errors import ProtocolError
from ftl.protocols.recipe import Task


class Working(msgspec.Struct, frozen=True):
    """Active to passive while it fits a model of its own: so that a long fit is no time-out. `done` is the last."""

    done: bool


class Plan(msgspec.Struct, frozen=True):
    """What all parties of a run agree on; the active party sends it.

    Attributes:
        people: shared training people, in the common order.
        ensembles: grown side by side.
        outputs: trees of each ensemble in one round; tree e · outputs + k of a round is ensemble e's for output k.
        rounds: most rounds.
        depth: levels of a tree, 1 to 6.
        min_bucket: fewest training people between two sums of a column.
        max_bins: bins of a numeric column.
        slot_bits: width of a packed sum.
        columns: share of each party's columns that a tree may use.
        first: number of the first round; above 0 when a run goes on after a break.
        together: trees of one level whose gradients are in the same plaintexts, side by side; 1 for deeper ones.
    """

    people: int
    ensembles: int
    outputs: int
    rounds: int
    depth: int
    min_bucket: int
    max_bins: int
    slot_bits: int
    columns: float = 1.0
    first: int = 0
    together: int = 1

    @property
    def trees(self) -> int:
        """Trees of one round."""
        return self.ensembles * self.outputs


class Start(msgspec.Struct, frozen=True):
    """Active to passive: the plan and the public key; no plan when there will be no trees."""

    plan: Plan | None
    public: bytes


class Ready(msgspec.Struct, frozen=True):
    """Passive to active: how many candidate splits this party has; 0 when it has no usable column."""

    candidates: int


class Gradients(msgspec.Struct, frozen=True):
    """Active to passive: packed gradient and hessian of every training person of each tree, encrypted; empty to end.

    Attributes:
        training: uint8 bits, shape (trees, ceil(people / 8)): who trains each tree of the round.
        ciphertexts: bundle of trees after bundle, one for each person who trains any of them; with the lowest bits for
            the bundle's first tree, and 0 where the person does not train a tree.
    """

    training: NDArray[np.uint8]
    ciphertexts: bytes


class Sums(msgspec.Struct, frozen=True):
    """Passive to active: per node the candidates' left sums, encrypted and compressed, in its tree's secret order.

    Attributes:
        ciphertexts: one item per node, or per bundle of roots, of the candidates that are not withheld from all of
            them; empty where all are. Trees of a bundle have one order.
        offered: uint8, shape (nodes, candidates): 0 where a candidate is withheld, 1 where it is free, 2 and 3 where
            the answer may only rise or fall with its column.
    """

    ciphertexts: list[bytes]
    offered: NDArray[np.uint8]


class Choice(msgspec.Struct, frozen=True):
    """Active to passive: nodes for which this party's split is best.

    Attributes:
        nodes: int64, shape (k, 2): tree of the round, node of the level.
        candidates: per node the numbers, in the tree's secret order, of candidates with the same best gain.
    """

    nodes: NDArray[np.int64]
    candidates: list[list[int]]


class Sides(msgspec.Struct, frozen=True):
    """Passive to active: uint8 bits, shape (k, ceil(people / 8)): who of the node's people goes left."""

    left: NDArray[np.uint8]


class Divided(msgspec.Struct, frozen=True):
    """Active to passive: how the level was split, whoever owns the splits.

    Attributes:
        split: bool, shape (trees, nodes).
        left: uint8 bits, shape (trees, ceil(people / 8)).
    """

    split: NDArray[np.bool_]
    left: NDArray[np.uint8]


class Kept(msgspec.Struct, frozen=True):
    """Active to passive: how many trees stay in the model, counted from the first."""

    trees: int


class Masks(msgspec.Struct, frozen=True):
    """Passive to active: bits, shape (test people, trees): leaves that the party's own splits leave reachable."""

    leaves: NDArray[Any]


M = TypeVar("M", bound=msgspec.Struct)


def send(task: Task, to: str, topic: str, message: msgspec.Struct) -> None:
    """Send one message."""
    task.channel.send(to, topic, encode(message))


def receive(task: Task, sender: str, topic: str, kind: type[M]) -> M:
    """Wait for one message of that kind; ProtocolError names the sender of anything else."""
    return decode(task.channel.receive(sender, topic, task.timeout), kind, sender=sender, topic=topic)


def require_shape(sender: str, topic: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Refuse an array of another shape.

    Raises:
        ProtocolError: names the sender, the topic and both shapes.
    """
    if array.shape != shape:
        raise ProtocolError(
            f"{sender!r} sent an array of shape {array.shape} under {topic!r}; {shape} was expected.",
            cure=f"Check that {sender!r} runs the same version and aligned the same people.",
        )
