"""Just enough of a web framework: routes, bodies, errors as problem+json (RFC 9457), work in the background."""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from ftl.errors import (
    ApplicantUnknown,
    FtlError,
    InvalidRequest,
    NotAllowed,
    NotAuthorised,
    ProtocolError,
    Replayed,
    TooManyRequests,
)

log = logging.getLogger(__name__)

MOST_BODY_BYTES = 1024 * 1024

SETTLED_SECONDS = 10.0
"""After so long an application has loaded its modules and models."""


@dataclass(frozen=True)
class Request:
    """One HTTP request.

    Attributes:
        method: ``GET`` …
        path: without the query.
        headers: lower-case name to value; the last one wins.
        body: whole.
    """

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    body: bytes


@dataclass(frozen=True)
class Response:
    """One HTTP response."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: Sequence[tuple[bytes, bytes]] = field(default_factory=tuple)


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was not answered (RFC 9457).

    Attributes:
        title: what kind of problem, for people.
        status: the HTTP status.
        detail: what happened; holds no identifier.
        code: what kind of problem, for programs.
        cure: what to do next.
        field: path of the offending field, if it is one.
        trace_id: to find the request in the logs, if it got that far.
    """

    title: str
    status: int
    detail: str
    code: str
    cure: str = ""
    field: str = ""
    trace_id: str = ""


Handler = Callable[[Request], Awaitable[Response]]
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

TITLES = {
    400: "Bad request",
    401: "Not authorised",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Body too large",
    415: "Unsupported media type",
    422: "Invalid field",
    429: "Too many requests",
    500: "Internal error",
    503: "Unavailable",
}


STATUS: dict[type[FtlError], int] = {
    ApplicantUnknown: 404,
    ProtocolError: 400,
    NotAuthorised: 401,
    NotAllowed: 403,
    TooManyRequests: 429,
    Replayed: 409,
}
"""Any other error is a 503."""


class App:
    """An ASGI application.

    Args:
        routes: (method, path) to handler; a path that ends in ``/*`` stands for every one segment there.
        start: awaited before the first request.
        background: run until the server stops.
        stop: called after the last request.
        most_body_bytes: a longer body is refused without being read to its end.
    """

    def __init__(
        self,
        routes: Mapping[tuple[str, str], Handler],
        *,
        start: Callable[[], Awaitable[None]] | None = None,
        background: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
        stop: Callable[[], None] | None = None,
        most_body_bytes: int = MOST_BODY_BYTES,
    ) -> None:
        self._routes = dict(routes)
        self._paths = {path: sorted(m for m, p in routes if p == path) for _, path in routes}
        self._start, self._background, self._stop = start, background, stop
        self.most_body_bytes = most_body_bytes
        self._tasks: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's entry.

        Args:
            scope: of the connection.
            receive: next event in.
            send: next event out.
        """
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            body = partial(_body, receive, self.most_body_bytes)
            response = await self.respond(scope["method"], scope["path"], dict(scope["headers"]), body)
            headers = [
                (b"content-type", response.content_type.encode()),
                (b"content-length", str(len(response.body)).encode()),
                *response.headers,
            ]
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            await send({"type": "http.response.body", "body": response.body})

    async def begin(self) -> None:
        """Make ready for requests.

        Raises:
            FtlError: it cannot start.
        """
        if self._start:
            await self._start()
        self._tasks = [asyncio.create_task(work()) for work in (*self._background, _settle)]

    async def end(self) -> None:
        """Stop what runs in the background, after the last request."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if self._stop:
            self._stop()

    async def respond(
        self, method: str, path: str, headers: Mapping[bytes, bytes], body: Callable[[], Awaitable[bytes | None]]
    ) -> Response:
        """The answer to a request.

        Args:
            method: ``GET`` …
            path: without the query.
            headers: lower-case name to value.
            body: reads the whole body; None when it is too long.
        """
        handler = self._routes.get((method, path)) or self._routes.get((method, f"{path.rpartition('/')[0]}/*"))
        if handler is None:
            return self._no_route(path)
        sent = await body()
        if sent is None:
            return problem(
                413, "body_too_large", f"The body is longer than {self.most_body_bytes} bytes.", "Send less."
            )
        try:
            return await handler(Request(method, path, headers, sent))
        except FtlError as error:
            return problem_of(error)
        except Exception as error:  # noqa: BLE001 - the last wall: whatever it was, the caller gets an answer
            # Not the message nor a traceback's values: either may hold what the caller sent.
            seen = {"path": path, "kind": type(error).__name__, "where": _place(error)}
            log.error("serving.request failed", extra=seen)  # noqa: TRY400
            return problem(500, "internal", "The request could not be answered.", "Look at the server's log.")

    def _no_route(self, path: str) -> Response:
        methods = self._paths.get(path)
        if methods:
            allowed = ", ".join(methods)
            refused = problem(405, "method_not_allowed", f"{path} takes {allowed}.", f"Use {allowed}.")
            return Response(refused.body, 405, refused.content_type, [(b"allow", allowed.encode())])
        return problem(
            404, "no_such_path", "There is nothing at this path.", f"Known: {', '.join(sorted(self._paths))}."
        )

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.begin()
        except FtlError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.end()
        await send({"type": "lifespan.shutdown.complete"})


async def _settle() -> None:
    """Once everything has been loaded, never look through it for garbage again: that would stop all requests."""
    await asyncio.sleep(SETTLED_SECONDS)
    gc.freeze()


def problem(
    status: int, code: str, detail: str, cure: str = "", *, field: str = "", trace_id: str = "", retry: bool = False
) -> Response:
    """A problem+json answer.

    Args:
        status: HTTP status.
        code: for programs.
        detail: for people.
        cure: what to do next.
        field: path of the offending field.
        trace_id: of the request.
        retry: say that it may be tried again in a second.
    """
    title = TITLES.get(status, "Error")
    body = msgspec.json.encode(Problem(title, status, detail, code, cure, field, trace_id))
    headers = [(b"retry-after", b"1")] if retry else []
    return Response(body, status, "application/problem+json", headers)


def problem_of(error: FtlError, trace_id: str = "") -> Response:
    """The problem+json answer that stands for an error; its kind and `transient` decide the status."""
    if isinstance(error, InvalidRequest):
        return problem(422, error.code, error.message, error.cure, field=error.field, trace_id=trace_id)
    status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 503)
    field = error.field if isinstance(error, NotAllowed) else ""
    said = problem(status, error.code, error.message, error.cure, field=field, trace_id=trace_id, retry=error.transient)
    if status == 401:
        return Response(said.body, 401, said.content_type, [(b"www-authenticate", b"Bearer")])
    return said


async def _body(receive: Receive, most: int) -> bytes | None:
    """The whole body; None when it is too long."""
    event = await receive()
    if not event.get("more_body"):
        body: bytes = event.get("body", b"")
        return body if len(body) <= most else None
    chunks, size = [event.get("body", b"")], len(event.get("body", b""))
    while event.get("more_body") and size <= most:
        event = await receive()
        chunks.append(event.get("body", b""))
        size += len(chunks[-1])
    return b"".join(chunks) if size <= most else None


def _place(error: Exception) -> str:
    """File and line of the innermost frame."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
