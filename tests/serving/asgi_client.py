"""Calls an ASGI application in this process, with its lifespan."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ftl.serving.asgi import App


@dataclass
class Said:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


Call = Callable[..., Awaitable[Said]]


@asynccontextmanager
async def running(app: App) -> AsyncIterator[Call]:
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    life = asyncio.create_task(app({"type": "lifespan"}, events.get, told.put))
    await events.put({"type": "lifespan.startup"})
    started = await told.get()
    assert started["type"] == "lifespan.startup.complete", started

    async def call(method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Said:
        return await request(app, method, path, body, headers)

    yield call
    await events.put({"type": "lifespan.shutdown"})
    assert (await told.get())["type"] == "lifespan.shutdown.complete"
    await life


async def request(app: App, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Said:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    pieces = [raw[i : i + 65536] for i in range(0, len(raw), 65536)] or [b""]
    events = [{"type": "http.request", "body": p, "more_body": p is not pieces[-1]} for p in pieces]
    said = Said()

    async def receive() -> dict[str, Any]:
        return events.pop(0)

    async def send(event: dict[str, Any]) -> None:
        if event["type"] == "http.response.start":
            said.status = event["status"]
            said.headers = {name.decode(): value.decode() for name, value in event["headers"]}
        else:
            said.body += event["body"]

    sent = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await app({"type": "http", "method": method, "path": path, "headers": sent}, receive, send)
    return said
