"""Who may ask the gateway what, and how often: registered clients, short-lived tokens, rates and quotas.

A client shows its id and secret at ``POST /oauth/token`` (OAuth 2.0 client credentials, RFC 6749 section 4.4) and gets
a token signed with Ed25519 (JWT, RFC 7519; EdDSA, RFC 8037) that says who it is and which services it may use. A
gateway checks it without asking anybody. Rates and quotas are counted over all gateway processes of one machine.
"""

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from ftl.consortium import Folder
from ftl.crypto import KeyStore
from ftl.crypto.keystore import create_once, replace
from ftl.decision.declared import SERVICE_CODE
from ftl.errors import InvalidRequest, NotAllowed, NotAuthorised, ServiceError, TooManyRequests
from ftl.serving.decisions import service_codes
from ftl.serving.endpoints import shared_home
from ftl.serving.shared import NAME_BYTES, SharedTable

FILE = "clients.json"
SIGNING_KEY = "tokens.key"
DEFAULT = "default"
TOKEN_SECONDS = 900
ISSUER = "ftl"
ALGORITHM = "EdDSA"
MOST_TOKENS = 10_000
"""Verified tokens whose hash is remembered; an older one is verified again."""
DAY_SECONDS = 86_400
RELOAD_SECONDS = 1.0
"""Between two looks at the clients' file."""
USES = "rates.table"
BUCKETS = 1 << 10
"""For eight thousand clients."""

Interface = Literal["scores", "decisions", "outcomes", "models"]
INTERFACES: tuple[Interface, ...] = get_args(Interface)
DECISIONS: Interface = "decisions"
Clock = Callable[[], float]


class Client(msgspec.Struct, frozen=True):
    """A lending application.

    Attributes:
        id: names it in tokens, logs and bills.
        secret: hex SHA-256 of its secret, which has 256 random bits.
        scopes: what it may use: interfaces, and codes of single services of decisions.
        per_second: requests a second on average; 0 is without limit.
        per_day: requests a day (UTC); 0 is without limit.
    """

    id: str
    secret: str
    scopes: tuple[str, ...] = INTERFACES
    per_second: float = 0
    per_day: int = 0

    def may(self, interface: Interface) -> bool:
        """Whether it may use an interface; that of decisions also where it has been granted some service code."""
        return interface in self.scopes or (interface == DECISIONS and bool(self.services))

    @property
    def services(self) -> list[str]:
        """Service codes that it has been granted one by one."""
        return [scope for scope in self.scopes if scope not in INTERFACES]

    def may_want(self, scope: str) -> bool:
        """Whether a token of it may have a scope: one of its own, or the code of any service where all are granted."""
        return scope in self.scopes or (DECISIONS in self.scopes and re.match(SERVICE_CODE, scope) is not None)

    def narrowed(self, scopes: frozenset[str]) -> "Client":
        """The client as a token with these scopes shows it."""
        if scopes.issuperset(self.scopes):
            return self
        return msgspec.structs.replace(self, scopes=tuple(sorted(filter(self.may_want, scopes))))

    def check_service(self, code: str) -> None:
        """Refuse a decision by a service that it has not been granted; ``decisions`` grants every one.

        Raises:
            NotAllowed: it may not use this one.
        """
        if code not in self.scopes and DECISIONS not in self.scopes:
            may = " ".join(self.services)
            cure = f"Use {may} if the token was got for it, or ask the coordinator to grant {code!r}."
            raise NotAllowed(f"{self.id} may not use {code!r}.", cure=cure, field="service")


class Grant(msgspec.Struct, frozen=True):
    """What `POST /oauth/token` answers.

    Attributes:
        access_token: to be shown as ``Authorization: Bearer …``.
        token_type: ``Bearer``.
        expires_in: seconds.
        scope: what it may be used for, separated by blanks.
    """

    access_token: str
    token_type: str
    expires_in: int
    scope: str


def add_client(
    folder: Folder, name: str, scopes: tuple[str, ...] = INTERFACES, *, per_second: float = 0, per_day: int = 0
) -> str:
    """Register a client.

    Args:
        folder: the consortium, as the coordinator has it.
        name: of the client.
        scopes: what it may use: interfaces (:data:`INTERFACES`) and codes of services of the consortium's policies.
        per_second: requests a second; 0 is without limit.
        per_day: requests a day; 0 is without limit.

    Returns:
        its secret, which is kept nowhere.

    Raises:
        ServiceError: there is one of that name, or a scope does not exist.
    """
    clients = read_clients(folder)
    if name in clients:
        raise ServiceError(f"There is a client {name!r} already.", cure="Remove it first, or choose another name.")
    if not name.isprintable() or not 0 < len(name) <= 64:
        raise ServiceError("A client's name has 1 to 64 printable characters.", cure="Choose another name.")
    known = [*INTERFACES, *service_codes(folder)]
    if wrong := [scope for scope in scopes if scope not in known]:
        raise ServiceError(f"There is no service {wrong[0]!r}.", cure=f"Services are {', '.join(known)}.")
    secret = secrets.token_urlsafe(32)
    _write(folder, {**clients, name: Client(name, _digest(secret), scopes, per_second, per_day)})
    return secret


