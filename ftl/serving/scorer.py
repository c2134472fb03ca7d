"""Ask the parties, combine what they say, decide: the one path of the gateway, the batch and the registered model."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl import decision
from ftl.errors import FtlError, InvalidRequest, PartyUnavailable, ProtocolError
from ftl.protocols import SubScores, combine
from ftl.registry import Bundle
from ftl.serving.asgi import Problem
from ftl.serving.http1 import Peer
from ftl.serving.line import Line
from ftl.serving.wire import PATH, Fields, Question, encode_question, mask_bytes
from ftl.serving.wire import Answers as PartyAnswers

log = logging.getLogger(__name__)

BUDGET_SECONDS = 0.3
"""Default time that the parties have to answer."""

PAUSE_SECONDS = 1.0
"""A party that did not answer is not asked again for so long: nobody waits for it in the meantime."""

Known = str
"""``known``, ``unknown`` or ``unavailable``."""


class Reason(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a score is not higher.

    Attributes:
        code: of the consortium file.
        text: for the applicant.
        points: scorecard points lost against the best attainable.
        text_zh: for the applicant, in Chinese, where the consortium file has it.
    """

    code: str
    text: str
    points: float
    text_zh: str | None = None


@dataclass(frozen=True)
class Answers:
    """What is said of m people.

    Attributes:
        probability: of default, float64, shape (m,); NaN where nobody who could answer knows the person.
        score: int64, shape (m,); 0 where unknown.
        reasons: per person at most four, costliest first.
        known: bool, shape (m,): whether the active party has the person, or a party that can answer alone.
        parties: party to per-person bool array, or None when it did not answer.
        degraded: a party that the model needs did not answer, so that the active party's own score stands in.
        why: a sentence for everybody of these people when degraded, else None.
        milliseconds: party to the time its answer took.
    """

    probability: NDArray[np.float64]
    score: NDArray[np.int64]
    reasons: list[list[Reason]]
    known: NDArray[np.bool_]
    parties: dict[str, NDArray[np.bool_] | None]
    degraded: bool
    why: str | None
    milliseconds: dict[str, float]

    def standing(self, person: int) -> dict[str, Known]:
        """Party to what it said of one person."""
        return {
            party: "unavailable" if known is None else "known" if known[person] else "unknown"
            for party, known in self._known_lists.items()
        }

    @cached_property
    def _known_lists(self) -> dict[str, list[bool] | None]:
        return {party: None if known is None else known.tolist() for party, known in self.parties.items()}

    def of(self, person: int) -> "Answer | None":
        """What is said of one person; None where nobody who could answer knows them."""
        known, probability, score = self._lists
        if not known[person]:
            return None
        return Answer(probability[person], score[person], self.reasons[person], self.standing(person), self)

    @cached_property
    def _lists(self) -> tuple[list[bool], list[float], list[int]]:
        return self.known.tolist(), self.probability.tolist(), self.score.tolist()


@dataclass(frozen=True)
class Answer:
    """What is said of one person.

    Attributes:
        probability: of default.
        score: on the scorecard.
        reasons: at most four, costliest first.
        parties: party to what it said of the person.
        together: the answers that this is one of; say whether they are degraded, and why.
    """

    probability: float
    score: int
    reasons: list[Reason]
    parties: dict[str, Known]
    together: Answers


