"""The alignment as one program per party, for any number of parties.

What each party learns is in ``docs/privacy/alignment.md``.
"""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ftl.align.identifiers import Identifiers, Rows
from ftl.align.lists import match_lists
from ftl.align.opening import open_run
from ftl.align.post import Post
from ftl.align.secret_order import find_order
from ftl.align.settings import AlignmentSettings
from ftl.align.store import Store
from ftl.channel import Channel
from ftl.errors import AlignmentError

log = logging.getLogger(__name__)

Report = Callable[[int, int], None]
Texts = Iterable[str | None]


@dataclass(frozen=True)
class Alignment:
    """What a party knows after the alignment.

    Attributes:
        rows: int64, shape (m,): own rows of the m people whom *all* parties know; position i is the same person at
            every party. Empty when there are none, and at a party that may not learn them. People found by the first
            list of identifiers come first; within a list the order is a hash of the identifiers: it repeats from run to
            run and tells nothing of anyone's table. With the result ``order``: shape (u,), one for each person that at
            least one party knows, in an order drawn for this run, -1 where this party does not know the person.
        people: how many people each peer shows, as far as this party may know: every peer at the active party; at a
            passive one the active party, and the peers whom it asked. Of the first list of identifiers.
        found_by: int8, shape like `rows`: number of the list of identifiers that found the person, 0 for the first.
    """

    rows: Rows
    people: dict[str, int]
    found_by: NDArray[np.int8]


def align(
    channel: Channel,
    active: str,
    ids: Texts,
    *,
    timeout: float,
    report: Report | None = None,
    threads: int | None = None,
    alternatives: Sequence[Texts] = (),
    settings: AlignmentSettings | None = None,
    state: Path | None = None,
) -> Alignment:
    """Find the people all parties know; every party calls this at the same time.

    Args:
        channel: all its peers take part.
        active: name of the party that takes the result where only one does, and the lengths of all lists; this one or
            one of the peers.
        ids: this party's identifiers, each once; None for a person without. They never leave.
        timeout: seconds to wait for any one message.
        report: called with the rounds done and the rounds expected; a round is a batch of each party. None for nobody.
        threads: for the curve; None for one per core this process may use.
        alternatives: further lists by which to find people whom the lists before did not, in falling precedence, in
            the same order at all parties (``ids`` the id number, then the phone). Each names everybody at most once.
        settings: who learns the result, and padding; None for the defaults.
        state: folder of this party to keep the run in. When the connection is lost, all parties call this again with
            the same folders and lists, over channels without messages of before: nothing that has crossed crosses
            again. It is removed at the end. None to start anew each time.

    Raises:
        AlignmentError: an identifier occurs twice here, or a peer broke the protocol (named).
        ProtocolError: a peer sent what is no message of the protocol.
        ChannelTimeout: a peer did not answer.
    """
    settings = settings or AlignmentSettings()
    lists = _lists(channel.me, ids, alternatives, settings)
    _require_possible(channel, active, lists, settings)
    store = Store(state)
    with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0)), "align") as pool:
        run = open_run(Post(channel, timeout), active, lists, settings, pool, store)
        if settings.result == "order":
            rows, people = find_order(run, lists[0], report)
            found_by = np.zeros(len(rows), dtype=np.int8)
        else:
            rows, found_by, people = match_lists(run, lists, report)
    store.clear()
    log.info("align.finished", extra={"party": channel.me, "rows": len(lists[0]), "shared": len(rows)})
    return Alignment(rows, people, found_by)


def _lists(party: str, ids: Texts, alternatives: Sequence[Texts], settings: AlignmentSettings) -> list[Identifiers]:
    lists = [Identifiers.of(party, texts) for texts in (ids, *alternatives)]
    for number, some in enumerate(lists):
        some.require_unique("an identifier" if number == 0 else f"an identifier of list {number + 1}")
        if len(some) != len(lists[0]):
            raise AlignmentError(f"{party}: list {number + 1} has {len(some)} rows, the first one {len(lists[0])}.")
        if settings.padded(len(some)) < len(some):
            raise AlignmentError(
                f"{party} has {len(some)} people and cannot show {settings.pad} of them.",
                cure="Set 'pad' to more people than the party has, or to 'power_of_two'.",
            )
    return lists


def _require_possible(channel: Channel, active: str, lists: Sequence[Identifiers], settings: AlignmentSettings) -> None:
    if active not in (channel.me, *channel.peers):
        raise AlignmentError(f"{active!r}, named as the active party, takes no part in this run.")
    if settings.result == "order" and (len(channel.peers) != 1 or len(lists) > 1):
        raise AlignmentError(
            f"A secret order is for two parties with one list each, not {len(channel.peers) + 1} with {len(lists)}.",
            cure="Choose the result 'both' or 'one'.",
        )
    if settings.result == "one" and len(channel.peers) > 1 and len(lists) > 1:
        raise AlignmentError(
            "One party alone cannot learn people found by several lists of identifiers at more than two parties.",
            cure="Choose the result 'both', or one list.",
        )