def remove_client(folder: Folder, name: str) -> None:
    """Take a client's access away; tokens that it has are refused from the next second on.

    Raises:
        ServiceError: there is none of that name.
    """
    clients = read_clients(folder)
    if name not in clients:
        raise ServiceError(f"There is no client {name!r}.", cure=f"There are {', '.join(clients) or 'none'}.")
    del clients[name]
    _write(folder, clients)


def read_clients(folder: Folder) -> dict[str, Client]:
    """The registered clients by name.

    Raises:
        ServiceError: the file is not readable.
    """
    path = clients_file(folder)
    if not path.exists():
        return {}
    try:
        return {one.id: one for one in msgspec.json.decode(path.read_bytes(), type=list[Client])}
    except (OSError, msgspec.MsgspecError) as exc:
        raise ServiceError(f"{path} is not readable: {exc}.", cure="Restore it from a backup.") from exc


def clients_file(folder: Folder) -> Path:
    """Where clients are kept, mode 0600."""
    return folder.coordinator / "keys" / FILE


def provision_clients(folder: Folder, secret: str) -> None:
    """Make the key that signs tokens, and the client :data:`DEFAULT` with a given secret; repeating changes nothing."""
    KeyStore(folder.coordinator / "keys").key(SIGNING_KEY)
    first = [Client(DEFAULT, _digest(secret))]
    create_once(clients_file(folder), msgspec.json.encode(first))


