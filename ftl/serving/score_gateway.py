"""The gateway: answers lending applications over REST by asking the parties' score servers.

Its processes share what must be counted once (:mod:`ftl.serving.shared`): run as many as needed.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib import resources

import msgspec

from ftl.consortium import Folder
from ftl.decision import Application, Scored, again
from ftl.errors import ApplicantUnknown, FtlError, InvalidRequest
from ftl.serving.answers import Answer, Answers
from ftl.serving.asgi import App, Request, Response, problem, problem_of
from ftl.serving.champion import POLL_SECONDS
from ftl.serving.clients import Access, Client, Interface, read_grant_request
from ftl.serving.competitions import Competitions
from ftl.serving.credentials import metering_key, pseudonymise, scoring_key
from ftl.serving.decisions import Decisions
from ftl.serving.endpoints import shared_home
from ftl.serving.experiments import PATH as EXPERIMENTS
from ftl.serving.experiments import ExperimentPages
from ftl.serving.income import Incomes
from ftl.serving.live import Live, Lives
from ftl.serving.messages import (
    Accepted,
    Applicant,
    BatchAnswer,
    BatchResponse,
    DecisionResponse,
    Health,
    Model,
    Models,
    ScoreResponse,
    Unscored,
)
from ftl.serving.metering import SCORES, Meter
from ftl.serving.metrics import CONTENT_TYPE, Metrics
from ftl.serving.replay import Replays
from ftl.serving.scorer import BUDGET_SECONDS
from ftl.serving.webhook import PATH as WEBHOOK
from ftl.serving.webhook import AliasWebhook

log = logging.getLogger(__name__)

BILL_SECONDS = 0.05
"""Between two writes of what was metered."""

TELL_SECONDS = 1.0
"""Between two writes of what a process has counted, for whichever process is asked for the figures."""

MOST_UNDER_WAY = 1024
"""Requests answered at the same time; a further one is told to come back."""

CHUNK = 2_000
"""People of a batch in one question to the parties."""

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


Handler = Callable[[Request], Awaitable[Response]]


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
        self._key, self._poll = scoring_key(folder), poll
        self._meter = Meter(
            folder.coordinator / "serving" / "metering",
            metering_key(folder),
            clock,
            folder.consortium.coordinator.prices,
        )
        self._competitions = Competitions(folder, self._meter.subject, lambda: clock().timestamp())
        self._decisions = Decisions(folder, lambda: clock().timestamp())
        self._access = Access(folder, lambda: clock().timestamp())
        self._pages = ExperimentPages(folder, self._access)
        self._replays = Replays(shared_home(folder), metering_key(folder), lambda: clock().timestamp())
        self._lives, self._metrics = Lives(folder, budget), Metrics(shared_home(folder))
        self._incomes = Incomes(folder, budget)
        self._webhook = AliasWebhook(folder, self._lives.source.look, lambda: clock().timestamp())
        self._process, self._requests, self._under_way = secrets.token_hex(4), 0, 0

    def app(self) -> App:
        """The ASGI application."""
        counted: dict[tuple[str, str], Handler] = {
            ("POST", "/v1/scores"): self._score,
            ("POST", "/v1/scores:batch"): self._batch,
            ("POST", "/v1/decisions"): self._decide,
            ("POST", "/v1/outcomes"): self._outcomes,
            ("GET", "/v1/models"): self._models,
            ("POST", "/oauth/token"): self._token,
        }
        routes: dict[tuple[str, str], Handler] = {
            ("GET", "/healthz"): self._health,
            ("GET", "/readyz"): self._ready,
            ("GET", "/metrics"): self._figures,
            ("GET", "/openapi.json"): self._openapi,
            ("GET", "/docs"): self._docs,
            ("POST", WEBHOOK): self._webhook.told,
            ("GET", EXPERIMENTS): self._pages.all,
            ("GET", f"{EXPERIMENTS}/*"): self._pages.one,
            **{route: self._counted(route[1], handler) for route, handler in counted.items()},
        }
        followed = [lambda: self._lives.source.follow(self._poll), lambda: self._incomes.follow(self._poll)]
        background = [*followed, self._watch, self._bill, self._tell]
        return App(routes, start=self._start, background=background, stop=self._close)

    async def _start(self) -> None:
        self._lives.source.restore()
        await self._lives.renew()

    def _close(self) -> None:
        self._meter.close()
        self._competitions.close()
        self._decisions.close()
        self._access.close()
        self._replays.close()
        self._lives.close()

    async def _watch(self) -> None:
        """Take over a new champion or new addresses soon after they are known."""
        while True:
            self._lives.source.restore()
            try:
                await self._lives.renew()
            except FtlError as error:
                log.warning("serving.renewal failed", extra={"reason": error.message})
            await asyncio.sleep(min(0.2, self._poll))

    async def _bill(self) -> None:
        while True:
            await asyncio.sleep(BILL_SECONDS)
            try:
                self._meter.flush()
                self._competitions.flush()
                self._decisions.flush()
            except OSError as error:  # nothing is forgotten: the next write takes it along
                log.error("serving.metering failed", extra={"reason": error.strerror})  # noqa: TRY400

    async def _tell(self) -> None:
        while True:
            with suppress(OSError):
                self._metrics.share(self._under_way)
            await asyncio.sleep(TELL_SECONDS)

    def _counted(self, path: str, handler: Handler) -> Handler:
        """Bounds how many requests are under way, turns errors into problems, and counts."""

        async def answer(request: Request) -> Response:
            if self._under_way >= MOST_UNDER_WAY:
                self._metrics.answered(path, 503, 0.0)
                return problem(503, "busy", "Too many requests are under way.", "Come back in a second.", retry=True)
            started = time.perf_counter()
            self._under_way += 1
            try:
                response = await handler(request)
            except FtlError as error:
                response = problem_of(error, self._trace_id())
            finally:
                self._under_way -= 1
            self._metrics.answered(path, response.status, time.perf_counter() - started)
            return response

        return answer

    async def _score(self, request: Request) -> Response:
        started = time.perf_counter()
        client, live = self._admit(request, "scores"), self._lives.now
        applicant = live.reader.read(request.body)
        pseudonym = pseudonymise(self._key, live.champion.bundle.identifiers, applicant.identifiers)
        with self._replays.once(client.id, request.headers.get(b"idempotency-key")):
            version, answer = await self._answered(live, pseudonym, applicant)
        if answer is None:
            raise ApplicantUnknown(
                f"{live.champion.bundle.active} does not know the applicant.", cure="Check the identifiers."
            )
        model = live.model_of(version)
        self._record(model, client, pseudonym, answer)
        return Response(msgspec.json.encode(self._said(live, model, answer, started)), headers=PRIVATE)

    async def _answered(self, live: Live, pseudonym: bytes, applicant: Applicant) -> tuple[str, Answer | None]:
        """The answer and the version that gave it; in an experiment perhaps a challenger."""
        if live.experiment is None:
            return live.model.version, await live.scorer.score_one(pseudonym, applicant.fields)
        return await self._competitions.answer(live, pseudonym, applicant.fields)

    async def _decide(self, request: Request) -> Response:
        started = time.perf_counter()
        client, live = self._admit(request, "decisions"), self._lives.now
        applicant, asked, service = live.reader.read_decision(request.body)
        asks_parties = self._decisions.asks_parties(service)
        client.check_service(service)
        pseudonym = pseudonymise(self._key, live.champion.bundle.identifiers, applicant.identifiers)
        model, answer, scored = None, None, None
        with self._replays.once(client.id, request.headers.get(b"idempotency-key")):
            if asks_parties:
                version, answer, scored = await self._scored(live, pseudonym, applicant)
                model = live.model_of(version)
        events = {str(kind): counts for kind, counts in asked.events.items()}
        application = Application(asked.amount, asked.term, asked.product, events=events)
        application = self._decisions.fill(application, self._meter.subject(pseudonym))
        scale = live.champion.bundle.scale.scorecard()
        decided = self._decisions.decide(service, application, scored, scale)
        self._record(model, client, pseudonym, answer, service)
        body = DecisionResponse(
            decision=decided,
            probability_of_default=answer.probability if answer else None,
            reasons=answer.reasons if answer else [],
            model=model,
            parties=answer.parties if answer else {},
            degraded=answer.together.degraded if answer else False,
            trace_id=self._trace_id(),
            milliseconds=round((time.perf_counter() - started) * 1000, 2),
            notice=live.champion.bundle.notice,
        )
        return Response(msgspec.json.encode(body), headers=PRIVATE)

    async def _scored(
        self, live: Live, pseudonym: bytes, applicant: Applicant
    ) -> tuple[str, Answer | None, Scored | FtlError | None]:
        """The version that answered, its answer, and what a decision needs of both models, or why there is none."""
        patient = self._patiently(live, pseudonym, applicant)
        if self._incomes.declared is None:
            return await patient
        known = self._incomes.estimate(live, pseudonym, applicant.fields)
        (version, answer, scored), (income, model) = await asyncio.gather(patient, known)
        if isinstance(scored, Scored):
            scored = msgspec.structs.replace(scored, income=income, income_model=model)
        return version, answer, scored

    async def _patiently(
        self, live: Live, pseudonym: bytes, applicant: Applicant
    ) -> tuple[str, Answer | None, Scored | FtlError | None]:
        """Ask again as often, and after such anomalies, as the policy says."""
        policy = self._decisions.policy
        for _ in range(policy.declared.retries):
            version, answer, scored = await self._asked(live, pseudonym, applicant)
            if not again(policy, scored):
                return version, answer, scored
        return await self._asked(live, pseudonym, applicant)

    async def _asked(
        self, live: Live, pseudonym: bytes, applicant: Applicant
    ) -> tuple[str, Answer | None, Scored | FtlError | None]:
        """Ask once."""
        try:
            version, answer = await self._answered(live, pseudonym, applicant)
        except InvalidRequest:
            raise
        except FtlError as error:
            return live.model.version, None, error
        if answer is None:
            return version, None, None
        lost = [reason.points for reason in answer.reasons]
        model = f"{live.model.name}/{version}"
        return version, answer, Scored(answer.probability, answer.together.degraded, model, lost)

    async def _batch(self, request: Request) -> Response:
        started = time.perf_counter()
        client, live = self._admit(request, "scores", requests=0), self._lives.now
        applicants = live.reader.read_many(request.body)
        self._access.count(client, len(applicants))
        said: list[BatchAnswer] = []
        with self._replays.once(client.id, request.headers.get(b"idempotency-key")):
            for first in range(0, len(applicants), CHUNK):
                said += await self._score_some(live, client, applicants[first : first + CHUNK], started)
        return Response(msgspec.json.encode(BatchResponse(said)), headers=PRIVATE)

    async def _score_some(
        self, live: Live, client: Client, applicants: Sequence[Applicant], started: float
    ) -> list[BatchAnswer]:
        names = live.champion.bundle.identifiers
        pseudonyms = [pseudonymise(self._key, names, one.identifiers) for one in applicants]
        answers = await live.scorer.score(pseudonyms, [one.fields for one in applicants])
        return [
            self._one_of(live, client, answers, place, pseudonym, started) for place, pseudonym in enumerate(pseudonyms)
        ]

    def _one_of(
        self, live: Live, client: Client, answers: Answers, place: int, pseudonym: bytes, started: float
    ) -> BatchAnswer:
        answer = answers.of(place)
        if answer is None:
            reason = f"{live.champion.bundle.active} does not know the applicant."
            return BatchAnswer(refused=Unscored(ApplicantUnknown.code, reason))
        self._record(live.model, client, pseudonym, answer)
        return BatchAnswer(scored=self._said(live, live.model, answer, started))

    def _said(self, live: Live, model: Model, answer: Answer, started: float) -> ScoreResponse:
        return ScoreResponse(
            probability_of_default=answer.probability,
            score=answer.score,
            reasons=answer.reasons,
            model=model,
            parties=answer.parties,
            degraded=answer.together.degraded,
            why=answer.together.why,
            trace_id=self._trace_id(),
            milliseconds=round((time.perf_counter() - started) * 1000, 2),
            timings={party: round(taken, 2) for party, taken in answer.together.milliseconds.items()},
            notice=live.champion.bundle.notice,
        )

    def _record(
        self, model: Model | None, client: Client, pseudonym: bytes, answer: Answer | None, service: str = SCORES
    ) -> None:
        used = [party for party, standing in answer.parties.items() if standing == "known"] if answer else []
        degraded = answer.together.degraded if answer else False
        name = f"{model.name}/{model.version}" if model else ""
        self._meter.record(pseudonym, name, used, degraded=degraded, client=client.id, service=service)
        if degraded:
            self._metrics.degraded(1)

    async def _outcomes(self, request: Request) -> Response:
        self._admit(request, "outcomes")
        live = self._lives.now
        told = live.reader.read_outcomes(request.body)
        for one in told:
            pseudonym = pseudonymise(self._key, live.champion.bundle.identifiers, one.identifiers)
            self._competitions.learn(pseudonym, one.outcome, one.group)
        return Response(msgspec.json.encode(Accepted(len(told))), headers=PRIVATE)

    def _admit(self, request: Request, interface: Interface, requests: int = 1) -> Client:
        return self._access.admit(request.headers.get(b"authorization", b""), interface, requests)

    def _trace_id(self) -> str:
        """Names one request; the first half is the process's own."""
        self._requests += 1
        return f"{self._process}{self._requests & 0xFFFFFFFF:08x}"

    async def _token(self, request: Request) -> Response:
        name, secret, wanted = read_grant_request(request.body, request.headers.get(b"authorization", b""))
        return Response(msgspec.json.encode(self._access.grant(name, secret, wanted)), headers=PRIVATE)

    async def _models(self, request: Request) -> Response:
        self._admit(request, "models")
        one = self._lives.now.described(self._lives.source.trouble or "ok")
        return Response(msgspec.json.encode(Models([one])))

    async def _health(self, _: Request) -> Response:
        return Response(msgspec.json.encode(Health("ok", self._loaded())))

    async def _ready(self, _: Request) -> Response:
        self._lives.now  # noqa: B018 - raises while there is no model
        return Response(msgspec.json.encode(Health("ok", self._loaded())))

    async def _figures(self, _: Request) -> Response:
        return Response(self._metrics.text(self._under_way), content_type=CONTENT_TYPE)

    async def _openapi(self, _: Request) -> Response:
        return Response(self._lives.now.description)

    async def _docs(self, _: Request) -> Response:
        page = resources.files("ftl.serving").joinpath("page.html").read_bytes()
        return Response(page, content_type="text/html; charset=utf-8", headers=PAGE_HEADERS)

    def _loaded(self) -> str | None:
        live = self._lives.current
        return f"{live.model.name}/{live.model.version}" if live else None


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
