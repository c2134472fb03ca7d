"""MLflow's webhook: signed by MLflow's own code, it makes the gateway look at the registry at once."""

import asyncio
import time

from asgi_client import running
from conftest import Site, register, result
from mlflow.webhooks.delivery import _generate_hmac_signature

from ftl import registry
from ftl.serving import gateway_app
from ftl.serving.webhook import PATH, webhook_secret

BODY = '{"entity": "model_version_alias", "action": "created"}'
NEVER = 3600.0


def headers(secret: str, at: float, body: str = BODY) -> dict[str, str]:
    signed = _generate_hmac_signature(secret, "d-1", str(int(at)), body)
    return {"x-mlflow-delivery-id": "d-1", "x-mlflow-timestamp": str(int(at)), "x-mlflow-signature": signed}


def test_a_signed_message_swaps_the_version_long_before_the_next_poll(site: Site) -> None:
    secret, name = webhook_secret(site.folder), site.folder.consortium.training.model_name
    version = register(site.folder, result(site.folder, "run-of-a-webhook")).version

    async def swap() -> str:
        async with running(gateway_app(site.folder, budget=2.0, poll=NEVER)) as call:
            before = (await call("GET", "/readyz")).json()["model"]
            registry.promote(site.folder, name, version, reason="a test", approved_by="a test")
            said = await call("POST", PATH, BODY.encode(), headers(secret, time.time()))
            assert said.status == 202
            for _ in range(1000):
                if (now := (await call("GET", "/readyz")).json()["model"]) != before:
                    return now
                await asyncio.sleep(0.05)
            return before

    try:
        assert asyncio.run(asyncio.wait_for(swap(), 60)) == f"{name}/{version}"
    finally:
        registry.promote(site.folder, name, "1", reason="the test is over", approved_by="a test")


def test_a_message_that_is_unsigned_changed_old_or_of_another_secret_is_refused(site: Site) -> None:
    secret, now = webhook_secret(site.folder), time.time()
    refused = [{}, headers("00" * 32, now), headers(secret, now, BODY + " "), headers(secret, now - 3600)]

    async def ask() -> list[int]:
        async with running(gateway_app(site.folder, poll=NEVER)) as call:
            return [(await call("POST", PATH, BODY.encode(), one)).status for one in refused]

    assert asyncio.run(ask()) == [401] * 4
