"""What a node does in a run, whatever carries its messages: frame, alignment, recipe, model part, figures.

Only positions in the common order, aggregates and what the recipe encrypts leave the party.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.align import align
from ftl.channel import Channel, decode, encode
from ftl.consortium import Node
from ftl.errors import FederationError, FtlError, ProtocolError
from ftl.features import Encoder, Frame, build
from ftl.federation.evaluation import Gain, check_people, compare
from ftl.federation.failure import failure_at
from ftl.federation.link import Link
from ftl.federation.parts import PartManifest, keep_part
from ftl.federation.recipes import find_recipe
from ftl.federation.run import Evaluation, PartPointer, Request
from ftl.protocols import Combiner, Outcome, Recipe, Step, Task
from ftl.quality import validated_version

log = logging.getLogger(__name__)

Rows = NDArray[np.int64]
Report = Callable[[Step], None]
Clock = Callable[[], float]

PEOPLE = "people"
"""Topic of the active party's choice of training and holdout people."""


RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


class Verdict(msgspec.Struct, frozen=True):
    """What only the active party can say of a run.

    Attributes:
        aligned: ``train`` and ``test``: shared people used.
        metrics: ``active_only`` and ``federated``.
        gain: metric to difference with its interval.
        combiner: turns sub-scores into a probability.
        settings: the recipe's settings that were chosen.
    """

    aligned: dict[str, int]
    metrics: dict[str, Evaluation]
    gain: Gain
    combiner: Combiner
    settings: dict[str, Any]


class PartyResult(msgspec.Struct, frozen=True):
    """What one party tells the coordinator at the end. No row, no identifier, no threshold.

    Attributes:
        party: who.
        part: where its model part is.
        rows: people in its frame.
        seconds: phase to seconds: ``align``, ``train``, ``evaluate``.
        bytes_sent, messages: what it sent to the other parties.
        notes: sentences for the reader of the report.
        verdict: active party only.
    """

    party: str
    part: PartPointer
    rows: int
    seconds: dict[str, float]
    bytes_sent: int
    messages: int
    notes: list[str]
    verdict: Verdict | None = None


class People(msgspec.Struct, frozen=True):
    """Which of the shared people are used for what, as positions in the common order.

    Attributes:
        train, test: int64, one-dimensional.
    """

    train: Rows
    test: Rows


def run_party(
    node: Node, request: Request, channel: Channel, report: Report, clock: Clock = time.monotonic
) -> PartyResult:
    """Take part in a run.

    Args:
        node: this party's installation.
        request: what the coordinator asks.
        channel: the way to the other parties.
        report: tells the coordinator of progress.
        clock: seconds, for durations and deadlines.

    Returns:
        what may be told of it.

    Raises:
        FtlError: of this party or of the one that failed first; its message starts with that party's name.
    """
    link = Link(channel, clock)
    try:
        return _Program(node, request, link, report, clock).run()
    except Exception as exc:
        if link.aborted is not None:
            raise link.aborted.error() from exc
        failure = failure_at(node.name, exc)
        log_failure = log.warning if isinstance(exc, FtlError) else log.exception
        log_failure("federation.party failed", extra={"run_id": request.run_id, "party": node.name})
        link.abort(failure)
        raise failure.error() from exc


def check_run_id(run_id: str) -> None:
    """Refuse an id that could name another folder than a run's.

    Raises:
        FederationError: it is not made of letters, digits, ``-`` and ``_``.
    """
    if not RUN_ID.fullmatch(run_id):
        raise FederationError(f"{run_id!r} cannot name a run.", cure="Use at most 100 letters, digits, '-' and '_'.")


