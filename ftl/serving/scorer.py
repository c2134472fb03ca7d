"""Ask the parties, combine what they say: the one path of the gateway, the batch and the registered model.

A party is asked once about whoever waits: by the champion's part about everybody, by a challenger's about its share.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from ftl.errors import FtlError, InvalidRequest, PartyUnavailable, ProtocolError
from ftl.protocols import SubScores
from ftl.registry import Bundle
from ftl.serving.answers import Answer, Answers
from ftl.serving.asgi import Problem
from ftl.serving.http1 import Peer
from ftl.serving.line import Line
from ftl.serving.version import Version
from ftl.serving.wire import PATH, Fields, Question, Refused, decode_answers, encode_question

log = logging.getLogger(__name__)

BUDGET_SECONDS = 0.3
"""Default time that the parties have to answer."""

PAUSE_SECONDS = 1.0
"""A party that is down, or silent twice in a row, is not asked again for so long: nobody waits for it meanwhile."""

Person = tuple[bytes, str]
"""A pseudonym, and the challenger whose share it belongs to; empty where the champion alone is asked."""
Asked = tuple[Version, list[int] | None]
"""A version, and the places of those whom it is asked about; None for everybody."""


@dataclass(frozen=True)
class Compared:
    """What is said of some people.

    Attributes:
        champion: of everybody.
        challengers: version to what it says of its share, or why it says nothing.
        places: per person their place in the share.
    """

    champion: Answers
    challengers: Mapping[str, Answers | FtlError]
    places: list[int]


class Scorer:
    """A champion, its challengers, and the way to the parties that they need.

    Args:
        bundle: of the champion.
        peers: party to its score server.
        budget: seconds that the parties have to answer.
        challengers: version to its bundle.
    """

    def __init__(
        self,
        bundle: Bundle,
        peers: Mapping[str, Peer],
        budget: float = BUDGET_SECONDS,
        challengers: Mapping[str, Bundle] | None = None,
    ) -> None:
        self.bundle, self.peers, self._budget = bundle, peers, budget
        self._champion = Version(bundle)
        self._challengers = {name: Version(one) for name, one in (challengers or {}).items()}
        self._line = Line(self._compare)
        self._paused: dict[tuple[str, str], tuple[float, FtlError]] = {}
        self._silent: dict[str, float] = {}

    @property
    def needed(self) -> Sequence[str]:
        """The parties that the champion asks."""
        return self._champion.needed

    async def score_one(self, pseudonym: bytes, fields: Fields) -> Answer | None:
        """Score one person by the champion, together with others who are asked about at this moment.

        Args:
            pseudonym: of the person.
            fields: the active party's columns to values of the request, if any.

        Returns:
            the answer; None where nobody who could answer knows the person.

        Raises:
            PartyUnavailable: the active party did not answer.
            InvalidRequest: it refused a field.
        """
        return (await self.compare(pseudonym, fields, ""))[0]

    async def compare(
        self, pseudonym: bytes, fields: Fields, challenger: str
    ) -> tuple[Answer | None, Answer | FtlError | None]:
        """Score one person by the champion and by a challenger; a challenger that fails costs the champion nothing.

        Args:
            pseudonym: of the person.
            fields: the active party's columns to values of the request, if any.
            challenger: version; empty for none.

        Returns:
            the champion's answer, and the challenger's or why it has none; None where nobody who could answer knows the
            person.

        Raises:
            PartyUnavailable: the active party did not answer.
            InvalidRequest: it refused a field.
        """
        person, place = (pseudonym, challenger), 0
        if fields:
            said = await self._compare([person], [fields])
        else:
            said, place = await self._line.ask(person)
        other = said.challengers.get(challenger)
        return said.champion.of(place), other.of(said.places[place]) if isinstance(other, Answers) else other

    async def score(self, pseudonyms: Sequence[bytes], fields: Sequence[Fields] = ()) -> Answers:
        """Score m people by the champion.

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
        (said,) = await self._ask_all([(self._champion, None)], pseudonyms, fields, milliseconds)
        return self._champion.answers(said, milliseconds)

    @property
    def cold(self) -> list[tuple[Version, str]]:
        """Versions and parties that have not answered about them yet."""
        versions = (self._champion, *self._challengers.values())
        return [(version, party) for version in versions for party in version.cold]

    async def warm(self, seconds: float) -> None:
        """Let the parties load their parts and open a connection to each, so that no applicant waits for it.

        A party that does not answer is left for later; see :attr:`cold`.

        Args:
            seconds: at most.
        """

        async def knock(version: Version, party: str) -> None:
            with suppress(TimeoutError, OSError, FtlError):
                async with asyncio.timeout(seconds):
                    await self._ask(party, [(version, None)], [], [])

        await asyncio.gather(*(knock(version, party) for version, party in self.cold))

    async def _compare(self, people: Sequence[Person], fields: Sequence[Fields] = ()) -> Compared:
        """Ask about everybody who waits."""
        shares: dict[str, list[int]] = {name: [] for name in self._challengers}
        places = [0] * len(people)
        for number, (_, challenger) in enumerate(people):
            if challenger in shares:
                places[number] = len(shares[challenger])
                shares[challenger].append(number)
        met = {name: share for name, share in shares.items() if share}
        asked: list[Asked] = [(self._champion, None), *((self._challengers[name], met[name]) for name in met)]
        milliseconds: dict[str, float] = {}
        said, *others = await self._ask_all(asked, [pseudonym for pseudonym, _ in people], fields, milliseconds)
        champion = self._champion.answers(said, milliseconds)
        challengers = {name: self._challenger(name, one, milliseconds) for name, one in zip(met, others, strict=True)}
        return Compared(champion, challengers, places)

    def _challenger(
        self, name: str, said: Mapping[str, SubScores | FtlError], milliseconds: dict[str, float]
    ) -> Answers | FtlError:
        try:
            return self._challengers[name].answers(said, milliseconds)
        except FtlError as error:
            log.warning("serving.challenger silent", extra={"version": name, "code": error.code})
            return error

    async def _ask_all(
        self,
        asked: Sequence[Asked],
        pseudonyms: Sequence[bytes],
        fields: Sequence[Fields],
        milliseconds: dict[str, float],
    ) -> list[dict[str, SubScores | FtlError]]:
        """Per version: party to its sub-scores, or why there are none."""
        own = {self.bundle.active: fields} if any(fields) else {}
        found: list[dict[str, SubScores | FtlError]] = [{} for _ in asked]

        async def tell(party: str) -> None:
            numbers = [number for number, (version, _) in enumerate(asked) if party in version.needed]
            chosen = [asked[number] for number in numbers]
            said = await self._said(party, chosen, pseudonyms, own.get(party, ()), milliseconds)
            for number, one in zip(numbers, said, strict=True):
                found[number][party] = one

        await asyncio.gather(*map(tell, dict.fromkeys(party for version, _ in asked for party in version.needed)))
        return found

    async def _said(
        self,
        party: str,
        asked: Sequence[Asked],
        pseudonyms: Sequence[bytes],
        fields: Sequence[Fields],
        milliseconds: dict[str, float],
    ) -> Sequence[SubScores | FtlError]:
        """One party's sub-scores per version, or why there are none."""
        start = time.perf_counter()
        resting = [self._resting(party, version, start) for version, _ in asked]
        open_ones = [one for one, why in zip(asked, resting, strict=True) if why is None]
        if not open_ones:
            return [why for why in resting if why]
        try:
            async with asyncio.timeout(self._budget):
                said = iter(await self._ask(party, open_ones, pseudonyms, fields))
        except TimeoutError:
            error = self._quiet(party, start, f"{party} did not answer within {self._budget * 1000:.0f} ms.")
            return [why or error for why in resting]
        except OSError:
            error = self._pause(party, "", PartyUnavailable(f"{party}'s score server cannot be reached.", cure=AGAIN))
            return [why or error for why in resting]
        except FtlError as error:
            return [why or error for why in resting]
        self._silent.pop(party, None)
        milliseconds[party] = (time.perf_counter() - start) * 1000
        return [why or next(said) for why in resting]

    def _resting(self, party: str, version: Version, now: float) -> FtlError | None:
        """Why a party, or its part of a version, is not asked at present."""
        if not self._paused:
            return None
        for key in ((party, ""), (party, version.bundle.run_id)):
            until, reason = self._paused.get(key, (0.0, None))
            if reason is not None and now < until:
                return reason
            self._paused.pop(key, None)
        return None

    def _quiet(self, party: str, start: float, reason: str) -> FtlError:
        """A party that was silent; one that was asked after it had been silent already is given a rest."""
        error = PartyUnavailable(reason, cure=AGAIN)
        if start > self._silent.setdefault(party, time.perf_counter()):
            return self._pause(party, "", error)
        log.warning("serving.party silent", extra={"party": party, "code": error.code})
        return error

    def _pause(self, party: str, run_id: str, error: FtlError) -> FtlError:
        self._paused[party, run_id] = time.perf_counter() + PAUSE_SECONDS, error
        log.warning("serving.party unavailable", extra={"party": party, "code": error.code, "reason": error.message})
        return error

    async def _ask(
        self, party: str, asked: Sequence[Asked], pseudonyms: Sequence[bytes], fields: Sequence[Fields]
    ) -> list[SubScores | FtlError]:
        if party not in self.peers:
            raise PartyUnavailable(f"No address of {party}'s score server is known.", cure="Start it.")
        wanted = [version.wanted(party, people) for version, people in asked]
        question = Question(wanted, list(pseudonyms), list(fields))
        status, body = await self.peers[party].post(PATH, encode_question(question))
        if status != HTTPStatus.OK:
            raise _refusal(party, body)
        parts = decode_answers(party, body, len(asked))
        return [
            self._read(party, version, part, len(pseudonyms if people is None else people))
            for (version, people), part in zip(asked, parts, strict=True)
        ]

    def _read(self, party: str, version: Version, part: bytes | Refused, people: int) -> SubScores | FtlError:
        if isinstance(part, Refused):
            refused = PartyUnavailable(f"{party} refused: {part.detail}", cure=AGAIN)
            return self._pause(party, version.bundle.run_id, refused)
        try:
            return version.read(party, part, people)
        except ProtocolError as error:
            return error


AGAIN = "Try again."


def _refusal(party: str, body: bytes) -> FtlError:
    """What a score server's problem+json stands for."""
    try:
        said = msgspec.json.decode(body, type=Problem)
    except msgspec.MsgspecError:
        return PartyUnavailable(f"{party} refused, and did not say why.")
    if said.code == InvalidRequest.code:
        return InvalidRequest(said.detail, cure=said.cure, field=said.field)
    return PartyUnavailable(f"{party} refused: {said.detail}", cure=said.cure)
