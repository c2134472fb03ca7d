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

from ftl.channel import Channel
from ftl.consortium import Node
from ftl.errors import FederationError, FtlError
from ftl.features import Encoder, Frame, build
from ftl.federation.failure import failure_at
from ftl.federation.link import Link
from ftl.federation.parts import PartManifest, keep_part, keep_private
from ftl.federation.people import Report, Rows, choose_people, find_shared, settings_of
from ftl.federation.recipes import find_recipe
from ftl.federation.resume import RunState, fingerprint_of
from ftl.federation.run import PartPointer, Request
from ftl.federation.verdict import Verdict, counted, judged
from ftl.protocols import Outcome, Recipe, Step, Task
from ftl.quality import validated_version

log = logging.getLogger(__name__)

Clock = Callable[[], float]

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


class PartyResult(msgspec.Struct, frozen=True):
    """What one party tells the coordinator at the end. No row, no identifier, no threshold.

    Attributes:
        party: who.
        part: where its model part is; None of a run that only counts the shared people.
        rows, columns: people and features in its frame.
        seconds: phase to seconds: ``align``, ``train``, ``evaluate``.
        bytes_sent, messages: what it sent to the other parties.
        notes: sentences for the reader of the report.
        verdict: active party only.
    """

    party: str
    part: PartPointer | None
    rows: int
    columns: int
    seconds: dict[str, float]
    bytes_sent: int
    messages: int
    notes: list[str]
    verdict: Verdict | None = None


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
        check_run_id(request.run_id)
        state = RunState(node.run(request.run_id))
        with state.held(request.timeout):
            try:
                return _Program(node, request, link, report, clock, state).run()
            except Exception as exc:
                if not (link.aborted or failure_at(node.name, exc)).transient:
                    state.clear()  # nobody will resume this run
                raise
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
    state: RunState
    seconds: dict[str, float] = field(default_factory=dict)
    trained_on: int | None = None

    @property
    def active(self) -> str:
        return self.node.consortium.active

    def run(self) -> PartyResult:
        recipe = find_recipe(self.request.recipe)
        settings = recipe.settings(self.request.settings)
        with self._phase("align"):
            self.trained_on = validated_version(self.node, self.node.party.features.table)
            frame, encoder = build(self.node, self.request.seed)
            rows = self._shared(frame)
        if settings_of(self.node.consortium, self.request).result == "one":
            result = self._counted(frame, rows)
        else:
            result = self._trained(recipe, settings, frame, encoder, rows)
        self.state.finish(self.link, self.active, self.request.timeout)
        return result

    def _shared(self, frame: Frame) -> Rows:
        """Own rows of the shared people; those that were found before the run was interrupted, if it was."""
        fingerprint = fingerprint_of(self.request, frame)
        resume = self.state.agree(self.link, self.active, self.request.timeout, fingerprint)
        if resume.round:
            self.report(Step("resume", resume.round))
        rows = self.state.rows()
        if rows is None:
            consortium, state = self.node.consortium, self.state.alignment
            rows = find_shared(self.link, consortium, self.request, frame, self.report, state)
            self.state.keep_rows(rows)
        return rows

    def _counted(self, frame: Frame, rows: Rows) -> PartyResult:
        """Only the active party knows who is shared, so nothing can be trained."""
        verdict = counted(frame, rows) if self.node.name == self.active else None
        return self._result(frame, None, (), verdict)

    def _trained(self, recipe: Recipe, settings: Any, frame: Frame, encoder: Encoder, rows: Rows) -> PartyResult:
        chosen = choose_people(self.link, self.active, self.request, frame, rows)
        task = Task(
            frame=frame,
            train=chosen.train,
            test=chosen.test,
            active=self.active,
            channel=self.link,
            seed=self.request.seed,
            timeout=self.request.timeout,
            report=self.report,
            checkpoints=self.state,
        )
        with self._phase("train"):
            outcome = recipe.run(task, settings)
            pointer = self._keep(recipe, frame, encoder, outcome)
        with self._phase("evaluate"):
            verdict = self._judged(task, outcome, chosen.aligned, recipe) if self.node.name == self.active else None
        return self._result(frame, pointer, (*chosen.notes, *outcome.notes), verdict)

    def _judged(self, task: Task, outcome: Outcome, aligned: dict[str, int], recipe: Recipe) -> Verdict:
        return judged(task, outcome, aligned, recipe.name, self.node.consortium)

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        if name != "train":  # the recipe reports its own phases
            self.report(Step(name))
        start = self.clock()
        yield
        self.seconds[name] = self.clock() - start

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
        keep_private(self.node, self.request.run_id, outcome.private)
        return keep_part(self.node, manifest, outcome.part, encoder.to_json())

    def _result(
        self, frame: Frame, part: PartPointer | None, notes: tuple[str, ...], verdict: Verdict | None
    ) -> PartyResult:
        return PartyResult(
            party=self.node.name,
            part=part,
            rows=len(frame.ids),
            columns=len(frame.columns),
            seconds=self.seconds,
            bytes_sent=self.link.bytes_sent,
            messages=self.link.messages,
            notes=list(notes),
            verdict=verdict,
        )
