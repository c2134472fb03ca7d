"""Bring a consortium up: new, advance, check, up, down, status, demo, version."""

import json
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

import ftl
from ftl import consortium
from ftl.cli.common import NO_SETTINGS, Dir, Json, Set, app, pairs, print_rows


@app.command(epilog="Example: ftl new my-consortium   |   ftl new demo --scenario taiwan --set shared=250")
def new(
    directory: Dir,
    scenario: Annotated[str | None, typer.Option(help="A ready story with data: taiwan, german, sme.")] = None,
    settings: Set = NO_SETTINGS,
    seed: Annotated[int, typer.Option(help="Draws the scenario's shared customers.")] = 0,
    data: Annotated[Path | None, typer.Option(help="Folder of your own raw files, for scenario sme.")] = None,
) -> None:
    """Write a commented consortium.yaml, or a whole scenario with its data."""
    given = {key: str(value) for key, value in pairs(settings).items()}
    for path in consortium.new(directory, scenario, given, seed, data=data):
        print(path)


@app.command(epilog="Example: ftl advance demo")
def advance(
    directory: Dir,
    per_second: Annotated[
        float | None, typer.Option(min=0.001, help="Dates per second, where rows come in order of date.")
    ] = None,
) -> None:
    """Let time pass at the sources of a scenario: new and changed rows are written to them, for the next sync."""
    for party, rows in consortium.advance(directory, per_second).items():
        print(f"{party}: {rows} rows")


@app.command(epilog="Example: ftl check my-consortium")
def check(directory: Dir, as_json: Json = False) -> None:
    """Validate consortium.yaml, connect to every source and report every problem at once."""
    from ftl.pipeline.check import check as find

    problems = find(directory)
    if as_json:
        print(json.dumps({"problems": [msgspec.to_builtins(problem) for problem in problems]}))
    else:
        print("\n".join(map(str, problems)) or f"{directory}: no problems")
    if problems:
        raise SystemExit(1)


@app.command(epilog="Example: ftl up my-consortium")
def up(directory: Dir) -> None:
    """Start every service of the consortium on this machine."""
    from ftl.pipeline import services

    services.up(consortium.load(directory), progress=print)


@app.command(epilog="Example: ftl down my-consortium")
def down(directory: Dir) -> None:
    """Stop every service that `ftl up` or `ftl demo` started."""
    from ftl.pipeline import services

    if not (directory / "consortium.yaml").exists():
        print(f"nothing to stop: {directory} holds no consortium.yaml")
        return
    services.down(consortium.load(directory), progress=print)


@app.command(epilog="Example: ftl status my-consortium --json")
def status(directory: Dir, as_json: Json = False) -> None:
    """Say which services run, where, and since when."""
    from ftl.pipeline import services

    print_rows(services.status(consortium.load(directory)), as_json=as_json)


@app.command(epilog="Example: ftl demo var/demo")
def demo(directory: Dir) -> None:
    """Run the whole story on real data and leave the services up."""
    from ftl.pipeline.demo import demo as tell

    tell(directory, Console(highlight=False, width=None if sys.stdout.isatty() else 110))


@app.command()
def version() -> None:
    """Print the version."""
    print(ftl.__version__)
