"""What the parties of `transfer_boost` say to each other; every message of a run is one of these."""

from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.channel import decode, encode
from ftl.errors import ProtocolError
from ftl.protocols.recipe import Task
from ftl.protocols.transfer_boost.settings import Plan


class Working(msgspec.Struct, frozen=True):
    """Active to passive while the base is fitted: so that a long fit is no time-out. `done` is the last."""

    done: bool


class Start(msgspec.Struct, frozen=True):
    """Active to passive: the plan and the public key; no plan when there will be no trees."""

    plan: Plan | None
    public: bytes


class Ready(msgspec.Struct, frozen=True):
    """Passive to active: how many candidate splits this party has; 0 when it has no usable column."""

    candidates: int


class Gradients(msgspec.Struct, frozen=True):
    """Active to passive: packed gradient and hessian of each fold tree's training people, encrypted; empty to end."""

    ciphertexts: bytes


class Sums(msgspec.Struct, frozen=True):
    """Passive to active: per node the candidates' left sums, encrypted and compressed, in this tree's secret order.

    Attributes:
        ciphertexts: one item per node, each of equally many ciphertexts.
        sent: uint8, shape (nodes, candidates): 0 where a candidate is withheld (and 0 was encrypted).
    """

    ciphertexts: list[bytes]
    sent: NDArray[np.uint8]


class Choice(msgspec.Struct, frozen=True):
    """Active to passive: nodes for which this party's split is best.

    Attributes:
        nodes: int64, shape (k, 2): tree of the round, node of the level.
        candidates: per node the numbers, in the tree's secret order, of candidates with the same best gain.
    """

    nodes: NDArray[np.int64]
    candidates: list[list[int]]


class Sides(msgspec.Struct, frozen=True):
    """Passive to active: uint8 bits, shape (k, ceil(shared / 8)): who of the node's people goes left."""

    left: NDArray[np.uint8]


class Divided(msgspec.Struct, frozen=True):
    """Active to passive: how the level was split, whoever owns the splits.

    Attributes:
        split: bool, shape (trees, nodes).
        left: uint8 bits, shape (trees, ceil(shared / 8)).
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
