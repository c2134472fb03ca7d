"""Scoring for callers that are not asynchronous: the batch, and the model that MLflow loads.

They take the very path of the gateway; only the number of people in a question and the time budget differ.
"""

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from ftl.consortium import Folder
from ftl.registry import Bundle
from ftl.serving.answers import Answers, Reason
from ftl.serving.credentials import gateway_tls, pseudonymise, pseudonymise_all, scoring_key, server_name
from ftl.serving.endpoints import read_endpoints
from ftl.serving.http1 import Peer
from ftl.serving.scorer import Scorer
from ftl.serving.wire import Fields

T = TypeVar("T")

PEOPLE_PER_QUESTION = 5_000
QUESTIONS_AT_ONCE = 2
"""While one is combined here, the parties already work on the next."""

BUDGET_SECONDS = 30.0
"""For one question about many people."""


class Row(msgspec.Struct, frozen=True):
    """What is said of one person; None where the active party does not know them.

    Attributes:
        probability_of_default: between 0 and 1.
        score: scorecard points.
        reasons: at most four, costliest first.
        degraded: whether a party that the model needs did not answer.
        why: what is missing.
    """

    probability_of_default: float | None
    score: int | None
    reasons: list[Reason]
    degraded: bool
    why: str | None


class BlockingScorer:
    """Scores with one bundle, from any thread.

    Args:
        folder: the consortium, as the coordinator has it.
        bundle: of the model version.
        budget: seconds that the parties have to answer one question.
    """

    def __init__(self, folder: Folder, bundle: Bundle, budget: float = BUDGET_SECONDS) -> None:
        self.bundle = bundle
        self._key, tls = scoring_key(folder), gateway_tls(folder)
        peers = {party: Peer(url, tls, server_name(party)) for party, url in read_endpoints(folder).items()}
        self._scorer = Scorer(bundle, peers, budget)
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="ftl-scoring", daemon=True)
        thread.start()
        # Also when nobody calls `close`, as MLflow never does: no thread may be at work while the interpreter ends.
        self._stop = weakref.finalize(self, _stop, self._loop, thread)

    def score(self, identifiers: Sequence[Sequence[str]], fields: Sequence[Fields] = ()) -> list[Row]:
        """Score people in their order.

        Args:
            identifiers: per person, in the bundle's order.
            fields: empty, or one mapping per person of the active party's columns to values.

        Returns:
            one row per person.

        Raises:
            PartyUnavailable: the active party did not answer.
            InvalidRequest: it refused a field.
        """
        names = self.bundle.identifiers
        pseudonyms = [pseudonymise(self._key, names, person) for person in identifiers]
        parts = self._run(self._in_parts(pseudonyms, fields, lambda answers: list(_rows(answers, self.bundle.active))))
        return [row for part in parts for row in part]

    def score_columns(self, texts: Sequence[pa.Array], fields: Sequence[Fields] = ()) -> pa.Table:
        """Score people in their order, as columns.

        Args:
            texts: string, a column per identifier in the bundle's order.
            fields: as for :meth:`score`.

        Returns:
            `probability_of_default`, `score`, `reasons` (codes, costliest first, between ``;``), `degraded`, `why`.

        Raises:
            PartyUnavailable, InvalidRequest: as :meth:`score`.
        """
        pseudonyms = pseudonymise_all(self._key, self.bundle.identifiers, texts)
        return pa.concat_tables(self._run(self._in_parts(pseudonyms, fields, self._columns)) or [NOBODY])

    def close(self) -> None:
        """Drop the connections."""
        self._run(self._close())
        self._stop()

    async def _close(self) -> None:
        for peer in self._scorer.peers.values():
            peer.close()

    async def _in_parts(
        self, pseudonyms: Sequence[bytes], fields: Sequence[Fields], made: Callable[[Answers], T]
    ) -> list[T]:
        """What is made of the answers about some thousand people each, in order."""
        gate = asyncio.Semaphore(QUESTIONS_AT_ONCE)

        async def score(start: int) -> T:
            async with gate:
                part = slice(start, start + PEOPLE_PER_QUESTION)
                return made(await self._scorer.score(pseudonyms[part], fields[part]))

        return await asyncio.gather(*(score(start) for start in range(0, len(pseudonyms), PEOPLE_PER_QUESTION)))

    def _columns(self, answers: Answers) -> pa.Table:
        unknown, active = ~answers.known, self.bundle.active
        why = np.where(unknown, f"{active} does not know the applicant.", answers.why or "")
        columns = [
            pa.array(answers.probability, mask=unknown),
            pa.array(answers.score, mask=unknown),
            _codes(answers),
            pa.array(np.full(len(unknown), answers.degraded)),
            pa.array(why, pa.string(), mask=np.asarray(answers.known & (answers.why is None))),
        ]
        return pa.table(columns, schema=NOBODY.schema)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


NOBODY = pa.schema(
    {
        "probability_of_default": pa.float64(),
        "score": pa.int64(),
        "reasons": pa.string(),
        "degraded": pa.bool_(),
        "why": pa.string(),
    }
).empty_table()


def _codes(answers: Answers) -> pa.Array:
    """Codes of the reasons, separated by ``;``: each of the few combinations is spelt once."""
    ranking = answers.ranking
    place = np.arange(ranking.order.shape[1])
    shown = (place < ranking.counts[:, None]) & answers.known[:, None]
    spelt = np.where(shown, ranking.order + 1, 0) @ (len(ranking.codes) + 1) ** place
    _, first, which = np.unique(spelt, return_index=True, return_inverse=True)
    texts = [";".join(ranking.codes[code] for code in ranking.order[row][shown[row]].tolist()) for row in first]
    return pa.array(texts, pa.string()).take(pa.array(which))


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=5)
    if not thread.is_alive():
        loop.close()


def _rows(answers: Answers, active: str) -> Iterator[Row]:
    unknown = Row(None, None, [], answers.degraded, f"{active} does not know the applicant.")
    for i, known in enumerate(answers.known.tolist()):
        yield (
            Row(
                probability_of_default=float(answers.probability[i]),
                score=int(answers.score[i]),
                reasons=answers.reasons[i],
                degraded=answers.degraded,
                why=answers.why,
            )
            if known
            else unknown
        )
