"""What the parties of `feature_report` say to each other; every message of a run is one of these."""

from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.channel import decode, encode
from ftl.errors import ProtocolError
from ftl.protocols.recipe import Task

Reason = Literal["", "constant", "chance", "iv", "max_iv", "gain", "psi", "correlation", "vif"]
"""Which rule a column broke; empty where it was selected."""


class Labels(msgspec.Struct, frozen=True):
    """Active to passive: each shared person's label with a count of one, encrypted; nothing when too few are shared.

    Attributes:
        people: how many.
        public: the active party's public key.
        ciphertexts: one per person.
    """

    people: int
    public: bytes
    ciphertexts: bytes


class Sums(msgspec.Struct, frozen=True):
    """Passive to active: encrypted label sums by fine bin; columns and, where it does not matter, bins in secret order.

    Attributes:
        bins: int64, shape (p,): fine bins of each column.
        kinds: uint8, shape (p,): see KEEP, JOIN and CHAIN.
        trends: int8, shape (p,): of a chain as sent: 1 where the share of bad must rise, -1 fall, 0 either.
        gaps: bool, shape (p,): whether the last bin stands apart from the chain because it is for missing values.
        names: of the columns; empty unless the settings want them.
        ciphertexts: the sums, column after column, compressed.
    """

    bins: NDArray[np.int64]
    kinds: NDArray[np.uint8]
    trends: NDArray[np.int8]
    gaps: NDArray[np.bool_]
    names: list[str]
    ciphertexts: bytes


KEEP, JOIN, CHAIN = 0, 1, 2
"""What may be done with a column's bins: nothing, join any of them, join neighbours."""


class Merged(msgspec.Struct, frozen=True):
    """Active to passive: which of its bins belong together.

    Attributes:
        groups: per column the merged bin of each of its fine bins, in the order of `Sums`.
        woe: per column the weight of evidence of each merged bin, None where it is withheld; empty unless the active
            party tells it.
    """

    groups: list[list[int]]
    woe: list[list[float | None]]


class Stability(msgspec.Struct, frozen=True):
    """Passive to active: stability indices per column, training people against holdout and against all others.

    Attributes:
        holdout, others: float64, shape (p,); NaN where there is nobody to compare with.
    """

    holdout: NDArray[np.float64]
    others: NDArray[np.float64]


class Vectors(msgspec.Struct, frozen=True):
    """Each party to those after it: its standardised columns, encrypted under a key of its own.

    Attributes:
        vectors: how many; 0 when it takes no part in correlations.
        public: its public key.
        ciphertexts: some vectors of all people in each.
    """

    vectors: int
    public: bytes
    ciphertexts: list[bytes]


class Products(msgspec.Struct, frozen=True):
    """The answer to `Vectors`: their dot products with the sender's own, encrypted for the receiver.

    Attributes:
        vectors: of the sender.
        ciphertexts: one item per item of `Vectors`.
    """

    vectors: int
    ciphertexts: list[bytes]


class Share(msgspec.Struct, frozen=True):
    """Passive to active: one of two uint64 shares of the products between two passive parties; each alone is noise."""

    values: NDArray[np.uint64]


class Within(msgspec.Struct, frozen=True):
    """Passive to active: correlations among its own vectors.

    Attributes:
        sizes: int64, shape (p,): vectors of each column, in the order of `Sums`.
        correlation: float64, shape (v, v).
    """

    sizes: NDArray[np.int64]
    correlation: NDArray[np.float64]


class Verdict(msgspec.Struct, frozen=True):
    """Active to passive: what became of its columns.

    Attributes:
        information_value: per column, two digits after the point.
        reasons: per column why it was not selected.
    """

    information_value: list[float]
    reasons: list[Reason]


M = TypeVar("M", bound=msgspec.Struct)


def send(task: Task, to: str, topic: str, message: msgspec.Struct) -> None:
    """Send one message."""
    task.channel.send(to, topic, encode(message))


def receive(task: Task, sender: str, topic: str, kind: type[M]) -> M:
    """Wait for one message of that kind; ProtocolError names the sender of anything else."""
    return decode(task.channel.receive(sender, topic, task.timeout), kind, sender=sender, topic=topic)


def require(sender: str, topic: str, holds: object, what: str) -> None:
    """Refuse a message that breaks a rule.

    Raises:
        ProtocolError: names the sender, the topic and the rule.
    """
    if not holds:
        raise ProtocolError(
            f"{sender!r} sent under {topic!r} {what}.",
            cure=f"Check that {sender!r} runs the same version and settings and aligned the same people.",
        )


def require_shape(sender: str, topic: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Refuse an array of another shape; ProtocolError as :func:`require`."""
    require(sender, topic, array.shape == shape, f"an array of shape {array.shape} where {shape} was expected")


def label_bits(people: int) -> int:
    """Width of a sum of labels with counts: bad people above, people below."""
    return 2 * people.bit_length()


def passive_parties(task: Task) -> list[str]:
    """Names of all passive parties of the run, the same list at every party."""
    return sorted({task.frame.party, *task.channel.peers} - {task.active})
