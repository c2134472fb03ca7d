"""One model version at the gateway: which parts it needs, and what it makes of what they say."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ftl import decision
from ftl.errors import FtlError, ProtocolError
from ftl.protocols import SubScores, combine
from ftl.registry import Bundle
from ftl.serving import wire
from ftl.serving.answers import Answers, Wording


class Version:
    """Turns sub-scores into answers.

    Args:
        bundle: of the version.

    Attributes:
        needed: the parties to ask: the active one, those whose sub-scores the model needs, those who can answer alone.
    """

    def __init__(self, bundle: Bundle) -> None:
        combiner = bundle.combiner
        self.bundle = bundle
        self.needed: Sequence[str] = tuple(dict.fromkeys([bundle.active, *combiner.parties, *combiner.alone]))
        self._scale = bundle.scale.scorecard()
        self._combination = combine.Combination(combiner, bundle.active)
        self._costs = decision.Costs(self._combination)
        self._wording = Wording(bundle.texts(), bundle.texts_zh(), decision.points_per_log_odds(self._scale))
        self._mask_bytes = wire.mask_bytes(combiner)
        self._said_by = {party: wire.Answers(party) for party in self.needed}

    @property
    def cold(self) -> list[str]:
        """Parties that have not answered about this version yet."""
        return [party for party, said_by in self._said_by.items() if not said_by.known]

    def wanted(self, party: str, people: list[int] | None = None) -> wire.Wanted:
        """The version's entry in a question to a party.

        Args:
            party: that is asked.
            people: places of those whom it is wanted for; None for all.
        """
        part = self.bundle.parties[party].sha256
        return wire.Wanted(self.bundle.run_id, part, self._mask_bytes, self._said_by[party].known, people)

    def read(self, party: str, body: bytes, people: int) -> SubScores:
        """What a party said from its part.

        Raises:
            ProtocolError: it is not about so many people, or about another model.
        """
        scores, combiner = self._said_by[party].decode(body, people), self.bundle.combiner
        _check_trees(party, scores.leaves, len(combiner.trees))
        if party in combiner.alone:
            _check_trees(party, scores.own_leaves, len(combiner.alone[party].trees))
        return scores

    def answers(self, said: Mapping[str, SubScores | FtlError], milliseconds: dict[str, float]) -> Answers:
        """What the version says of m people.

        Args:
            said: party to its sub-scores of them, or why there are none.
            milliseconds: party to the time its answer took.

        Raises:
            FtlError: the active party's, if there is nothing of it.
        """
        bundle = self.bundle
        failures = {party: one for party, one in said.items() if isinstance(one, FtlError)}
        if bundle.active in failures:
            raise failures[bundle.active]
        scores = {party: one for party, one in said.items() if isinstance(one, SubScores)}
        known = combine.answered_rows(bundle.combiner, bundle.active, scores)
        probability = np.where(known, self._combination.answer(scores), 0.5)
        return Answers(
            probability=np.where(known, probability, np.nan),
            score=np.where(known, decision.score(probability, self._scale), 0),
            ranking=decision.ranking(self._costs.losses(scores), self._wording.texts, len(known)),
            wording=self._wording,
            known=known,
            parties={party: scores[party].known if party in scores else None for party in self.needed},
            degraded=bool(failures),
            why=_why(bundle, failures),
            milliseconds=milliseconds,
        )


def _check_trees(party: str, leaves: NDArray[np.unsignedinteger] | None, trees: int) -> None:
    answered = 0 if leaves is None else leaves.shape[1]
    if answered != trees:
        raise ProtocolError(f"{party} answered {answered} trees; the model has {trees}.")


def _why(bundle: Bundle, failures: Mapping[str, FtlError]) -> str | None:
    if not failures:
        return None
    reasons = " ".join(error.message for error in failures.values())
    return f"{reasons} Scored by {bundle.active} alone."
