"""Serve, score files, and say who may ask."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ftl import consortium
from ftl.cli.common import NO_SETTINGS, Dir, app, now


@app.command(epilog="Example: ftl serve my-consortium")
def serve(directory: Dir) -> None:
    """Start a score server per party and the gateway, and stay until Ctrl-C."""
    from ftl.pipeline.services import serve as serve_until_stopped

    serve_until_stopped(consortium.load(directory), print)


@app.command(epilog="Example: ftl score my-consortium --file applicants.csv --out scores.csv")
def score(
    directory: Dir,
    file: Annotated[Path, typer.Option(help="CSV or Parquet file with the identifier columns.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; standard output otherwise.")] = None,
) -> None:
    """Score many applicants: the same numbers as the gateway gives."""
    from ftl.serving import provision_scoring, score_file

    folder = consortium.load(directory)
    provision_scoring(folder, now())
    done = score_file(folder, file, out)
    told = f"{done.scored} of {done.rows} scored, {done.unknown} unknown, {done.degraded} degraded, by {done.model}"
    print(told, file=sys.stderr)


webhook = typer.Typer(help="MLflow's word to the gateway that a model was promoted.", no_args_is_help=True)
app.add_typer(webhook, name="webhook")


@webhook.command("register", epilog="Example: ftl webhook register my-consortium")
def webhook_register(
    directory: Dir,
    gateway: Annotated[str, typer.Option(help="URL of the gateway as MLflow reaches it; else its own port.")] = "",
) -> None:
    """Have MLflow tell the gateway of a promotion at once; without, it sees it at its next poll."""
    from ftl.pipeline.services import addresses
    from ftl.serving.webhook import register_webhook

    folder = consortium.load(directory)
    print(f"MLflow tells {register_webhook(folder, gateway or addresses(folder)['gateway'])}")


@webhook.command("show", epilog="Example: ftl webhook show my-consortium --secret | xclip")
def webhook_show(
    directory: Dir,
    secret: Annotated[bool, typer.Option("--secret", help="Print the secret, and nothing else.")] = False,
) -> None:
    """Say what an MLflow server that others run has to be told."""
    from ftl.serving.webhook import EVENTS, PATH, webhook_secret

    folder = consortium.load(directory)
    print(webhook_secret(folder) if secret else f"POST {PATH} on {', '.join(EVENTS)}, with the secret of --secret")


@app.command(
    epilog="Example: ftl outcomes my-consortium --url http://gateway:8080 --client bank --secret-file bank.secret"
)
def outcomes(
    directory: Dir,
    url: Annotated[str, typer.Option(help="Of the gateway.")],
    client: Annotated[str, typer.Option(help="That was registered with `ftl client add`, for the scope outcomes.")],
    secret_file: Annotated[Path, typer.Option(help="File whose first line is the client's secret.")],
) -> None:
    """Tell the gateway what has become known of people since the last time, from the active party's published label."""
    from ftl.client import Client
    from ftl.serving import tell_outcomes

    secret = secret_file.read_text(encoding="utf-8").partition("\n")[0].strip()
    with Client(url, client, secret) as gateway:
        print(f"{tell_outcomes(consortium.load(directory), gateway)} outcomes told")


SCOPE = "scores, decisions, outcomes, models, or one service code such as full.1; may be repeated. All without."
clients = typer.Typer(help="Who may ask the gateway: add, list and remove clients.", no_args_is_help=True)
app.add_typer(clients, name="client")


@clients.command("add", epilog="Example: ftl client add my-consortium shop --scope scores --scope blacklist.1")
def client_add(
    directory: Dir,
    name: Annotated[str, typer.Argument(help="Of the client.")],
    scope: Annotated[list[str], typer.Option(help=SCOPE)] = NO_SETTINGS,
    per_second: Annotated[float, typer.Option(min=0, help="Requests a second; 0 is without limit.")] = 0,
    per_day: Annotated[int, typer.Option(min=0, help="Requests a day; 0 is without limit.")] = 0,
) -> None:
    """Register a client and print its secret, which is kept nowhere."""
    from ftl.serving import provision_scoring
    from ftl.serving.clients import INTERFACES, add_client

    chosen = tuple(scope) or INTERFACES
    folder = consortium.load(directory)
    provision_scoring(folder, datetime.now(UTC))
    print(add_client(folder, name, chosen, per_second=per_second, per_day=per_day))


@clients.command("list", epilog="Example: ftl client list my-consortium")
def client_list(directory: Dir) -> None:
    """Say who may use which services."""
    from ftl.serving.clients import read_clients

    for one in read_clients(consortium.load(directory)).values():
        limits = f"{one.per_second:g} a second" if one.per_second else "any rate"
        print(f"{one.id}: {' '.join(one.scopes)}; {limits}; {one.per_day or 'any number'} a day")


@clients.command("remove", epilog="Example: ftl client remove my-consortium shop")
def client_remove(directory: Dir, name: Annotated[str, typer.Argument(help="Of the client.")]) -> None:
    """Take a client's access away, with all its tokens."""
    from ftl.serving.clients import remove_client

    remove_client(consortium.load(directory), name)
