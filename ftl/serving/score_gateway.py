"""The gateway: answers lending applications over REST by asking the parties' score servers.

It keeps no state of its own beside the last good bundle and the meter: run as many as needed.
"""

import asyncio
import hmac
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources

import msgspec

from ftl.consortium import Folder
from ftl.errors import ApplicantUnknown, FtlError, ServiceError
from ftl.serving.asgi import App, Request, Response, problem, problem_of
from ftl.serving.champion import POLL_SECONDS, Champion, ChampionSource
from ftl.serving.credentials import client_token, gateway_tls, metering_key, pseudonymise, scoring_key, server_name
from ftl.serving.endpoints import read_endpoints
from ftl.serving.http1 import Peer
from ftl.serving.messages import ApplicantReader, Health, Model, ModelDescription, Models, ScoreResponse
from ftl.serving.metering import Meter
from ftl.serving.openapi import openapi
from ftl.serving.scorer import BUDGET_SECONDS, Answer, Scorer

log = logging.getLogger(__name__)

WARM_SECONDS = 5.0
"""For the parties to load a new version's parts; the old version answers meanwhile."""

BILL_SECONDS = 0.05
"""Between two writes of what was metered."""

PAGE_POLICY = (
    b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; "
    b"form-action 'self'; frame-ancestors 'none'"
)
PAGE_HEADERS = (
    (b"content-security-policy", PAGE_POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
PRIVATE = ((b"cache-control", b"no-store"),)


@dataclass(frozen=True)
class Live:
    """Everything that answers belong to; replaced as a whole when the champion or an address changes."""

    champion: Champion
    addresses: dict[str, str]
    scorer: Scorer
    reader: ApplicantReader
    model: Model
    description: bytes


class Gateway:
    """State and handlers of one gateway process.

    Args:
        folder: the consortium, as the coordinator has it.
        clock: tells the time, with its zone.
        budget: seconds that the parties have to answer.
        poll: seconds between two looks at the registry and the addresses.
    """

    def __init__(
        self,
        folder: Folder,
        clock: Callable[[], datetime],
        budget: float = BUDGET_SECONDS,
        poll: float = POLL_SECONDS,
    ) -> None:
        self._folder, self._budget, self._poll = folder, budget, poll
        self._key, self._tls = scoring_key(folder), gateway_tls(folder)
        self._token = client_token(folder).encode()
        self._meter = Meter(folder.coordinator / "serving" / "metering", metering_key(folder), clock)
        self._source = ChampionSource(folder)
        self._live: Live | None = None
        self._process, self._requests = secrets.token_hex(4), 0

    def app(self) -> App:
        """The ASGI application."""
        routes = {
            ("POST", "/v1/scores"): self._scores,
            ("GET", "/v1/models"): self._models,
            ("GET", "/healthz"): self._health,
            ("GET", "/readyz"): self._ready,
            ("GET", "/openapi.json"): self._openapi,
            ("GET", "/docs"): self._docs,
        }
        background = [lambda: self._source.follow(self._poll), self._watch, self._bill]
        return App(routes, start=self._start, background=background, stop=self._close)

    async def _start(self) -> None:
        self._source.restore()
        await self._renew()

    def _close(self) -> None:
        self._meter.close()
        if self._live:
            for peer in self._live.scorer.peers.values():
                peer.close()

    async def _watch(self) -> None:
        """Take over a new champion or new addresses soon after they are known."""
        while True:
            try:
                await self._renew()
                if self._live and self._live.scorer.cold:
                    await self._live.scorer.warm(WARM_SECONDS)
            except FtlError as error:
                log.warning("serving.renewal failed", extra={"reason": error.message})
            await asyncio.sleep(min(0.2, self._poll))

    async def _bill(self) -> None:
        while True:
            await asyncio.sleep(BILL_SECONDS)
            self._meter.flush()

    async def _renew(self) -> None:
        champion, addresses = self._source.current, read_endpoints(self._folder)
        live = self._live
        if champion is None or (live and live.champion is champion and live.addresses == addresses):
            return
        bundle = champion.bundle
        if live and live.addresses == addresses:
            peers = live.scorer.peers
        else:
            peers = {party: Peer(url, self._tls, server_name(party)) for party, url in addresses.items()}
        reader = ApplicantReader(bundle)
        description = msgspec.json.encode(openapi(reader.type, bundle.consortium, bundle.notice))
        model = Model(champion.version.name, champion.version.version, self._source.alias)
        scorer = Scorer(bundle, peers, self._budget)
        await scorer.warm(WARM_SECONDS)
        self._live = Live(champion, addresses, scorer, reader, model, description)

    async def _scores(self, request: Request) -> Response:
        started, trace = time.perf_counter(), self._trace_id()
        refused = self._refused(request, trace)
        if refused:
            return refused
        live = self._ready_or_raise()
        try:
            applicant = live.reader.read(request.body)
            pseudonym = pseudonymise(self._key, live.champion.bundle.identifiers, applicant.identifiers)
            answer = await live.scorer.score_one(pseudonym, applicant.fields)
            if answer is None:
                raise ApplicantUnknown(
                    f"{live.champion.bundle.active} does not know the applicant.", cure="Check the identifiers."
                )
        except FtlError as error:
            log.debug("serving.score refused", extra={"trace_id": trace, "code": error.code})
            return problem_of(error, trace)
        self._record(live, pseudonym, answer)
        return self._answer(live, answer, trace, started)

    def _trace_id(self) -> str:
        """Names one request; the first half is the process's own."""
        self._requests += 1
        return f"{self._process}{self._requests & 0xFFFFFFFF:08x}"

    def _answer(self, live: Live, answer: Answer, trace: str, started: float) -> Response:
        milliseconds = (time.perf_counter() - started) * 1000
        body = ScoreResponse(
            probability_of_default=answer.probability,
            score=answer.score,
            reasons=answer.reasons,
            model=live.model,
            parties=answer.parties,
            degraded=answer.together.degraded,
            why=answer.together.why,
            trace_id=trace,
            milliseconds=round(milliseconds, 2),
            notice=live.champion.bundle.notice,
        )
        return Response(msgspec.json.encode(body), headers=PRIVATE)

    def _record(self, live: Live, pseudonym: bytes, answer: Answer) -> None:
        used = [party for party, standing in answer.parties.items() if standing == "known"]
        model = f"{live.model.name}/{live.model.version}"
        self._meter.record(pseudonym, model, used, degraded=answer.together.degraded, client="default")

    def _refused(self, request: Request, trace: str = "") -> Response | None:
        """A problem unless the caller shows the client token; compared in constant time."""
        scheme, _, token = request.headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token):
            return None
        refused = problem(
            401,
            "unauthorised",
            "The client token is missing or wrong.",
            "Send 'Authorization: Bearer TOKEN'.",
            trace_id=trace,
        )
        return Response(refused.body, 401, refused.content_type, [(b"www-authenticate", b"Bearer")])

    def _ready_or_raise(self) -> Live:
        if self._live is None:
            raise ServiceError(
                f"No model is loaded: {self._source.trouble or 'the registry has not answered yet.'}",
                cure="Train and register a model, start MLflow.",
            )
        return self._live

    async def _models(self, request: Request) -> Response:
        refused = self._refused(request)
        if refused:
            return refused
        live = self._ready_or_raise()
        bundle = live.champion.bundle
        one = ModelDescription(
            **msgspec.structs.asdict(live.model),
            run_id=bundle.run_id,
            recipe=bundle.recipe,
            parties=live.scorer.needed,
            registry=self._source.trouble or "ok",
        )
        return Response(msgspec.json.encode(Models([one])))

    async def _health(self, _: Request) -> Response:
        return Response(msgspec.json.encode(Health("ok", self._loaded())))

    async def _ready(self, _: Request) -> Response:
        self._ready_or_raise()
        return Response(msgspec.json.encode(Health("ok", self._loaded())))

    async def _openapi(self, _: Request) -> Response:
        return Response(self._ready_or_raise().description)

    async def _docs(self, _: Request) -> Response:
        page = resources.files("ftl.serving").joinpath("page.html").read_bytes()
        return Response(page, content_type="text/html; charset=utf-8", headers=PAGE_HEADERS)

    def _loaded(self) -> str | None:
        return f"{self._live.model.name}/{self._live.model.version}" if self._live else None


def gateway_app(
    folder: Folder,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    *,
    budget: float = BUDGET_SECONDS,
    poll: float = POLL_SECONDS,
) -> App:
    """The gateway as an ASGI application.

    Args:
        folder: the consortium, as the coordinator has it.
        clock: tells the time, with its zone.
        budget: seconds that the parties have to answer.
        poll: seconds between two looks at the registry.

    Returns:
        the application.

    Raises:
        ServiceError: certificates or keys are missing.
    """
    return Gateway(folder, clock, budget, poll).app()
