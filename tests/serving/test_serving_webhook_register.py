"""The webhook as MLflow's own server sends it, once the command has told it where to."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread

import httpx
import pytest
from asgi_client import running
from conftest import Site, make_site, register, result, wait_for
from typer.testing import CliRunner

from ftl import registry
from ftl.cli import app
from ftl.errors import RegistryUnavailable
from ftl.federation import ports
from ftl.registry import store
from ftl.serving import gateway_app
from ftl.serving.webhook import NAME, PATH, register_webhook, webhook_secret


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A consortium with one version registered, of which nothing runs."""
    site = make_site(tmp_path_factory.mktemp("webhook"))
    register(site.folder, result(site.folder, "run-1"))
    return site


@pytest.fixture(scope="module")
def mlflow(registered: Site) -> Iterator[str]:
    """Its MLflow server."""
    folder = registered.folder
    port = ports(folder)["mlflow"]
    command, environment = registry.server_command(folder, port), registry.server_environment(folder)
    with (folder.root / "mlflow.log").open("wb") as log:
        environment |= {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | environment
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        wait_for(lambda: registry.tracking_uri(folder).startswith("http"), "MLflow's server")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(20)


@pytest.fixture
def told() -> Iterator[tuple[str, "Queue[tuple[str, dict[str, str], bytes]]"]]:
    """An address, and what is posted to it: path, headers, body."""
    arrived: Queue[tuple[str, dict[str, str], bytes]] = Queue()

    class Listening(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            arrived.put((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Listening)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", arrived
    server.shutdown()
    server.server_close()


def test_nothing_is_registered_while_mlflow_is_down_and_the_secret_is_printed_only_when_asked(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    with pytest.raises(RegistryUnavailable, match="MLflow's server is not running"):
        register_webhook(site.folder, "https://gateway.example")
    secret, root = webhook_secret(site.folder), str(site.folder.root)
    shown = CliRunner().invoke(app, ["webhook", "show", root]).stdout
    assert PATH in shown
    assert secret not in shown
    assert CliRunner().invoke(app, ["webhook", "show", root, "--secret"]).stdout == f"{secret}\n"


def test_mlflows_server_tells_the_gateway_of_a_promotion_in_words_that_it_accepts(registered, mlflow, told) -> None:
    address, arrived = told
    folder = registered.folder
    for _ in range(2):  # a second time replaces the first
        said = CliRunner().invoke(app, ["webhook", "register", str(folder.root), "--gateway", f"{address}/"])
        assert said.stdout == f"MLflow tells {address}{PATH}\n"
        assert webhook_secret(folder) not in said.output
    hooks = [one for one in store.client(mlflow).list_webhooks() if one.name == NAME]
    assert [one.url for one in hooks] == [f"{address}{PATH}"]
    registry.promote(folder, folder.consortium.training.model_name, "1", reason="a test", approved_by="a test")
    path, headers, body = arrived.get(timeout=90)
    assert path == PATH

    async def accepted() -> int:
        async with running(gateway_app(folder)) as call:
            return (await call("POST", path, body, headers)).status

    assert asyncio.run(accepted()) == 202
    assert b"champion" in body
    assert httpx.get(f"{mlflow}/health", timeout=10).text == "OK"
