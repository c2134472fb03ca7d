"""A lean keep-alive HTTP/1.1 client over TLS, for one peer that is always the same kind of server.

It speaks what the score servers speak and no more: POST, answers with a content-length, no redirects, no pipelining.
Measured against aiohttp's client in docs/serving.md.
"""

import asyncio
import ssl
from typing import cast
from urllib.parse import urlsplit

from ftl.errors import ProtocolError

MOST_HEAD_BYTES = 16_384
MOST_BODY_BYTES = 64 * 1024 * 1024


class Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None
        self._received = bytearray()
        self._body_at = 0
        self._end = 0
        self._status = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are not subclasses

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self.closed = True
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionResetError("closed by the peer"))

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._received += data
        try:
            if not self._end and not self._read_head():
                return
        except (ValueError, IndexError) as exc:
            self._fail(ProtocolError(f"The peer does not speak HTTP/1.1 as expected: {exc}."))
            return
        if len(self._received) >= self._end and self._waiting and not self._waiting.done():
            self._waiting.set_result((self._status, bytes(self._received[self._body_at : self._end])))

    async def exchange(self, message: bytes) -> tuple[int, bytes]:
        """Send a whole request and wait for the whole answer.

        Args:
            message: head and body.

        Returns:
            status and body.

        Raises:
            OSError: the connection broke.
            ProtocolError: the answer is no such HTTP.
        """
        if self.transport is None or self.closed:
            raise ConnectionResetError("closed by the peer")
        self._received.clear()
        self._end = 0
        self._waiting = asyncio.get_running_loop().create_future()
        self.transport.write(message)
        return await self._waiting

    def close(self) -> None:
        """Drop the connection."""
        self.closed = True
        if self.transport:
            self.transport.abort()

    def _read_head(self) -> bool:
        at = self._received.find(b"\r\n\r\n")
        if at < 0:
            if len(self._received) > MOST_HEAD_BYTES:
                raise ValueError("head too long")
            return False
        lines = bytes(self._received[:at]).split(b"\r\n")
        self._status = int(lines[0].split(b" ", 2)[1])
        lengths = [line[15:] for line in lines if line[:15].lower() == b"content-length:"]
        if len(lengths) != 1:
            raise ValueError("no content-length")
        length = int(lengths[0])
        if not 0 <= length <= MOST_BODY_BYTES:
            raise ValueError("body too long")
        self._body_at, self._end = at + 4, at + 4 + length
        return True

    def _fail(self, error: Exception) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(error)
        self.close()


class Peer:
    """Keep-alive connections to one server.

    Args:
        url: ``https://host:port``.
        tls: client certificate and the authority that the server's must come from.
        server_name: the name that the server's certificate must carry.
        most: connections at the same time; a further request waits for a free one.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None, server_name: str | None = None, most: int = 64) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 443
        self._tls, self._server_name = tls, server_name if tls else None
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(most)

    async def post(self, path: str, body: bytes, content_type: str = "application/msgpack") -> tuple[int, bytes]:
        """One request; a kept connection that the server has closed meanwhile is replaced once.

        Args:
            path: of the resource.
            body: as it is.
            content_type: of the body.

        Returns:
            status and body.

        Raises:
            OSError: the server cannot be reached or hung up.
            ProtocolError: it answered something else than HTTP.
        """
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\n"
            f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        message = head.encode() + body
        async with self._free:
            kept = self._kept()
            if kept is not None:
                try:
                    return await self._use(kept, message)
                except OSError:
                    pass  # it was closed between two requests; a fresh connection tells whether the server is down
            return await self._use(await self._connect(), message)

    def close(self) -> None:
        """Drop all idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            Connection, self.host, self.port, ssl=self._tls, server_hostname=self._server_name
        )
        return connection

    async def _use(self, connection: Connection, message: bytes) -> tuple[int, bytes]:
        try:
            answer = await connection.exchange(message)
        except BaseException:
            # Also when cancelled: an answer that comes late must not be taken for the next one.
            connection.close()
            raise
        self._idle.append(connection)
        return answer
