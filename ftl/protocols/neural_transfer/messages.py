"""What the parties of `neural_transfer` say to each other; every message of a run is one of these."""

from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.channel import decode, encode
from ftl.crypto import shares
from ftl.errors import ProtocolError
from ftl.protocols.neural_transfer.settings import Plan
from ftl.protocols.recipe import Task


class Working(msgspec.Struct, frozen=True):
    """Active to passive while its own model is fitted: so that a long fit is no time-out. `done` is the last."""

    done: bool


class Start(msgspec.Struct, frozen=True):
    """Active to passive: the plan and the public keys; no plan when there will be no network."""

    plan: Plan | None
    publics: list[bytes] = []


class Ready(msgspec.Struct, frozen=True):
    """Passive to active: its public keys, and how many columns its network has, with the constant; 0 for none."""

    inputs: int
    publics: list[bytes] = []


class Ciphertexts(msgspec.Struct, frozen=True):
    """Either way: ciphertexts under the sender's key, or masked results under the receiver's; per prime a list."""

    items: list[list[bytes]]


class Sums(msgspec.Struct, frozen=True):
    """Either way: decrypted sums, int64, shape (inputs, hidden), under the receiver's uniform mask."""

    values: NDArray[np.int64]


class Opened(msgspec.Struct, frozen=True):
    """Either way: residues under the sender's uniform masks, or its shares of the receiver's weight gradient.

    Attributes:
        values: int64, shape (2, …) each.
    """

    values: list[NDArray[np.int64]]


class Margins(msgspec.Struct, frozen=True):
    """Passive to active: encrypted margins of people, and what takes their masks off.

    Attributes:
        items: masked products, under the active party's key.
        masks: int64, shape (people,): the sum of each person's masks.
    """

    items: list[bytes]
    masks: NDArray[np.int64]


M = TypeVar("M", bound=msgspec.Struct)


def send(task: Task, to: str, topic: str, message: msgspec.Struct) -> None:
    """Send one message."""
    task.channel.send(to, topic, encode(message))


def receive(task: Task, sender: str, topic: str, kind: type[M]) -> M:
    """Wait for one message of that kind; ProtocolError names the sender of anything else."""
    return decode(task.channel.receive(sender, topic, task.timeout), kind, sender=sender, topic=topic)


def require_residues(
    sender: str, topic: str, values: NDArray[Any], shape: tuple[int, ...], primes: tuple[int, ...]
) -> None:
    """Refuse what are not residues of that shape.

    Args:
        sender: who sent it.
        topic: under which topic.
        values: int64.
        shape: that they must have.
        primes: one for all, or one for each place of the first axis.

    Raises:
        ProtocolError: names the sender and the topic.
    """
    if values.shape != shape:
        raise ProtocolError(
            f"{sender!r} sent an array of shape {values.shape} under {topic!r}; {shape} was expected.",
            cure=f"Check that {sender!r} runs the same version and aligned the same people.",
        )
    parts = [values] if len(primes) == 1 else list(values)
    for part, prime in zip(parts, primes, strict=True):
        if part.size and (part.min() < 0 or part.max() >= prime):
            raise ProtocolError(f"{sender!r} sent under {topic!r} numbers that are no residues.")


def opened(task: Task, sender: str, topic: str, shapes: list[tuple[int, ...]]) -> list[shares.Residues]:
    """Wait for opened residues of these shapes (without the axis of the primes)."""
    values = receive(task, sender, topic, Opened).values
    if len(values) != len(shapes):
        raise ProtocolError(f"{sender!r} sent {len(values)} arrays under {topic!r}; {len(shapes)} were expected.")
    for value, shape in zip(values, shapes, strict=True):
        require_residues(sender, topic, value, (2, *shape), shares.PRIMES)
    return values
