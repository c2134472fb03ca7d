"""What a model version says of people, and of one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.decision import Ranking

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
class Wording:
    """How reasons are put.

    Attributes:
        texts: reason code to text.
        chinese: reason code to text in Chinese, where there is one.
        worth: scorecard points that one unit of log-odds is worth.
    """

    texts: Mapping[str, str]
    chinese: Mapping[str, str]
    worth: float

    def reasons(self, ranking: Ranking) -> list[list[Reason]]:
        """Per person at most four reasons, costliest first."""
        words = [(code, self.texts[code], self.chinese.get(code)) for code in ranking.codes]
        points = np.round(ranking.lost * self.worth, 1).tolist()
        return [
            [_reason(words[place], amount) for place, amount in zip(places[:count], amounts, strict=False)]
            for places, amounts, count in zip(ranking.order.tolist(), points, ranking.counts.tolist(), strict=True)
        ]


def _reason(words: tuple[str, str, str | None], points: float) -> Reason:
    code, text, chinese = words
    return Reason(code, text, points, chinese)


@dataclass(frozen=True)
class Answers:
    """What is said of m people.

    Attributes:
        probability: of default, float64, shape (m,); NaN where nobody who could answer knows the person.
        score: int64, shape (m,); 0 where unknown.
        ranking: what cost each of them most.
        wording: of reasons.
        known: bool, shape (m,): whether the active party has the person, or a party that can answer alone.
        parties: party to per-person bool array, or None when it did not answer.
        degraded: a party that the model needs did not answer, so that the active party's own score stands in.
        why: a sentence for everybody of these people when degraded, else None.
        milliseconds: party to the time its answer took.
    """

    probability: NDArray[np.float64]
    score: NDArray[np.int64]
    ranking: Ranking
    wording: Wording
    known: NDArray[np.bool_]
    parties: dict[str, NDArray[np.bool_] | None]
    degraded: bool
    why: str | None
    milliseconds: dict[str, float]

    @cached_property
    def reasons(self) -> Sequence[list[Reason]]:
        """Per person at most four, costliest first."""
        return self.wording.reasons(self.ranking)

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
        return Answer(probability[person], score[person], self, person) if known[person] else None

    @cached_property
    def _lists(self) -> tuple[list[bool], list[float], list[int]]:
        return self.known.tolist(), self.probability.tolist(), self.score.tolist()


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said of one person.

    Attributes:
        probability: of default.
        score: on the scorecard.
        together: the answers that this is one of; say whether they are degraded, and why.
        place: of the person among them.
    """

    probability: float
    score: int
    together: Answers
    place: int

    @property
    def reasons(self) -> list[Reason]:
        """At most four, costliest first."""
        return self.together.reasons[self.place]

    @property
    def parties(self) -> dict[str, Known]:
        """Party to what it said of the person."""
        return self.together.standing(self.place)
