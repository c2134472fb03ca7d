"""What a gateway answers with at one moment; replaced as a whole when champion, experiment or an address changes."""

import asyncio
import logging
from dataclasses import dataclass

import msgspec

from ftl import registry
from ftl.consortium import Folder
from ftl.errors import FtlError, ServiceError
from ftl.registry import Bundle, ModelVersion
from ftl.registry.competition import Experiment, running
from ftl.serving.champion import Champion, ChampionSource
from ftl.serving.credentials import gateway_tls, server_name
from ftl.serving.endpoints import read_endpoints
from ftl.serving.http1 import Peer
from ftl.serving.messages import ApplicantReader, Model, ModelDescription
from ftl.serving.openapi import openapi
from ftl.serving.scorer import Scorer

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks at the files of addresses and experiments."""

WARM_SECONDS = 5.0
"""For the parties to load a new version's parts; the old version answers meanwhile."""


@dataclass(frozen=True)
class Live:
    """Everything that answers belong to.

    Attributes:
        champion: the version that answers.
        addresses: party to its score server's URL.
        scorer: of that version and, in an experiment, of its challengers.
        reader: of requests, in the shape that the version asks for.
        model: which version it is, for answers.
        description: the OpenAPI document.
        experiment: that is under way, if its challengers could be loaded.
    """

    champion: Champion
    addresses: dict[str, str]
    scorer: Scorer
    reader: ApplicantReader
    model: Model
    description: bytes
    experiment: Experiment | None = None

    def model_of(self, version: str) -> Model:
        """Which version answers, for answers."""
        return self.model if version == self.model.version else Model(self.model.name, version, registry.CHALLENGER)

    def described(self, registry: str) -> ModelDescription:
        """The version for `GET /v1/models`; `registry` says whether MLflow answers."""
        bundle = self.champion.bundle
        return ModelDescription(
            **msgspec.structs.asdict(self.model),
            run_id=bundle.run_id,
            recipe=bundle.recipe,
            parties=list(self.scorer.needed),
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
        self._wanted: Experiment | None = None
        self._seen: tuple[float, dict[str, str], Experiment | None] | None = None

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
        """Take over a new champion, experiment or addresses, and warm up parties that have not answered yet."""
        champion, live = self.source.current, self.current
        addresses, experiment = self._declared()
        if champion is not None and not (live and self._same(live, champion, addresses, experiment)):
            live = await self._make(champion, addresses, experiment)
            await self._warm(live)
            self.current, self._wanted = live, experiment
        elif live and live.scorer.cold:
            await self._warm(live)

    def _declared(self) -> tuple[dict[str, str], Experiment | None]:
        """Addresses and the experiment under way, as they were less than a second ago."""
        now = asyncio.get_running_loop().time()
        if self._seen is None or now - self._seen[0] >= LOOK_SECONDS:
            self._seen = now, read_endpoints(self._folder), running(self._folder)
        return self._seen[1:]

    def _same(self, live: Live, champion: Champion, addresses: dict[str, str], experiment: Experiment | None) -> bool:
        return live.champion is champion and live.addresses == addresses and self._wanted == experiment

    async def _warm(self, live: Live) -> None:
        await live.scorer.warm(WARM_SECONDS)

    def close(self) -> None:
        """Drop all connections."""
        if self.current:
            for peer in self.current.scorer.peers.values():
                peer.close()

    async def _make(self, champion: Champion, addresses: dict[str, str], experiment: Experiment | None) -> Live:
        bundle, live = champion.bundle, self.current
        if live and live.addresses == addresses:
            peers = dict(live.scorer.peers)
        else:
            peers = {party: Peer(url, self._tls, server_name(party)) for party, url in addresses.items()}
        reader = ApplicantReader(bundle)
        challengers = await self._challengers(champion, experiment)
        return Live(
            champion=champion,
            addresses=addresses,
            scorer=Scorer(bundle, peers, self._budget, challengers),
            reader=reader,
            model=Model(champion.version.name, champion.version.version, self.source.alias),
            description=msgspec.json.encode(openapi(*reader.shapes, bundle.consortium, bundle.notice)),
            experiment=experiment if challengers else None,
        )

    async def _challengers(self, champion: Champion, experiment: Experiment | None) -> dict[str, Bundle]:
        """Bundles of an experiment's challengers; none when it is about another champion or one cannot be loaded."""
        if experiment is None or experiment.champion != champion.version.version:
            return {}

        def load(version: str) -> Bundle:
            return registry.bundle_of(registry.tracking_uri(self._folder), ModelVersion(experiment.model, version))

        try:
            return {version: await asyncio.to_thread(load, version) for version in experiment.challengers}
        except FtlError as error:
            log.warning("serving.challenger missing", extra={"experiment": experiment.name, "reason": error.message})
            return {}
