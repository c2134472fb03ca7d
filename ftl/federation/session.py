"""The coordinator's admin connection to the federation server."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ftl.consortium import Folder
from ftl.errors import EngineUnavailable
from ftl.federation.kits import ADMIN, admin_kit
from ftl.federation.ports import ports

CONNECT = 10.0
"""Seconds to wait for the server to answer a new connection."""


@contextmanager
def admin_session(folder: Folder, timeout: float = CONNECT) -> Iterator[Any]:
    """An open session of NVFlare's admin API.

    Args:
        folder: the consortium.
        timeout: seconds to wait for the server.

    Yields:
        NVFlare's session.

    Raises:
        EngineUnavailable: the consortium is not provisioned, or the server does not answer.
    """
    kit = admin_kit(folder)
    if not kit.is_dir():
        raise EngineUnavailable(f"{folder.root} has no federation yet.", cure="Start its services (`ftl up`).")
    from nvflare.fuel.flare_api.flare_api import new_secure_session

    _quiet()
    try:
        session = new_secure_session(ADMIN, str(kit), timeout=timeout)
    except Exception as exc:
        port = ports(folder)["federation"]
        raise EngineUnavailable(
            f"The federation server on port {port} did not answer within {timeout:g} s ({type(exc).__name__}).",
            cure="See that it runs, and read its log.",
        ) from exc
    try:
        yield session
    finally:
        session.close()


def _quiet() -> None:
    """Keep NVFlare's chatter out of a command's output, which a program may read."""
    from nvflare.tool.cli_output import set_output_format

    set_output_format("json")  # its words for people then go to the error stream
    logging.getLogger("nvflare").setLevel(logging.ERROR)
