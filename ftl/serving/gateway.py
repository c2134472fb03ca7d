"""Command line of the gateway: ``python -m ftl.serving.gateway DIR``; ``--help`` names what may be set."""

import argparse
import os
from functools import partial
from pathlib import Path

from ftl.consortium import load
from ftl.federation import ports
from ftl.serving.champion import POLL_SECONDS
from ftl.serving.endpoints import shared_home
from ftl.serving.metrics import forget_ended
from ftl.serving.score_gateway import gateway_app
from ftl.serving.scorer import BUDGET_SECONDS
from ftl.serving.server import log_to_stderr, serve


def main() -> None:
    """Command line of the gateway."""
    arguments = argparse.ArgumentParser(prog="python -m ftl.serving.gateway", description=__doc__)
    arguments.add_argument("folder", type=Path, help="the consortium's folder, as the coordinator has it")
    arguments.add_argument("--port", type=int, default=0, help="to listen on; by default the consortium's own")
    arguments.add_argument("--budget", type=float, default=BUDGET_SECONDS, help="seconds the parties have to answer")
    arguments.add_argument(
        "--processes", type=int, default=0, help="that share the port; by default as many as the consortium says"
    )
    arguments.add_argument("--poll", type=float, default=POLL_SECONDS, help="seconds between looks at the registry")
    given = arguments.parse_args()
    log_to_stderr()
    folder = load(given.folder)
    port = given.port or ports(folder)["gateway"]
    processes = given.processes or folder.consortium.coordinator.gateway_processes or len(os.sched_getaffinity(0))
    forget_ended(shared_home(folder))
    build = partial(gateway_app, folder, budget=given.budget, poll=given.poll)
    serve(build, folder.consortium.coordinator.host, port, processes=processes)


if __name__ == "__main__":
    main()
