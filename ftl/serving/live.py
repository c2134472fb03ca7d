"""What a gateway answers with at one moment; replaced as a whole when the champion or an address changes."""

import logging
from dataclasses import dataclass

import msgspec

from ftl.consortium import Folder
from ftl.errors import ServiceError
from ftl.serving.champion import Champion, ChampionSource
from ftl.serving.credentials import gateway_tls, server_name
from ftl.serving.endpoints import read_endpoints
from ftl.serving.http1 import Peer
from ftl.serving.messages import ApplicantReader, Model, ModelDescription
from ftl.serving.openapi import openapi
from ftl.serving.scorer import Scorer

log = logging.getLogger(__name__)

WARM_SECONDS = 5.0
"""For the parties to load a new version's parts; the old version answers meanwhile."""


@dataclass(frozen=True)
class Live:
    """Everything that answers belong to.

    Attributes:
        champion: the version that answers.
        addresses: party to its score server's URL.
        scorer: of that version.
        reader: of requests, in the shape that the version asks for.
        model: which version it is, for answers.
        description: the OpenAPI document.
    """

    champion: Champion
    addresses: dict[str, str]
    scorer: Scorer
    reader: ApplicantReader
    model: Model
    description: bytes

    def described(self, registry: str) -> ModelDescription:
        """The version for `GET /v1/models`; `registry` says whether MLflow answers."""
        bundle = self.champion.bundle
        return ModelDescription(
            **msgspec.structs.asdict(self.model),
            run_id=bundle.run_id,
            recipe=bundle.recipe,
            parties=self.scorer.needed,
            registry=registry,
        )


class Lives:
    """Keeps what is live up to date.

    Args:
        folder: the consortium, as the coordinator has it.
        budget: seconds that the parties have to answer.
    """

    def __init__(self, folder: Folder, budget: float) -> None:
        self.source = ChampionSource(folder)
        self.current: Live | None = None
        self._folder, self._budget, self._tls = folder, budget, gateway_tls(folder)

    @property
    def now(self) -> Live:
        """What answers.

        Raises:
            ServiceError: no model has been loaded yet.
        """
        if self.current is None:
            raise ServiceError(
                f"No model is loaded: {self.source.trouble or 'the registry has not answered yet.'}",
                cure="Train and register a model, start MLflow.",
            )
        return self.current

    async def renew(self) -> None:
        """Take over a new champion or new addresses, and warm up parties that have not answered yet."""
        champion, addresses, live = self.source.current, read_endpoints(self._folder), self.current
        if champion is not None and not (live and live.champion is champion and live.addresses == addresses):
            live = self._make(champion, addresses)
            await live.scorer.warm(WARM_SECONDS)
            self.current = live
        elif live and live.scorer.cold:
            await live.scorer.warm(WARM_SECONDS)

    def close(self) -> None:
        """Drop all connections."""
        if self.current:
            for peer in self.current.scorer.peers.values():
                peer.close()

    def _make(self, champion: Champion, addresses: dict[str, str]) -> Live:
        bundle, live = champion.bundle, self.current
        if live and live.addresses == addresses:
            peers = dict(live.scorer.peers)
        else:
            peers = {party: Peer(url, self._tls, server_name(party)) for party, url in addresses.items()}
        reader = ApplicantReader(bundle)
        return Live(
            champion=champion,
            addresses=addresses,
            scorer=Scorer(bundle, peers, self._budget),
            reader=reader,
            model=Model(champion.version.name, champion.version.version, self.source.alias),
            description=msgspec.json.encode(openapi(reader.type, reader.batch, bundle.consortium, bundle.notice)),
        )