def _write(folder: Folder, clients: dict[str, Client]) -> None:
    replace(clients_file(folder), msgspec.json.format(msgspec.json.encode(list(clients.values())), indent=2))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Access:
    """Decides on every request.

    Args:
        folder: the consortium, as the coordinator has it.
        clock: seconds since 1970.
    """

    def __init__(self, folder: Folder, clock: Clock) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._folder, self._clock = folder, clock
        self._key = Ed25519PrivateKey.from_private_bytes(KeyStore(folder.coordinator / "keys").read(SIGNING_KEY))
        self._clients = read_clients(folder)
        self._read_at, self._changed = clock(), self._stamp()
        self._verified: OrderedDict[bytes, tuple[str, frozenset[str], float]] = OrderedDict()
        self._uses = SharedTable(shared_home(folder) / USES, "dqq", BUCKETS)

    def grant(self, name: str, secret: str, wanted: str = "") -> Grant:
        """A token for a client that knows its secret.

        Args:
            name: of the client.
            secret: as it was told when it was added.
            wanted: scopes separated by blanks; all that it may use when empty.

        Raises:
            NotAuthorised: the name or the secret is wrong.
            NotAllowed: it may not use a service that it wants.
        """
        import jwt

        client = self._current().get(name)
        if not hmac.compare_digest(_digest(secret), client.secret if client else _digest("")) or client is None:
            raise NotAuthorised("The client's id or secret is wrong.", cure="Ask the coordinator for a new one.")
        scopes = wanted.split() or list(client.scopes)
        if refused := [scope for scope in scopes if not client.may_want(scope)]:
            cure = f"It may use {' '.join(client.scopes)}."
            raise NotAllowed(f"{name} may not use {refused[0]!r}.", cure=cure, field="scope")
        now, scope = int(self._clock()), " ".join(scopes)
        claims = {"iss": ISSUER, "sub": name, "scope": scope, "iat": now, "exp": now + TOKEN_SECONDS}
        return Grant(jwt.encode(claims, self._key, ALGORITHM), "Bearer", TOKEN_SECONDS, scope)

    def admit(self, authorisation: bytes, interface: Interface, requests: int = 1) -> Client:
        """The client behind a request, with no more scopes than its token has.

        Args:
            authorisation: the header of that name.
            interface: that it asks.
            requests: how many requests it counts for.

        Raises:
            NotAuthorised: no valid token.
            NotAllowed: not this interface.
            TooManyRequests: over its rate or quota.
        """
        scheme, _, token = authorisation.partition(b" ")
        name, scopes = self._who(token.strip()) if scheme.lower() == b"bearer" else ("", frozenset[str]())
        client = self._current().get(name)
        if client is None:
            raise NotAuthorised(
                "The token is missing, wrong or has expired.",
                cure="Get one from POST /oauth/token and send 'Authorization: Bearer TOKEN'.",
            )
        client = client.narrowed(scopes)
        if not client.may(interface):
            raise NotAllowed(f"{name} may not use {interface!r}.", cure="Ask the coordinator to grant it.")
        self.count(client, requests)
        return client

    def close(self) -> None:
        """Close the file of counts."""
        self._uses.close()

    def _who(self, token: bytes) -> tuple[str, frozenset[str]]:
        """Client and scopes of a valid token; an empty name for any other."""
        seen = hashlib.blake2b(token, digest_size=NAME_BYTES).digest()
        found = self._verified.get(seen)
        if found is None:
            found = self._verify(token)
            self._verified[seen] = found
            if len(self._verified) > MOST_TOKENS:
                self._verified.popitem(last=False)
        name, scopes, until = found
        return (name, scopes) if self._clock() < until else ("", frozenset())

    def _verify(self, token: bytes) -> tuple[str, frozenset[str], float]:
        import jwt

        try:
            claims = jwt.decode(
                token,
                self._key.public_key(),
                [ALGORITHM],
                issuer=ISSUER,
                options={"require": ["sub", "scope", "exp"], "verify_exp": False, "verify_iat": False},
            )
            return str(claims["sub"]), frozenset(str(claims["scope"]).split()), float(claims["exp"])
        except (jwt.InvalidTokenError, UnicodeDecodeError, TypeError, ValueError):
            return self._standing(token)

    def _standing(self, token: bytes) -> tuple[str, frozenset[str], float]:
        """The default client may show its secret itself: it lies on the coordinator's own machine."""
        own = self._clients.get(DEFAULT)
        if own and hmac.compare_digest(hashlib.sha256(token).hexdigest(), own.secret):
            return DEFAULT, frozenset(own.scopes), float("inf")
        return "", frozenset(), float("inf")

    def count(self, client: Client, requests: int) -> None:
        """Count requests towards a client's rate and quota.

        Raises:
            TooManyRequests: over either of them; nothing is counted then.
        """
        if not requests or not (client.per_second or client.per_day):
            return
        now = self._clock()
        today = int(now // DAY_SECONDS)

        def use(at: float, left: tuple[Any, ...] | None) -> tuple[float, int, int]:
            tokens, day, used = left or (max(client.per_second, 1.0), today, 0)
            used = used if day == today else 0
            if client.per_day and used + requests > client.per_day:
                raise TooManyRequests(
                    f"{client.id} has used its {client.per_day} requests of today.", cure="Come tomorrow."
                )
            return self._left(client, tokens, max(now - at, 0.0), requests), today, used + requests

        name = hashlib.blake2b(client.id.encode(), digest_size=NAME_BYTES).digest()
        self._uses.change(name, now, use)

    def _left(self, client: Client, tokens: float, seconds: float, requests: int) -> float:
        """What is left of a bucket that fills at the client's rate (a second's worth fits), after these requests.

        A batch larger than that empties it below nought, so that its rate holds on average.
        """
        if not client.per_second:
            return 0.0
        full = max(client.per_second, 1.0)
        tokens = min(tokens + seconds * client.per_second, full)
        if tokens < min(requests, full):
            what = f"{client.id} may send {client.per_second:g} requests a second."
            raise TooManyRequests(what, cure="Send fewer, or ask the coordinator for a higher rate.")
        return tokens - requests

    def _current(self) -> dict[str, Client]:
        now = self._clock()
        if not 0 <= now - self._read_at < RELOAD_SECONDS:
            self._read_at = now
            if (changed := self._stamp()) != self._changed:
                self._clients, self._changed = read_clients(self._folder), changed
                self._verified.clear()
        return self._clients

    def _stamp(self) -> tuple[int, int]:
        path = clients_file(self._folder)
        if not path.exists():
            return 0, 0
        state = path.stat()
        return state.st_mtime_ns, state.st_ino


def read_grant_request(body: bytes, authorisation: bytes) -> tuple[str, str, str]:
    """(client id, secret, wanted scope) of a token request; id and secret in the form or as HTTP Basic.

    Raises:
        InvalidRequest: it is no request for client credentials.
    """
    from base64 import b64decode
    from binascii import Error
    from urllib.parse import parse_qs, unquote

    try:
        form = {name: values[-1] for name, values in parse_qs(body.decode(), strict_parsing=bool(body)).items()}
        name, secret = form.get("client_id", ""), form.get("client_secret", "")
        scheme, _, basic = authorisation.partition(b" ")
        if scheme.lower() == b"basic":
            name, _, secret = (unquote(part) for part in b64decode(basic).decode().partition(":"))
    except (ValueError, Error) as exc:
        raise InvalidRequest("The body is no form.", cure="Send application/x-www-form-urlencoded.") from exc
    if form.get("grant_type") != "client_credentials":
        raise InvalidRequest(
            "grant_type is not client_credentials.", cure="Send grant_type=client_credentials.", field="grant_type"
        )
    return name, secret, form.get("scope", "")
