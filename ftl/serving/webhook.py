"""MLflow's word that an alias has moved: the gateway looks at the registry at once instead of at its next poll.

Nothing that MLflow sends is believed beyond that: which version answers is read from the registry as ever. The sender
shows that it knows the secret by an HMAC-SHA256 over delivery id, time and body (Standard Webhooks). MLflow's server
sends the messages, so :func:`register_webhook` needs it running.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable

from ftl.consortium import Folder
from ftl.crypto import KeyStore
from ftl.errors import NotAuthorised, RegistryUnavailable
from ftl.registry import store
from ftl.serving.asgi import Request, Response

PATH = "/v1/webhooks/mlflow"
SECRET = "webhook.key"  # noqa: S105 - the file's name
NAME = "ftl-gateway"
EVENTS = ["model_version_alias.created", "model_version_alias.deleted"]
MOST_WEBHOOKS = 100
"""That one question to MLflow lists."""
TOLERANCE_SECONDS = 300
"""Between the sender's clock and this one; an older message is a repeated one."""


def webhook_secret(folder: Folder) -> str:
    """What to give MLflow as the webhook's secret; drawn at the first time."""
    return KeyStore(folder.coordinator / "keys").key(SECRET).hex()


def register_webhook(folder: Folder, gateway: str) -> str:
    """Have MLflow tell the gateway of every alias that moves, instead of whatever address it told before.

    Args:
        folder: the consortium, as the coordinator has it.
        gateway: URL of the gateway, as MLflow's server reaches it.

    Returns:
        the address that MLflow will tell.

    Raises:
        RegistryUnavailable: MLflow's server is not running.
        RegistryError: it refuses, for example an address that is not https.
    """
    uri, address = store.tracking_uri(folder), gateway.rstrip("/") + PATH
    if not uri.startswith("http"):
        raise RegistryUnavailable("MLflow's server is not running.", cure="Start it with `ftl up`, then try again.")
    with store.asking(f"registering the webhook {address}", uri):
        client = store.client(uri)
        for old in [one for one in client.list_webhooks(max_results=MOST_WEBHOOKS) if one.name == NAME]:
            client.delete_webhook(old.webhook_id)
        client.create_webhook(NAME, address, EVENTS, secret=webhook_secret(folder))
    return address


class AliasWebhook:
    """Handler of MLflow's messages.

    Args:
        folder: the consortium, as the coordinator has it.
        look: at the registry, soon.
        clock: seconds since 1970.
    """

    def __init__(self, folder: Folder, look: Callable[[], None], clock: Callable[[], float]) -> None:
        self._secret, self._look, self._clock = webhook_secret(folder).encode(), look, clock

    async def told(self, request: Request) -> Response:
        """Look at the registry if the message is MLflow's; answers 202.

        Args:
            request: with MLflow's three headers.

        Raises:
            NotAuthorised: its signature is missing or wrong, or it is old.
        """
        names = (b"x-mlflow-delivery-id", b"x-mlflow-timestamp", b"x-mlflow-signature")
        delivery, at, shown = (request.headers.get(name, b"") for name in names)
        signed = hmac.digest(self._secret, b".".join((delivery, at, request.body)), hashlib.sha256)
        if not hmac.compare_digest(shown, b"v1," + base64.b64encode(signed)) or not self._recent(at):
            raise NotAuthorised("The message is not signed by MLflow, or old.", cure="Check the webhook's secret.")
        self._look()
        return Response(b"{}", 202)

    def _recent(self, at: bytes) -> bool:
        return at.isdigit() and abs(self._clock() - int(at)) <= TOLERANCE_SECONDS
