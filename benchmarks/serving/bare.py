"""The least that a fan-out to two parties can cost: no TLS, token, validation, reasons, metering; a fixed answer.

``python -m benchmarks.serving.bare PROCESSES PORT [PARTY PORT …]`` serves: with party ports it fans out, without it
answers. Client, shared questions and server are those of the gateway, so that the difference is what it does.
"""

import asyncio
import sys
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels

from ftl.serving.http1 import Peer
from ftl.serving.line import Line

ROW = bytes(1000)
ANSWER = bytes(600)
HEADERS = [("content-type", "application/json")]


class Bare:
    """RSGI application of either kind.

    Args:
        parties: ports to fan out to; without any it answers.
    """

    def __init__(self, parties: list[int]) -> None:
        self._parties = parties
        self._peers: list[Peer] = []
        self._line: Line[bytes, list[tuple[int, bytes]]] | None = None

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(self._begin())

    async def _begin(self) -> None:
        self._peers = [Peer(f"http://127.0.0.1:{port}", None) for port in self._parties]
        self._line = Line(self._ask)

    async def _ask(self, pseudonyms: Any) -> list[tuple[int, bytes]]:
        question = b"".join(pseudonyms)
        return await asyncio.gather(*(peer.post("/", question) for peer in self._peers))

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        body = await protocol()
        if self._peers and self._line is not None:
            await self._line.ask(body[:32].ljust(32))
            protocol.response_bytes(200, HEADERS, ANSWER)
            return
        protocol.response_bytes(200, [], ROW * (len(body) // 32))


def main() -> None:
    """Serve until told to stop."""
    processes, port, *parties = (int(one) for one in sys.argv[1:])
    server = Granian(
        "bare",
        address="127.0.0.1",
        port=port,
        interface=Interfaces.RSGI,
        workers=processes,
        http=HTTPModes.http1,
        websockets=False,
        log_level=LogLevels.warning,
    )
    server.serve(target_loader=lambda *_: Bare(parties), wrap_loader=False)


if __name__ == "__main__":
    main()
