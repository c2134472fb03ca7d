"""People matched by one list of identifiers after the other, each person once.

A person found by a list takes no part in the lists after it, at any party. So the result pairs every person with one
other, and a list of higher precedence wins: when row 3 has the id number of their row 7 and the phone of their row 9,
it is row 7, and row 9 may still be found by somebody else.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.align.answering import Answering
from ftl.align.asking import Asking
from ftl.align.deck import NOBODY, Deck, deal
from ftl.align.identifiers import Identifiers, Rows
from ftl.align.joint import known_to_all
from ftl.align.matching import equal_places
from ftl.align.opening import Run
from ftl.align.store import Store

Report = Callable[[int, int], None]

_EMPTY = np.empty(0, dtype=np.int64)


class Found(msgspec.Struct, frozen=True):
    """What a finished list of identifiers has found, as it is kept.

    Attributes:
        rows: int64 as bytes: own rows, in the common order.
        others: int64 as bytes: places in the peer's deck, at a party that alone learns the result; else none.
        people: party to the length of its list.
    """

    rows: bytes
    others: bytes
    people: dict[str, int]


@dataclass
class _Matched:
    """What was found so far: the fields of :class:`Found` of each list, and the lengths of the first one."""

    rows: list[Rows]
    others: list[Rows]
    people: dict[str, int]


def match_lists(
    run: Run, lists: Sequence[Identifiers], report: Report | None
) -> tuple[Rows, NDArray[np.int8], dict[str, int]]:
    """Match by each list in turn.

    Args:
        run: the opened run.
        lists: in falling precedence.
        report: told of the rounds done and expected.

    Returns:
        rows: int64, shape (m,): own rows of the shared people.
        found_by: int8, shape (m,): which list found them.
        people: peer to the length of its first list, as far as it is known.
    """
    matched = _Matched([], [], {})
    for number, identifiers in enumerate(lists):
        found = run.store.kept(f"found-{number}", Found) if number < run.kept.finished else None
        if found is None:
            store = run.store.part(f"list-{number}")
            found = _List(run, number, identifiers, matched, report).match(store)
            run.store.keep(f"found-{number}", found)
            run.finish(number + 1)
            store.clear()
        matched.rows.append(np.frombuffer(found.rows, dtype=np.int64))
        matched.others.append(np.frombuffer(found.others, dtype=np.int64))
        matched.people = matched.people or found.people
    counts = [len(rows) for rows in matched.rows]
    people = {peer: size for peer, size in matched.people.items() if peer != run.me}
    return np.concatenate(matched.rows), np.repeat(np.arange(len(lists), dtype=np.int8), counts), people


@dataclass
class _List:
    """One list of identifiers in a run: who is left is put into a deck, and the asking party's deck is matched."""

    run: Run
    number: int
    identifiers: Identifiers
    before: _Matched
    report: Report | None

    def match(self, store: Store) -> Found:
        """Match this list, resuming what `store` has of it."""
        deck = self._deck(store)
        if not self.run.peers:
            rows = deck.cards[deck.cards != NOBODY]
            return Found(rows[self.identifiers.common_order(rows)].tobytes(), b"", {})
        asking, people = self.run.plan(len(deck))
        if asking == self.run.me:
            rows, others = self._ask(deck, people, store)
        else:
            rows, others = self._answer(deck, asking, people[asking], store), _EMPTY
        return Found(rows.tobytes(), others.tobytes(), people)

    def _deck(self, store: Store) -> Deck:
        """People who are left and have this identifier.

        Where only one party learns the result, nobody leaves: the other must not learn who was found, and the one that
        does has to know the other's people again from list to list, so their places stay.
        """
        if self.run.settings.result == "one":
            everybody = np.arange(len(self.identifiers))
            cards, seed = deal(self.run.store.part("order"), everybody, self.run.settings.padded(len(everybody)))
            lacking = np.isin(cards, np.flatnonzero(~self.identifiers.present))
            return Deck(self.identifiers, np.where(lacking, NOBODY, cards), self._salt(), seed)
        left = self.identifiers.rows()
        if self.before.rows:
            left = np.setdiff1d(left, np.concatenate(self.before.rows))
        cards, seed = deal(store, left, self.run.settings.padded(len(left)))
        return Deck(self.identifiers, cards, self._salt(), seed)

    def _salt(self) -> bytes:
        """Separates the points of this list from those of every other list and run."""
        return hashlib.sha256(b"ftl/align/list/1" + self.run.kept.root + bytes([self.number])).digest()

    def _ask(self, deck: Deck, people: dict[str, int], store: Store) -> tuple[Rows, Rows]:
        """Ask all peers, match, and tell them: own rows in the common order, and their places at the only peer."""
        tabled = len(self.run.peers) > 1
        askings = [
            Asking(self.run, peer, deck, people[peer], tabled=tabled, store=store.part(f"peer-{number}"))
            for number, peer in enumerate(self.run.peers)
        ]
        for asking in askings:
            asking.begin()
        rounds = max(asking.rounds for asking in askings)
        for number in range(rounds):
            for asking in askings:
                asking.step()
            self._tell(number + 1, rounds)
        places, others = self._matched(deck, askings)
        for asking in askings:
            asking.tell(_EMPTY if self.run.settings.result == "one" else places)
        for asking in askings:
            asking.await_done()
        return deck.cards[places], others

    def _matched(self, deck: Deck, askings: Sequence[Asking]) -> tuple[Rows, Rows]:
        """Places of the shared people in the deck, in the common order, and in the deck of the only peer."""
        if len(askings) > 1:
            places = known_to_all(askings)
            others = np.full(len(places), NOBODY, dtype=np.int64)
        else:
            places, others = equal_places(*askings[0].tags())
        new = deck.cards[places] != NOBODY
        if self.run.settings.result == "one":
            for rows, taken in zip(self.before.rows, self.before.others, strict=True):
                new &= ~np.isin(deck.cards[places], rows) & ~np.isin(others, taken)
        places, others = places[new], others[new]
        order = self.identifiers.common_order(deck.cards[places])
        return places[order], others[order]

    def _answer(self, deck: Deck, asking: str, people: int, store: Store) -> Rows:
        """Answer the asking party: own rows in the common order, none if this party may not learn them."""
        answering = Answering(
            self.run, asking, deck, people, tabled=len(self.run.peers) > 1, store=store.part("answering")
        )
        answering.begin()
        rounds = answering.rounds
        for number in range(rounds):
            answering.step()
            self._tell(number + 1, rounds)
        answering.finish()
        places = answering.shared()
        if len(places) and self.run.settings.result == "one":
            raise self.run.post.refusal(asking, "named people whom this party may not learn")
        answering.done()
        return deck.cards[places]

    def _tell(self, done: int, of: int) -> None:
        if self.report:
            self.report(done, of)
