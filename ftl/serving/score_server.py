"""A party's score server: tells the gateway the party's share of an answer, and nothing else.

It speaks TLS 1.3 only, and only to callers whose certificate comes from the authority of the consortium's gateways.
"""

import asyncio
import logging

import msgspec

from ftl.consortium import Node
from ftl.errors import FtlError, InvalidRequest, RegistryError
from ftl.serving.asgi import App, Request, Response
from ftl.serving.credentials import node_pseudonyms
from ftl.serving.messages import Health
from ftl.serving.people import Population
from ftl.serving.wire import PATH, Question, Refused, Wanted, decode_question, encode_answer, encode_answers

log = logging.getLogger(__name__)

REFRESH_SECONDS = 2.0
"""Between two looks at the version of the validated table."""

LAND_SECONDS = 0.2
"""Between two looks at the online store."""

FEW_PEOPLE = 64
"""Up to so many are scored on the event loop; more would keep others waiting."""

IDLE_SECONDS = 0.02
"""Between two helpings of answers prepared ahead."""


class ScoreServer:
    """State and handlers of one party's server.

    Args:
        node: the party's own installation.
        refresh: seconds between two looks at the validated table.
    """

    def __init__(self, node: Node, refresh: float = REFRESH_SECONDS) -> None:
        self._node, self._refresh = node, refresh
        self._population = Population(node, node_pseudonyms(node))

    def app(self) -> App:
        """The ASGI application."""
        routes = {("POST", PATH): self._sub_scores, ("GET", "/healthz"): self._health}
        return App(routes, background=[self._follow, self._prepare, self._land], most_body_bytes=16 * 1024 * 1024)

    async def _sub_scores(self, request: Request) -> Response:
        question = decode_question(request.body)
        if question.fields and self._node.name != self._node.consortium.active:
            raise InvalidRequest("Only the active party takes fields of a request.", field="fields")
        parts = [await self._part(model, question) for model in question.models]
        return Response(encode_answers(parts), content_type="application/msgpack")

    async def _part(self, model: Wanted, question: Question) -> bytes | Refused:
        """What one model part says of its people; without it, the others still answer."""
        population = self._population
        try:
            if not population.ready(model.run_id, model.sha256):
                await asyncio.to_thread(population.load, model.run_id, model.sha256)
        except RegistryError as error:
            log.warning("serving.part refused", extra={"run_id": model.run_id, "reason": error.message})
            # The folder's path stays at the party; the caller learns that the part is not the one it asked for.
            return Refused(error.code, f"Its part of run {model.run_id} is missing or has another hash.")
        pseudonyms = model.of(question.pseudonyms)
        arguments = model.run_id, model.mask_bytes, pseudonyms, model.of(question.fields) if question.fields else ()
        if len(pseudonyms) <= FEW_PEOPLE:
            layout, rows = population.rows(*arguments)
        else:
            layout, rows = await asyncio.to_thread(population.rows, *arguments)
        return encode_answer(layout, rows, model.layout)

    async def _health(self, _: Request) -> Response:
        return Response(msgspec.json.encode(Health("ok")))

    async def _prepare(self) -> None:
        """Work ahead while there is nothing else to do, a few people at a time."""
        while True:
            busy = await asyncio.to_thread(self._population.fill)
            await asyncio.sleep(IDLE_SECONDS if busy else self._refresh)

    async def _follow(self) -> None:
        """Answer from new data soon after it has been validated."""
        while True:
            await asyncio.sleep(self._refresh)
            try:
                await asyncio.to_thread(self._population.refresh)
            except FtlError as error:
                log.warning("serving.refresh failed", extra={"party": self._node.name, "reason": error.message})

    async def _land(self) -> None:
        """Answer from what a stream has landed, where the table is online."""
        while self._node.party.tables[self._node.party.features.table].online:
            try:
                await asyncio.to_thread(self._population.land)
            except FtlError as error:
                log.warning("serving.online failed", extra={"party": self._node.name, "reason": error.message})
            await asyncio.sleep(LAND_SECONDS)


def party_app(node: Node, *, refresh: float = REFRESH_SECONDS) -> App:
    """A party's score server as an ASGI application.

    Args:
        node: the party's own installation.
        refresh: seconds between two looks at the validated table.

    Returns:
        the application.

    Raises:
        ServiceError: keys are missing.
        LakeError: the validated table cannot be read.
    """
    return ScoreServer(node, refresh).app()