class Scorer:
    """One model version and the way to the parties it needs.

    Args:
        bundle: of the version.
        peers: party to its score server.
        budget: seconds that the parties have to answer.
    """

    def __init__(self, bundle: Bundle, peers: Mapping[str, Peer], budget: float = BUDGET_SECONDS) -> None:
        self.bundle, self.peers, self._budget = bundle, peers, budget
        self._line = Line(self.score)
        self._combination = combine.Combination(bundle.combiner, bundle.active)
        self._costs, self._texts = decision.Costs(self._combination), bundle.texts()
        self._chinese = bundle.texts_zh()
        self._mask_bytes = mask_bytes(bundle.combiner)
        self._said_by = {party: PartyAnswers(party) for party in self.needed}
        self._paused: dict[str, tuple[float, FtlError]] = {}

    @property
    def needed(self) -> list[str]:
        """The parties to ask: the active one, those whose sub-scores the model needs, those who can answer alone."""
        combiner = self.bundle.combiner
        return list(dict.fromkeys([self.bundle.active, *combiner.parties, *combiner.alone]))

    async def score_one(self, pseudonym: bytes, fields: Fields) -> Answer | None:
        """Score one person, together with others who are asked about at this moment.

        Args:
            pseudonym: of the person.
            fields: the active party's columns to values of the request, if any.

        Returns:
            the answer; None where nobody who could answer knows the person.

        Raises:
            PartyUnavailable: the active party did not answer.
            InvalidRequest: it refused a field.
        """
        if fields:
            return (await self.score([pseudonym], [fields])).of(0)
        answers, place = await self._line.ask(pseudonym)
        return answers.of(place)

    async def score(self, pseudonyms: Sequence[bytes], fields: Sequence[Fields] = ()) -> Answers:
        """Score m people.

        Args:
            pseudonyms: one per person.
            fields: empty, or one mapping per person of the active party's columns to values of the request.

        Returns:
            answers in the order of the people.

        Raises:
            PartyUnavailable: the active party did not answer.
            InvalidRequest: it refused a field.
        """
        milliseconds: dict[str, float] = {}
        own = {self.bundle.active: list(fields)} if any(fields) else {}
        questions = [self._said(party, pseudonyms, own.get(party, []), milliseconds) for party in self.needed]
        said = dict(zip(self.needed, await asyncio.gather(*questions), strict=True))
        failures = {party: one for party, one in said.items() if isinstance(one, FtlError)}
        if self.bundle.active in failures:
            raise failures[self.bundle.active]
        scores = {party: one for party, one in said.items() if isinstance(one, SubScores)}
        return self._answers(scores, failures, milliseconds)

    @property
    def cold(self) -> list[str]:
        """Parties that have not answered about this version yet."""
        return [party for party, said_by in self._said_by.items() if not said_by.known]

    async def warm(self, seconds: float) -> None:
        """Let the parties load their parts and open a connection to each, so that no applicant waits for it.

        A party that does not answer is left for later; see :attr:`cold`.

        Args:
            seconds: at most.
        """

        async def knock(party: str) -> None:
            with suppress(TimeoutError, OSError, FtlError):
                async with asyncio.timeout(seconds):
                    await self._ask(party, [], [])

        await asyncio.gather(*(knock(party) for party in self.cold))

    async def _said(
        self, party: str, pseudonyms: Sequence[bytes], fields: list[Fields], milliseconds: dict[str, float]
    ) -> SubScores | FtlError:
        """One party's sub-scores, or why there are none."""
        start = time.perf_counter()
        until, reason = self._paused.get(party, (0.0, None))
        if reason is not None and start < until:
            return reason
        try:
            async with asyncio.timeout(self._budget):
                scores = await self._ask(party, pseudonyms, fields)
        except TimeoutError:
            return self._pause(party, f"{party} did not answer within {self._budget * 1000:.0f} ms.")
        except OSError:
            return self._pause(party, f"{party}'s score server cannot be reached.")
        except FtlError as error:
            return error
        self._paused.pop(party, None)
        milliseconds[party] = (time.perf_counter() - start) * 1000
        return scores

    def _pause(self, party: str, reason: str) -> FtlError:
        error = PartyUnavailable(reason, cure="Try again.")
        self._paused[party] = time.perf_counter() + PAUSE_SECONDS, error
        log.warning("serving.party unavailable", extra={"party": party, "code": error.code, "reason": error.message})
        return error

    async def _ask(self, party: str, pseudonyms: Sequence[bytes], fields: list[Fields]) -> SubScores:
        if party not in self.peers:
            raise PartyUnavailable(f"No address of {party}'s score server is known.", cure="Start it.")
        said_by = self._said_by[party]
        part = self.bundle.parties[party].sha256
        question = Question(self.bundle.run_id, part, self._mask_bytes, list(pseudonyms), said_by.known, fields)
        status, body = await self.peers[party].post(PATH, encode_question(question))
        if status != HTTPStatus.OK:
            raise _refusal(party, body)
        scores = said_by.decode(body, len(pseudonyms))
        _check_trees(party, scores.leaves, len(self.bundle.combiner.trees))
        if party in self.bundle.combiner.alone:
            _check_trees(party, scores.own_leaves, len(self.bundle.combiner.alone[party].trees))
        return scores

    def _answers(
        self, scores: dict[str, SubScores], failures: dict[str, FtlError], milliseconds: dict[str, float]
    ) -> Answers:
        bundle, scale = self.bundle, self.bundle.scale.scorecard()
        known = combine.answered_rows(bundle.combiner, bundle.active, scores)
        probability = np.where(known, self._combination.answer(scores), 0.5)
        return Answers(
            probability=np.where(known, probability, np.nan),
            score=np.where(known, decision.score(probability, scale), 0),
            reasons=self._reasons(scores),
            known=known,
            parties={party: scores[party].known if party in scores else None for party in self.needed},
            degraded=bool(failures),
            why=_why(bundle, failures),
            milliseconds=milliseconds,
        )

    def _reasons(self, scores: dict[str, SubScores]) -> list[list[Reason]]:
        worth = decision.points_per_log_odds(self.bundle.scale.scorecard())
        lost, texts, chinese = self._costs.losses(scores), self._texts, self._chinese
        people = len(scores[self.bundle.active].known)
        return [
            [Reason(code, texts[code], round(amount * worth, 1), chinese.get(code)) for code, amount in person]
            for person in decision.ranked(lost, texts, people)
        ]


def _check_trees(party: str, leaves: NDArray[np.unsignedinteger] | None, trees: int) -> None:
    answered = 0 if leaves is None else leaves.shape[1]
    if answered != trees:
        raise ProtocolError(f"{party} answered {answered} trees; the model has {trees}.")


def _refusal(party: str, body: bytes) -> FtlError:
    """What a score server's problem+json stands for."""
    try:
        said = msgspec.json.decode(body, type=Problem)
    except msgspec.MsgspecError:
        return PartyUnavailable(f"{party} refused, and did not say why.")
    if said.code == InvalidRequest.code:
        return InvalidRequest(said.detail, cure=said.cure, field=said.field)
    return PartyUnavailable(f"{party} refused: {said.detail}", cure=said.cure)


def _why(bundle: Bundle, failures: Mapping[str, FtlError]) -> str | None:
    if not failures:
        return None
    reasons = " ".join(error.message for error in failures.values())
    return f"{reasons} Scored by {bundle.active} alone."
