"""The second registered model of a consortium, of a number: the applicant's income, asked for beside the first."""

import logging

from ftl.consortium import Folder
from ftl.errors import FtlError
from ftl.serving.champion import POLL_SECONDS, Champion, ChampionSource
from ftl.serving.live import Live
from ftl.serving.scorer import Scorer
from ftl.serving.wire import Fields

log = logging.getLogger(__name__)


class Incomes:
    """Estimates incomes by the champion of the model that `income.model` names; nobody's where there is none.

    Args:
        folder: the consortium, as the coordinator has it.
        budget: seconds that the parties have to answer.
    """

    def __init__(self, folder: Folder, budget: float) -> None:
        self.declared = folder.consortium.income
        self._source = ChampionSource(folder, name=self.declared.model) if self.declared else None
        self._budget = budget
        self._ready: tuple[Champion, Live, Scorer] | None = None

    async def follow(self, seconds: float = POLL_SECONDS) -> None:
        """Follow its champion for ever; ends at once where no such model is declared.

        Args:
            seconds: between two looks.
        """
        if self._source:
            self._source.restore()
            await self._source.follow(seconds)

    async def estimate(self, live: Live, pseudonym: bytes, fields: Fields) -> tuple[float | None, str]:
        """An applicant's income, and the name and version of the model that says so.

        A decision never waits for more than the budget, and never fails for want of it.

        Args:
            live: what answers now; its connections to the parties are used.
            pseudonym: of the applicant.
            fields: of the request.
        """
        champion = self._source.current if self._source else None
        if champion is None:
            return None, ""
        known = {name: value for name, value in fields.items() if name in champion.bundle.fields}
        try:
            answer = await self._scorer(champion, live).score_one(pseudonym, known)
        except FtlError as error:
            log.warning("serving.income silent", extra={"code": error.code})
            return None, ""
        named = f"{champion.version.name}/{champion.version.version}"
        return (answer.probability, named) if answer else (None, "")

    def _scorer(self, champion: Champion, live: Live) -> Scorer:
        if self._ready is None or self._ready[0] is not champion or self._ready[1] is not live:
            self._ready = champion, live, Scorer(champion.bundle, live.scorer.peers, self._budget)
        return self._ready[2]
