"""Shares questions to one party: who arrives while it is being asked goes along with the next question.

A party answers about sixty people in little more time than about one, so under load this multiplies what it can do; a
single caller waits for nobody.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from ftl.protocols import SubScores

LANES = 2
"""Questions on the way at the same time: while one is answered, the next already travels."""

MOST_TOGETHER = 64
"""People in a shared question."""

Ask = Callable[[Sequence[bytes]], Awaitable[SubScores]]
"""Puts one question about some people to the party."""

_Waiting = tuple[Sequence[bytes], "asyncio.Future[SubScores]"]


class Line:
    """The way to one party for one model version.

    Args:
        ask: puts one question; must end by itself when the party is silent.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._waiting: list[_Waiting] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def ask(self, pseudonyms: Sequence[bytes]) -> SubScores:
        """Sub-scores of a few people, possibly asked together with others.

        Args:
            pseudonyms: one per person.

        Returns:
            their sub-scores.

        Raises:
            FtlError, OSError, TimeoutError: as `ask` raises, for everybody who went along.
        """
        answer: asyncio.Future[SubScores] = asyncio.get_running_loop().create_future()
        self._waiting.append((pseudonyms, answer))
        self._send()
        return await answer

    def _send(self) -> None:
        while self._waiting and len(self._under_way) < LANES:
            task = asyncio.create_task(self._carry(self._next()))
            self._under_way.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._send()

    def _next(self) -> list[_Waiting]:
        """Those who wait longest, as long as they still wait."""
        together: list[_Waiting] = []
        people = 0
        while self._waiting and (not together or people + len(self._waiting[0][0]) <= MOST_TOGETHER):
            one = self._waiting.pop(0)
            if not one[1].done():
                together.append(one)
                people += len(one[0])
        return together

    async def _carry(self, together: list[_Waiting]) -> None:
        if not together:
            return
        try:
            scores = await self._ask([pseudonym for pseudonyms, _ in together for pseudonym in pseudonyms])
        except Exception as error:  # noqa: BLE001 - handed to those who wait, each of whom handles it
            for _, answer in together:
                if not answer.done():
                    answer.set_exception(error)
            return
        start = 0
        for pseudonyms, answer in together:
            if not answer.done():
                answer.set_result(_slice(scores, start, start + len(pseudonyms)))
            start += len(pseudonyms)


def _slice(scores: SubScores, start: int, stop: int) -> SubScores:
    if (start, stop) == (0, len(scores.known)):
        return scores
    own = slice(start, stop)
    return SubScores(
        known=scores.known[own],
        log_odds=scores.log_odds[own],
        leaves=scores.leaves[own],
        lost={code: lost[own] for code, lost in scores.lost.items()},
        relaxed={code: (trees, leaves[own]) for code, (trees, leaves) in scores.relaxed.items()},
        share=None if scores.share is None else scores.share[own],
        own_leaves=None if scores.own_leaves is None else scores.own_leaves[own],
        hidden=None if scores.hidden is None else scores.hidden[own],
    )
