"""An application behind granian's own interface, RSGI: an answer crosses in one call, where ASGI takes three events."""

import asyncio
from functools import partial
from typing import Any

from ftl.serving.asgi import App


class Rsgi:
    """What granian calls.

    Args:
        app: that answers.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called before the first request.

        Args:
            loop: that requests are answered on.

        Raises:
            FtlError: the application cannot start.
        """
        loop.run_until_complete(self._app.begin())

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called after the last request.

        Args:
            loop: that requests were answered on.
        """
        loop.run_until_complete(self._app.end())

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        """One request.

        Args:
            scope: its head.
            protocol: gives the body, takes the answer.
        """
        headers = {name.encode(): value.encode() for name, value in scope.headers.items()}
        body = partial(_body, protocol, headers.get(b"content-length", b""), self._app.most_body_bytes)
        response = await self._app.respond(scope.method, scope.path, headers, body)
        said = [
            ("content-type", response.content_type),
            *((name.decode(), value.decode()) for name, value in response.headers),
        ]
        protocol.response_bytes(response.status, said, response.body)


async def _body(protocol: Any, length: bytes, most: int) -> bytes | None:
    """The whole body; None when it is too long, or its length is none."""
    if length:
        if not length.isdigit() or int(length) > most:
            return None
        whole: bytes = await protocol()
        return whole
    chunks, size = [], 0
    async for chunk in protocol:
        size += len(chunk)
        if size > most:
            return None
        chunks.append(chunk)
    return b"".join(chunks)
