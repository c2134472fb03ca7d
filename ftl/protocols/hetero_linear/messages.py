"""What the parties of `hetero_logistic` and `hetero_linear` say to each other; every message is one of these."""

from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.channel import decode, encode
from ftl.crypto.shares import PRIMES
from ftl.errors import ProtocolError
from ftl.protocols.hetero_linear.newton import Products
from ftl.protocols.hetero_linear.settings import Plan
from ftl.protocols.recipe import Task


class Working(msgspec.Struct, frozen=True):
    """Active to passive while its own model is fitted: so that a long fit is no time-out. `done` is the last."""

    done: bool


class Start(msgspec.Struct, frozen=True):
    """Active to passive: the plan, and its public keys for ciphertexts and for pads; no plan when nothing is fitted."""

    plan: Plan | None
    public: bytes = b""
    point: bytes = b""


class Ready(msgspec.Struct, frozen=True):
    """Passive to everybody: how many columns its part of the regression has, and its public keys."""

    columns: int
    public: bytes
    point: bytes


class Taking(msgspec.Struct, frozen=True):
    """Active to passive: the parties that take part, itself first, with the number of columns of each."""

    columns: dict[str, int]


class Ciphertexts(msgspec.Struct, frozen=True):
    """Vectors under the sender's key, or masked products under the receiver's."""

    items: list[bytes]


class Sums(msgspec.Struct, frozen=True):
    """Holder to the party that multiplied: masked sums over all people, int64, shape (groups, width)."""

    values: NDArray[np.int64]


class Shares(msgspec.Struct, frozen=True):
    """Further to second: its part of the margins less a pad shared with the active party, int64, shape (people,)."""

    values: NDArray[np.int64]


class Frequencies(msgspec.Struct, frozen=True):
    """Active to passive: the series of sines that this round's residuals are computed with.

    Attributes:
        period: in log-odds.
        harmonics: how many.
        reach: largest margin that the series is for.
    """

    period: float
    harmonics: int
    reach: float


class Report(msgspec.Struct, frozen=True):
    """Passive to active after each gradient.

    Attributes:
        products: inner products of its own blocks.
        reach: bound on its part of the next margins, in half log-odds, rounded up.
    """

    products: Products
    reach: int


class Free(msgspec.Struct, frozen=True):
    """Everybody to everybody before the information matrix.

    Attributes:
        columns: coefficients that are free to move.
        along: own coefficients · own gradient of the mean loss, for the variance of `hetero_linear`.
    """

    columns: int
    along: float


class Matrix(msgspec.Struct, frozen=True):
    """Everybody to everybody: the moments of two parties' whitened columns, in directions that only they know."""

    values: NDArray[np.float64]


class Scores(msgspec.Struct, frozen=True):
    """Passive to active: its part of the margins of the people of the holdout, float64, shape (people,)."""

    values: NDArray[np.float64]


class Finish(msgspec.Struct, frozen=True):
    """Active to passive at the end.

    Attributes:
        scale: what a margin is multiplied with to be in units of the label; 1 for `hetero_logistic`.
        variance: of the residuals in the regression's units; 1 for `hetero_logistic`.
        freedom: degrees of freedom of the t distribution; 0 for the normal one.
    """

    scale: float
    variance: float
    freedom: int


M = TypeVar("M", bound=msgspec.Struct)


def send(task: Task, to: str, topic: str, message: msgspec.Struct) -> None:
    """Send one message."""
    task.channel.send(to, topic, encode(message))


def receive(task: Task, sender: str, topic: str, kind: type[M]) -> M:
    """Wait for one message of that kind; ProtocolError names the sender of anything else."""
    return decode(task.channel.receive(sender, topic, task.timeout), kind, sender=sender, topic=topic)


def require_shape(sender: str, topic: str, values: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Refuse an array of another shape, or with a number that is not finite.

    Raises:
        ProtocolError: names the sender and the topic.
    """
    if values.shape != shape:
        raise ProtocolError(
            f"{sender!r} sent an array of shape {values.shape} under {topic!r}; {shape} was expected.",
            cure=f"Check that {sender!r} runs the same version and aligned the same people.",
        )
    if not np.isfinite(values).all():
        raise ProtocolError(f"{sender!r} sent under {topic!r} numbers that are not finite.")


def require_residues(sender: str, topic: str, values: NDArray[np.int64], shape: tuple[int, ...], below: int) -> None:
    """Refuse what are not integers from 0 to `below` - 1 in that shape.

    Raises:
        ProtocolError: names the sender and the topic.
    """
    require_shape(sender, topic, values, shape)
    if values.size and (values.min() < 0 or values.max() >= below):
        raise ProtocolError(f"{sender!r} sent under {topic!r} numbers that are no shares.")


MODULUS = PRIMES[0]
"""Shares are integers modulo this prime of 46 bits."""
