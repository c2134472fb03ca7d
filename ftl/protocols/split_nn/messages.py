"""What the parties of `split_nn` say to each other; every message of a run is one of these."""

from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.channel import decode, encode
from ftl.errors import ProtocolError
from ftl.protocols.recipe import Task
from ftl.protocols.split_nn.settings import Plan


class Working(msgspec.Struct, frozen=True):
    """Active to passive while the base is fitted: so that a long fit is no time-out. `done` is the last."""

    done: bool


class Start(msgspec.Struct, frozen=True):
    """Active to passive: the plan and the public key; no plan when nothing will be trained."""

    plan: Plan | None
    public: bytes


class Ready(msgspec.Struct, frozen=True):
    """Passive to active: buckets of each of its usable columns; empty when it has nothing to offer."""

    buckets: list[int]


class Vectors(msgspec.Struct, frozen=True):
    """Passive to active: noisy vectors, float32, shape (people, width)."""

    values: NDArray[np.float32]


class Gradients(msgspec.Struct, frozen=True):
    """Active to passive: packed gradients of a batch's people, encrypted; one dump for each group of coordinates."""

    ciphertexts: list[bytes]


class Blinded(msgspec.Struct, frozen=True):
    """Passive to active: blinded sums of gradients over buckets, encrypted; one dump for each group of coordinates."""

    ciphertexts: list[bytes]


class Answer(msgspec.Struct, frozen=True):
    """Active to passive: the blinded sums with noise, int64, shape (buckets, width), modulo 2^62."""

    sums: NDArray[np.int64]


class Verdict(msgspec.Struct, frozen=True):
    """Active to passive at the end of a round: whether it is the best so far, and whether another follows."""

    best: bool
    more: bool


class Kept(msgspec.Struct, frozen=True):
    """Active to passive: whether a network is kept (that of the best round)."""

    network: bool


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


def receive_vectors(task: Task, sender: str, topic: str, people: int, width: int, most: float) -> NDArray[np.float64]:
    """A passive party's vectors, float64, shape (people, width).

    Args:
        task: of this party.
        sender: the passive party.
        topic: under which they come.
        people: how many there must be.
        width: numbers in each.
        most: no number can be larger.

    Raises:
        ProtocolError: names the sender of anything else.
    """
    values = receive(task, sender, topic, Vectors).values
    require_shape(sender, topic, values, (people, width))
    if not (np.abs(values) <= most).all():
        raise ProtocolError(
            f"{sender!r} sent vectors under {topic!r} with a number beyond ±{most:g}, or none at all.",
            cure=f"Check that {sender!r} runs with the same settings.",
        )
    return values.astype(np.float64)
