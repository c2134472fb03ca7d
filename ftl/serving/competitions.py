"""A gateway's side of an experiment: who answers whom, what was answered, and the outcomes that are told later."""

import time
from collections.abc import Callable, Sequence

import msgspec

from ftl.consortium import Folder
from ftl.errors import FtlError, PartyUnavailable
from ftl.registry.competition import Exposure, Outcome
from ftl.registry.competition.experiment import home
from ftl.registry.competition.observations import EXPOSURES, OUTCOMES
from ftl.serving.answers import Answer
from ftl.serving.appender import Appender
from ftl.serving.live import Live
from ftl.serving.messages import Told
from ftl.serving.wire import Fields

_ENCODER = msgspec.json.Encoder()


class Competitions:
    """Answers for the experiment under way, and writes down what is needed to judge it.

    Args:
        folder: the consortium, as the coordinator has it.
        subject: what stands for an applicant in the coordinator's files.
        clock: seconds since 1970.
    """

    def __init__(self, folder: Folder, subject: Callable[[bytes], str], clock: Callable[[], float]) -> None:
        self._folder, self._subject, self._clock = folder, subject, clock
        self._exposures: Appender | None = None
        self._written = ""
        self._outcomes: Appender | None = None

    async def answer(self, live: Live, pseudonym: bytes, fields: Fields) -> tuple[str, Answer | None]:
        """The answer for an applicant while an experiment is under way.

        Whoever belongs to a challenger's share is scored by both, so that they can be compared on the same people. A
        challenger that cannot answer never costs the applicant theirs: the champion's is given.

        Args:
            live: with an experiment.
            pseudonym: of the applicant.
            fields: of the request.

        Returns:
            the version that answers, and its answer.

        Raises:
            FtlError: as the champion's scorer raises.
        """
        experiment = live.experiment
        assert experiment is not None  # noqa: S101 - the caller has looked
        arm, started = experiment.arm(pseudonym), time.perf_counter()
        try:
            answer, other = await self._ask(live, pseudonym, fields, arm)
        except PartyUnavailable:
            self._note(live, pseudonym, experiment.champion, {}, started, [*dict.fromkeys([experiment.champion, arm])])
            raise
        if other is None or isinstance(other, FtlError):
            if other or arm == experiment.champion:
                failed = [arm] if other else []
                self._note(live, pseudonym, experiment.champion, {experiment.champion: answer}, started, failed)
            return experiment.champion, answer
        given = arm if experiment.mode == "split" else experiment.champion
        self._note(live, pseudonym, given, {experiment.champion: answer, arm: other}, started)
        return given, other if given == arm else answer

    def learn(self, pseudonym: bytes, outcome: Told, group: str) -> None:
        """Note what became of an applicant; written at the next flush."""
        if self._outcomes is None:
            self._outcomes = Appender(home(self._folder) / OUTCOMES)
        self._outcomes.add(_ENCODER.encode(Outcome(self._clock(), self._subject(pseudonym), outcome, group)))

    def flush(self) -> None:
        """Write what has been gathered."""
        for file in (self._exposures, self._outcomes):
            if file:
                file.flush()

    def close(self) -> None:
        """Write what has been gathered and close the files."""
        for file in (self._exposures, self._outcomes):
            if file:
                file.close()
        self._exposures = self._outcomes = None

    async def _ask(
        self, live: Live, pseudonym: bytes, fields: Fields, arm: str
    ) -> tuple[Answer | None, Answer | FtlError | None]:
        """The champion's answer, and the challenger's or why it has none, for whoever is in its share."""
        if live.experiment is not None and arm == live.experiment.champion:
            return await live.scorer.score_one(pseudonym, fields), None
        return await live.scorer.compare(pseudonym, fields, arm)

    def _note(
        self,
        live: Live,
        pseudonym: bytes,
        arm: str,
        answers: dict[str, Answer | None],
        started: float,
        failed: Sequence[str] = (),
    ) -> None:
        scored = {version: answer for version, answer in answers.items() if answer is not None}
        if not (scored or failed) or live.experiment is None:
            return
        exposure = Exposure(
            at=self._clock(),
            subject=self._subject(pseudonym),
            arm=arm,
            scored={version: answer.probability for version, answer in scored.items()},
            milliseconds=round((time.perf_counter() - started) * 1000, 2),
            degraded=[version for version, answer in scored.items() if answer.together.degraded],
            failed=list(failed),
        )
        self._file(live.experiment.name).add(_ENCODER.encode(exposure))

    def _file(self, name: str) -> Appender:
        if self._exposures is None or self._written != name:
            if self._exposures:
                self._exposures.close()
            self._exposures, self._written = Appender(home(self._folder) / name / EXPOSURES), name
        return self._exposures
