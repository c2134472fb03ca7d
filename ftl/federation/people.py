"""Which people a run is about: found by the alignment, then parted by the active party into training and holdout."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.align import AlignmentSettings, align
from ftl.channel import decode, encode
from ftl.consortium import Consortium
from ftl.errors import FederationError, ProtocolError
from ftl.features import Frame
from ftl.federation.evaluation import check_people
from ftl.federation.link import Link
from ftl.federation.run import Request
from ftl.protocols import Step

Rows = NDArray[np.int64]
Report = Callable[[Step], None]

PEOPLE = "people"
"""Topic of the active party's choice of training and holdout people."""
NOBODY = "No person is known to every party; the figures are of the active party's own holdout."


class People(msgspec.Struct, frozen=True):
    """Which of the shared people are used for what, as positions in the common order.

    Attributes:
        train, test: int64, one-dimensional.
    """

    train: Rows
    test: Rows


@dataclass(frozen=True)
class Chosen:
    """The people of a run, as rows of the party's own frame.

    Attributes:
        train, test: int64, in the common order; `test` is the active party's own holdout when nobody is shared.
        aligned: ``train`` and ``test``: shared people used.
        notes: sentences for the reader of the report.
    """

    train: Rows
    test: Rows
    aligned: dict[str, int]
    notes: tuple[str, ...] = ()


def settings_of(consortium: Consortium, request: Request) -> AlignmentSettings:
    """How the people of this run are found."""
    declared = consortium.alignment
    return AlignmentSettings(result=request.result or declared.result, pad=declared.pad)


def find_shared(
    link: Link, consortium: Consortium, request: Request, frame: Frame, report: Report, state: Path | None
) -> Rows:
    """Own rows of the people whom all parties know, int64, shape (m,), in the common order.

    Args:
        link: the way to the other parties.
        consortium: says by what, and how, people are found.
        request: of the run.
        frame: this party's.
        report: tells the coordinator of progress.
        state: folder in which an interrupted alignment is kept; None to keep nothing.

    Raises:
        AlignmentError: a peer broke the protocol (named).
        ChannelTimeout: a peer did not answer.
    """
    first, *further = frame.lists or (frame.ids,)
    return align(
        link,
        consortium.active,
        first,
        timeout=request.timeout,
        report=lambda done, of: report(Step("align", done, of)),
        alternatives=further,
        settings=settings_of(consortium, request),
        state=state,
    ).rows


def choose_people(link: Link, active: str, request: Request, frame: Frame, rows: Rows) -> Chosen:
    """Agree on training and holdout people; the active party chooses.

    Args:
        link: the way to the other parties.
        active: name of the active party.
        request: of the run.
        frame: this party's.
        rows: int64, shape (m,), own rows of the shared people.

    Raises:
        FederationError: no figure can be computed on the shared holdout.
        ProtocolError: the active party chose impossible people.
    """
    if frame.party != active:
        train, test = _chosen(link, active, request, rows)
        return Chosen(train, test, {"train": len(train), "test": len(test)})
    train, test = _choose(link, request, frame, rows)
    aligned = {"train": len(train), "test": len(test)}
    return Chosen(train, test, aligned) if len(rows) else Chosen(train, _own_holdout(frame), aligned, (NOBODY,))


def _choose(link: Link, request: Request, frame: Frame, rows: Rows) -> tuple[Rows, Rows]:
    """Active party: choose the people and tell the others."""
    if frame.label is None or frame.holdout is None:
        raise FederationError("the active party's frame has no label.", cure="Declare its label in consortium.yaml.")
    known, held = ~np.isnan(frame.label[rows]), frame.holdout[rows]
    test = np.flatnonzero(known & held)
    train = _draw(np.flatnonzero(known & ~held), request.max_shared, request.seed)
    if len(rows):
        check_people(frame.label[rows[test]])
    for peer in link.peers:
        link.send(peer, PEOPLE, encode(People(train, test)))
    return rows[train], rows[test]


def _chosen(link: Link, active: str, request: Request, rows: Rows) -> tuple[Rows, Rows]:
    """Passive party: learn which people are used."""
    payload = link.receive(active, PEOPLE, request.timeout)
    people = decode(payload, People, sender=active, topic=PEOPLE)
    used = np.concatenate([people.train.ravel(), people.test.ravel()])
    if len(used) and (used.min() < 0 or used.max() >= len(rows) or len(np.unique(used)) != len(used)):
        raise ProtocolError(
            f"{active} chose people outside the {len(rows)} shared ones, or one of them twice.",
            cure="Do not train with this party until its node has been examined.",
        )
    return rows[people.train], rows[people.test]


def _draw(positions: Rows, most: int | None, seed: int) -> Rows:
    """At most `most` of `positions`, drawn with the seed; the common order repeats, so the draw does too."""
    if most is None or len(positions) <= most:
        return positions
    return np.sort(np.random.default_rng(seed).choice(positions, size=most, replace=False))


def _own_holdout(frame: Frame) -> Rows:
    """int64: the active party's labelled holdout, evaluated when nobody is shared."""
    if frame.label is None or frame.holdout is None:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(frame.holdout & ~np.isnan(frame.label))
