"""What crosses in an alignment. Every message but the first carries the session, which no earlier run had."""

import msgspec
import numpy as np
from numpy.typing import NDArray

VERSION = 2
SALT_BYTES = 32


class Hello(msgspec.Struct, frozen=True):
    """Opens the exchange between any two parties.

    Attributes:
        version: of the protocol.
        salt: 32 random bytes, this party's share of the session.
        public: an X25519 key of this run.
        result: the setting that must be equal at all parties.
        alternatives: number of id lists; must be equal at all parties.
        kept: names the interrupted run that this party can resume; empty for none.
    """

    version: int
    salt: bytes
    public: bytes
    result: str
    alternatives: int
    kept: bytes


class Size(msgspec.Struct, frozen=True):
    """To the active party: how long the sender's list is, padding included."""

    session: bytes
    people: int


class Plan(msgspec.Struct, frozen=True):
    """From the active party: who asks the others, and the lengths that the receiver needs.

    Attributes:
        session: of the run.
        asking: the party whose people are looked up at all others.
        people: party to length of its list; all for the asking party, else of the active and the asking one.
    """

    session: bytes
    asking: str
    people: dict[str, int]


class Have(msgspec.Struct, frozen=True):
    """From the asking party: what it has of the receiver already, from before the connection was lost.

    Attributes:
        session: of the run.
        answers: doubled points.
        offered: tags, or places of the table.
    """

    session: bytes
    answers: int
    offered: int


class Batch(msgspec.Struct, frozen=True):
    """Equally long entries `first`, `first` + 1, … of a list: points, tags or places of a table."""

    session: bytes
    first: int
    rows: NDArray[np.uint8]


class Table(msgspec.Struct, frozen=True):
    """Announces a table of masked shares: the number of places, and which of the hash functions fills it."""

    session: bytes
    slots: int
    attempt: int


class Shared(msgspec.Struct, frozen=True):
    """The receiver's tags of the people all parties know, in the common order; none when it may not learn them."""

    session: bytes
    tags: NDArray[np.uint8]


class Done(msgspec.Struct, frozen=True):
    """The receiver need not keep anything to resume from."""

    session: bytes
