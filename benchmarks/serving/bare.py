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
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"600")]


def app(parties: list[int]) -> Any:
    """ASGI application of either kind."""
    line: Line[bytes, list[tuple[int, bytes]]] | None = None

    async def ask(pseudonyms: Any) -> list[tuple[int, bytes]]:
        question = b"".join(pseudonyms)
        return await asyncio.gather(*(peer.post("/", question) for peer in peers))

    peers: list[Peer] = []

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        nonlocal line
        if scope["type"] == "lifespan":
            await receive()
            peers.extend(Peer(f"http://127.0.0.1:{port}", None) for port in parties)
            line = Line(ask)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = (await receive()).get("body", b"")
        if parties and line is not None:
            await line.ask(body[:32].ljust(32))
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send({"type": "http.response.body", "body": ANSWER})
            return
        answer = ROW * (len(body) // 32)
        length = str(len(answer)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": answer})

    return serve


def main() -> None:
    """Serve until told to stop."""
    processes, port, *parties = (int(one) for one in sys.argv[1:])
    server = Granian(
        "bare",
        address="127.0.0.1",
        port=port,
        interface=Interfaces.ASGI,
        workers=processes,
        http=HTTPModes.http1,
        websockets=False,
        log_level=LogLevels.warning,
    )
    server.serve(target_loader=lambda *_: app(parties), wrap_loader=False)


if __name__ == "__main__":
    main()
