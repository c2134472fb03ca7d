"""Command line of a party's score server: ``python -m ftl.serving.party DIR PARTY [--port N]``."""

import argparse
from functools import partial
from pathlib import Path

from ftl.consortium import load
from ftl.federation import ports
from ftl.serving.credentials import party_certificate
from ftl.serving.score_server import party_app
from ftl.serving.server import log_to_stderr, serve


def main() -> None:
    """Command line of the score server."""
    arguments = argparse.ArgumentParser(prog="python -m ftl.serving.party", description=__doc__)
    arguments.add_argument("folder", type=Path, help="the consortium's folder, as this party has it")
    arguments.add_argument("party", help="whose score server this is")
    arguments.add_argument("--port", type=int, default=0, help="to listen on; by default the consortium's own")
    given = arguments.parse_args()
    log_to_stderr()
    folder = load(given.folder)
    if given.party not in folder.consortium.parties:
        arguments.error(f"no party {given.party!r}; there are {', '.join(folder.consortium.parties)}")
    node = folder.node(given.party)
    certificate, clients = party_certificate(node)
    serve(
        partial(party_app, node),
        folder.consortium.coordinator.host,
        given.port or ports(folder)[f"score-{given.party}"],
        certificate=(certificate.certificate, certificate.key),
        clients=clients,
    )


if __name__ == "__main__":
    main()
