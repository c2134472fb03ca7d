"""Pages of experiments at the gateway, for people in a browser: a list, and each experiment's curves and verdict.

They show aggregates only, yet not to everybody: a client that may see models shows a token, or its id and secret, which
a browser asks for by itself (HTTP Basic, RFC 7617).
"""

import asyncio
import hashlib
from base64 import b64decode, b64encode
from binascii import Error
from html import escape

from ftl.consortium import Folder
from ftl.errors import NotAuthorised
from ftl.registry.competition import experiment_page, experiments
from ftl.registry.competition.page import STYLE
from ftl.serving.asgi import Request, Response, problem, problem_of
from ftl.serving.clients import Access

PATH = "/experiments"
HTML = "text/html; charset=utf-8"
ASK = (b"www-authenticate", b'Basic realm="ftl", charset="UTF-8"')


class ExperimentPages:
    """Handlers of the pages.

    Args:
        folder: the consortium, as the coordinator has it.
        access: decides who may see them.
    """

    def __init__(self, folder: Folder, access: Access) -> None:
        self._folder, self._access = folder, access
        self._headers = _headers(STYLE.read_text())

    async def all(self, request: Request) -> Response:
        """The list of experiments.

        Args:
            request: to ``/experiments``.

        Raises:
            NotAllowed: the client may not see models.
        """
        if refused := self._refused(request):
            return refused
        return self._page(await asyncio.to_thread(self._list))

    async def one(self, request: Request) -> Response:
        """The page of one experiment.

        Args:
            request: to ``/experiments/NAME``.

        Raises:
            NotAllowed: the client may not see models.
        """
        if refused := self._refused(request):
            return refused
        return await asyncio.to_thread(self._named, request.path.removeprefix(f"{PATH}/"))

    def _named(self, name: str) -> Response:
        known = [one.name for one in experiments(self._folder)]  # a name from outside never becomes a path
        if name not in known:
            return problem(404, "no_such_experiment", "There is no experiment of that name.", f"See {PATH}.")
        return self._page(experiment_page(self._folder, name))

    def _list(self) -> str:
        lines = [
            f'<li><a href="{PATH}/{escape(one.name, quote=True)}">{escape(one.name)}</a>: '
            f"{'ended' if one.ended else 'under way'}</li>"
            for one in experiments(self._folder)
        ]
        body = f"<ul>{''.join(lines)}</ul>" if lines else "<p>There is none yet.</p>"
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Experiments</title>'
            f'<meta name="viewport" content="width=device-width"><style>{STYLE.read_text()}</style></head>'
            f"<body><main><h1>Experiments</h1>\n{body}</main></body></html>\n"
        )

    def _page(self, text: str) -> Response:
        return Response(text.encode(), content_type=HTML, headers=self._headers)

    def _refused(self, request: Request) -> Response | None:
        """A challenge that a browser understands, to whoever shows neither token nor secret."""
        shown = request.headers.get(b"authorization", b"")
        try:
            if shown[:6].lower() == b"basic ":
                self._access.grant(*_basic(shown[6:]), "models")
            else:
                self._access.admit(shown, "models")
        except NotAuthorised as error:
            said = problem_of(error)
            return Response(said.body, said.status, said.content_type, [ASK])
        return None


def _basic(shown: bytes) -> tuple[str, str]:
    """(id, secret) of HTTP Basic; empty ones where it is none."""
    try:
        name, _, secret = b64decode(shown.strip(), validate=True).decode().partition(":")
    except (Error, UnicodeDecodeError):
        return "", ""
    return name, secret


def _headers(style: str) -> tuple[tuple[bytes, bytes], ...]:
    digest = b64encode(hashlib.sha256(style.encode()).digest())
    policy = (
        b"default-src 'none'; style-src 'sha256-" + digest + b"'; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'"
    )
    return (
        (b"content-security-policy", policy),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-store"),
    )
