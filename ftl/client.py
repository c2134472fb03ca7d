"""A client of the gateway for lending applications; imports nothing of `ftl` but its errors.

    with Client("https://scores.example", "shop", secret) as client:
        print(client.score({"id_number": "…", "phone": "…"})["score"])

It gets its token by itself and renews it, waits and asks again where the gateway says that this can help, and raises
what went wrong as the error of :mod:`ftl.errors` that the gateway named.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from ftl.errors import (
    ApplicantUnknown,
    FtlError,
    InvalidRequest,
    NotAllowed,
    NotAuthorised,
    PartyUnavailable,
    Replayed,
    ScoringError,
    ServiceError,
    TooManyRequests,
)

Answer = dict[str, Any]
"""A JSON object, as the gateway's OpenAPI description says."""

TRANSIENT = frozenset({429, 503})
FIRST_WAIT_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 20.0
RENEW_AT = 0.8
"""Share of a token's life after which a new one is got."""

_KINDS: dict[str, type[FtlError]] = {
    kind.code: kind
    for kind in (
        ApplicantUnknown,
        NotAllowed,
        NotAuthorised,
        PartyUnavailable,
        Replayed,
        ServiceError,
        TooManyRequests,
    )
}


class Client:
    """Asks one gateway in the name of one registered client; threads may share it.

    Args:
        url: of the gateway.
        client_id: as it was registered.
        secret: that the registration printed.
        timeout: seconds for one answer.
        retries: times that a request is sent again after 429, 503, or when the gateway cannot be reached.
        sleep: waits so many seconds.
        draw: a number between 0 and 1, so that many clients do not come back at the same moment.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        secret: str,
        *,
        timeout: float = 10.0,
        retries: int = 3,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._http = httpx.Client(base_url=url, timeout=timeout)
        self._form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
        self._retries, self._sleep, self._draw = retries, sleep, draw
        self._token, self._renew_at = "", 0.0

    def score(
        self, identifiers: Mapping[str, str], fields: Mapping[str, Any] | None = None, *, key: str | None = None
    ) -> Answer:
        """Score one applicant.

        Args:
            identifiers: name to text, as the consortium names them.
            fields: values of the application itself.
            key: idempotency key: a second request under it is refused.

        Returns:
            probability of default, score, reasons, parties and what else ``ScoreResponse`` describes.

        Raises:
            ScoringError: the kind says what is wrong; :class:`InvalidRequest` names the field.
            ServiceError: the gateway has no model.
        """
        return self._ask("/v1/scores", {**identifiers, **({"fields": fields} if fields else {})}, key)

    def score_batch(self, applicants: Sequence[Mapping[str, Any]], *, key: str | None = None) -> list[Answer]:
        """Score up to 10,000 applicants.

        Args:
            applicants: each with its identifiers and perhaps ``fields``.
            key: idempotency key.

        Returns:
            per applicant, in the same order, an object with either ``scored`` or ``refused``.

        Raises:
            ScoringError, ServiceError: as :meth:`score`.
        """
        answers: list[Answer] = self._ask("/v1/scores:batch", {"applicants": applicants}, key)["answers"]
        return answers

    def decide(self, application: Mapping[str, Any], *, key: str | None = None) -> Answer:
        """Decide on an application.

        Args:
            application: identifiers, ``application`` and perhaps ``fields`` and ``service``.
            key: idempotency key.

        Raises:
            ScoringError, ServiceError: as :meth:`score`.
        """
        return self._ask("/v1/decisions", application, key)

    def tell(self, outcomes: Sequence[Mapping[str, Any]]) -> int:
        """Tell what became of applicants.

        Args:
            outcomes: each with identifiers, ``outcome`` (``"bad"``, ``"good"``, or None to take it back) and perhaps
                ``group``.

        Returns:
            how many were taken down.

        Raises:
            ScoringError, ServiceError: as :meth:`score`.
        """
        return int(self._ask("/v1/outcomes", {"outcomes": outcomes}, None)["accepted"])

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, path: str, body: Mapping[str, Any], key: str | None) -> Answer:
        headers = {"idempotency-key": key} if key else {}
        reply = self._send(path, json=body, headers={**headers, **self._bearer()})
        if reply.status_code == httpx.codes.UNAUTHORIZED:  # the gateway's signing key or its clock may have changed
            self._token = ""
            reply = self._send(path, json=body, headers={**headers, **self._bearer()})
        return _read(reply)

    def _bearer(self) -> dict[str, str]:
        if not self._token or time.monotonic() >= self._renew_at:
            asked_at, grant = time.monotonic(), _read(self._send("/oauth/token", data=self._form))
            self._token, self._renew_at = grant["access_token"], asked_at + RENEW_AT * grant["expires_in"]
        return {"authorization": f"Bearer {self._token}"}

    def _send(self, path: str, **request: Any) -> httpx.Response:
        """The answer to a request, sent again while that can help."""
        for attempt in range(self._retries + 1):
            reply, last = None, attempt == self._retries
            try:
                reply = self._http.post(path, **request)
            except httpx.TransportError as exc:
                # Without a connection nothing was asked; anything else may have been answered, and is not repeated.
                if last or not isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout):
                    raise PartyUnavailable("The gateway does not answer.", cure="Try again later.") from exc
            if reply is not None and (last or reply.status_code not in TRANSIENT):
                return reply
            self._sleep(self._wait(attempt, reply))
        raise AssertionError("the last attempt returns or raises")

    def _wait(self, attempt: int, reply: httpx.Response | None) -> float:
        said = reply.headers.get("retry-after", "") if reply is not None else ""
        asked = float(said) if said.isdigit() else 0.0
        backed_off = FIRST_WAIT_SECONDS * 2**attempt * (0.5 + self._draw() / 2)
        return float(min(max(asked, backed_off), LONGEST_WAIT_SECONDS))


def _read(reply: httpx.Response) -> Answer:
    try:
        said = reply.json()
    except ValueError:
        said = None
    if not isinstance(said, dict):
        said = {"detail": f"Something that is no gateway answered {reply.status_code}."}
    elif reply.is_success:
        return said
    raise _error(reply.status_code, said)


def _error(status: int, said: Answer) -> FtlError:
    """What a problem (RFC 9457) stands for."""
    detail, cure = str(said.get("detail", "The gateway refused.")), str(said.get("cure", ""))
    if said.get("code") == InvalidRequest.code:
        return InvalidRequest(detail, cure=cure, field=str(said.get("field", "")))
    kind = _KINDS.get(str(said.get("code")), PartyUnavailable if status in TRANSIENT else ScoringError)
    return kind(detail, cure=cure)