@dataclass
class _Program:
    """One party's way through one run."""

    node: Node
    request: Request
    link: Link
    report: Report
    clock: Clock
    seconds: dict[str, float] = field(default_factory=dict)
    aligned: dict[str, int] = field(default_factory=dict)
    trained_on: int | None = None

    @property
    def active(self) -> str:
        return self.node.consortium.active

    def run(self) -> PartyResult:
        check_run_id(self.request.run_id)
        recipe = find_recipe(self.request.recipe)
        settings = recipe.settings(self.request.settings)
        with self._phase("align"):
            self.trained_on = validated_version(self.node, self.node.party.features.table)
            frame, encoder = build(self.node, self.request.seed)
            task, notes = self._task(frame)
        with self._phase("train"):
            outcome = recipe.run(task, settings)
            pointer = self._keep(recipe, frame, encoder, outcome)
        with self._phase("evaluate"):
            verdict = self._evaluate(task, outcome) if self.node.name == self.active else None
        return PartyResult(
            party=self.node.name,
            part=pointer,
            rows=len(frame.ids),
            seconds=self.seconds,
            bytes_sent=self.link.bytes_sent,
            messages=self.link.messages,
            notes=[*notes, *outcome.notes],
            verdict=verdict,
        )

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        if name != "train":  # the recipe reports its own phases
            self.report(Step(name))
        start = self.clock()
        yield
        self.seconds[name] = self.clock() - start

    def _task(self, frame: Frame) -> tuple[Task, tuple[str, ...]]:
        rows = align(
            self.link,
            self.active,
            frame.ids,
            timeout=self.request.timeout,
            report=lambda done, of: self.report(Step("align", done, of)),
        ).rows
        notes: tuple[str, ...] = ()
        if frame.party == self.active:
            train, test = self._choose(frame, rows)
        else:
            train, test = self._chosen(rows)
        self.aligned = {"train": len(train), "test": len(test)}
        if not len(rows) and frame.party == self.active:
            test = _own_holdout(frame)
            notes = ("No person is known to every party; the figures are of the active party's own holdout.",)
        task = Task(
            frame=frame,
            train=train,
            test=test,
            active=self.active,
            channel=self.link,
            seed=self.request.seed,
            timeout=self.request.timeout,
            report=self.report,
        )
        return task, notes

    def _choose(self, frame: Frame, rows: Rows) -> tuple[Rows, Rows]:
        """Active party: choose the people and tell the others."""
        if frame.label is None or frame.holdout is None:
            raise FederationError(
                "the active party's frame has no label.", cure="Declare its label in consortium.yaml."
            )
        known = ~np.isnan(frame.label[rows])
        held = frame.holdout[rows]
        test = np.flatnonzero(known & held)
        train = _draw(np.flatnonzero(known & ~held), self.request.max_shared, self.request.seed)
        if len(rows):
            check_people(frame.label[rows[test]])
        for peer in self.link.peers:
            self.link.send(peer, PEOPLE, encode(People(train, test)))
        return rows[train], rows[test]

    def _chosen(self, rows: Rows) -> tuple[Rows, Rows]:
        """Passive party: learn which people are used."""
        payload = self.link.receive(self.active, PEOPLE, self.request.timeout)
        people = decode(payload, People, sender=self.active, topic=PEOPLE)
        used = np.concatenate([people.train.ravel(), people.test.ravel()])
        if len(used) and (used.min() < 0 or used.max() >= len(rows) or len(np.unique(used)) != len(used)):
            raise ProtocolError(
                f"{self.active} chose people outside the {len(rows)} shared ones, or one of them twice.",
                cure="Do not train with this party until its node has been examined.",
            )
        return rows[people.train], rows[people.test]

    def _keep(self, recipe: Recipe, frame: Frame, encoder: Encoder, outcome: Outcome) -> PartPointer:
        manifest = PartManifest(
            run_id=self.request.run_id,
            recipe=recipe.name,
            seed=self.request.seed,
            party=self.node.name,
            sha256="",
            columns=list(frame.columns),
            table_version=self.trained_on,
        )
        return keep_part(self.node, manifest, outcome.part, encoder.to_json())

    def _evaluate(self, task: Task, outcome: Outcome) -> Verdict:
        label, combiner = task.frame.label, outcome.combiner
        if label is None or combiner is None or outcome.baseline is None or outcome.probability is None:
            raise FederationError(
                f"recipe {self.request.recipe} returned no combiner or no probabilities at the active party.",
                cure="A recipe's Outcome must have them; correct the recipe.",
            )
        before, after, gain = compare(label[task.test], outcome.baseline, outcome.probability, self.request.seed)
        return Verdict(
            aligned=self.aligned,
            metrics={"active_only": before, "federated": after},
            gain=gain,
            combiner=combiner,
            settings=dict(outcome.settings),
        )


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
