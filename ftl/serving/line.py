"""Shares questions to the parties: who arrives while they are being asked goes along with the next question.

Sixty people are scored in little more time than one, so under load this multiplies what gateway and parties can do; a
single caller waits for nobody.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
T = TypeVar("T")

LANES = 2
"""Questions on the way at the same time: while one is answered, the next already travels."""

ENOUGH = 16
"""People who wait, for another question to leave before the one under way has been answered: smaller ones cost more."""

MOST_TOGETHER = 64
"""People in a shared question."""


class Line(Generic[Q, T]):
    """The way to the parties.

    Args:
        ask: puts one question about some people; must end by itself when a party is silent.
    """

    def __init__(self, ask: Callable[[Sequence[Q]], Awaitable[T]]) -> None:
        self._ask = ask
        self._waiting: list[tuple[Q, asyncio.Future[tuple[T, int]]]] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def ask(self, person: Q) -> tuple[T, int]:
        """Ask about one person, possibly together with others.

        Args:
            person: what is asked of whom.

        Returns:
            the answer about everybody who went along, and the place of this person in it.

        Raises:
            FtlError, OSError, TimeoutError: as `ask` raises, for everybody who went along.
        """
        answer: asyncio.Future[tuple[T, int]] = asyncio.get_running_loop().create_future()
        self._waiting.append((person, answer))
        self._send()
        return await answer

    def _send(self) -> None:
        under_way = len(self._under_way)
        if self._waiting and (not under_way or (under_way < LANES and len(self._waiting) >= ENOUGH)):
            task = asyncio.create_task(self._carry())  # takes along who arrives before it begins
            self._under_way.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._send()

    async def _carry(self) -> None:
        together = [one for one in self._waiting[:MOST_TOGETHER] if not one[1].done()]
        del self._waiting[:MOST_TOGETHER]
        self._send()
        if not together:
            return
        try:
            said = await self._ask([person for person, _ in together])
        except Exception as error:  # noqa: BLE001 - handed to those who wait, each of whom handles it
            for _, answer in together:
                if not answer.done():
                    answer.set_exception(error)
            return
        for place, (_, answer) in enumerate(together):
            if not answer.done():
                answer.set_result((said, place))
