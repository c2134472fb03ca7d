"""Train, evaluate, and watch for drift."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from ftl import consortium
from ftl.cli.common import NO_SETTINGS, Dir, Json, Party, Set, app, now, pairs, steps_of

Recipe = Annotated[str | None, typer.Option(help="Name of the recipe; else what consortium.yaml says.")]
Seed = Annotated[int | None, typer.Option(help="Drives the learner; `run` also redraws a scenario's shared customers.")]
MaxShared = Annotated[int | None, typer.Option(min=0, help="Train on at most so many shared people.")]
InProcess = Annotated[bool, typer.Option("--in-process", help="In-memory channel instead of NVFlare's processes.")]
ReportFile = Annotated[Path | None, typer.Option(help="Write the report (JSON) to this file.")]


@app.command(epilog="Example: ftl run my-consortium --seed 1 --set rounds=20 --in-process --report report.json")
def run(
    directory: Dir,
    recipe: Recipe = None,
    seed: Seed = None,
    settings: Set = NO_SETTINGS,
    max_shared: MaxShared = None,
    in_process: InProcess = False,
    report: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Collect, check, align, train, evaluate and register, without Airflow."""
    from ftl.pipeline.run import bring_data

    say = Console(stderr=True, highlight=False).print
    drawn = consortium.load(directory).consortium.training.seed if seed is None else seed
    if consortium.redraw(directory, drawn):
        say(f"scenario: shared customers drawn anew with seed {drawn}")
    bring_data(steps_of(directory, in_process=True), say)
    _train(directory, recipe, seed, settings, max_shared, report, None, in_process=in_process, as_json=as_json)


@app.command(epilog="Example: ftl train my-consortium --in-process --report report.json --plots plots")
def train(
    directory: Dir,
    recipe: Recipe = None,
    seed: Seed = None,
    settings: Set = NO_SETTINGS,
    max_shared: MaxShared = None,
    in_process: InProcess = False,
    report: ReportFile = None,
    plots: Annotated[Path | None, typer.Option(help="Write the curves as CSV files into this folder.")] = None,
    as_json: Json = False,
) -> None:
    """Align, train, evaluate and register on what has been collected and has passed."""
    _train(directory, recipe, seed, settings, max_shared, report, plots, in_process=in_process, as_json=as_json)


@app.command(epilog="Example: ftl drift my-consortium --party bank")
def drift(
    directory: Dir,
    party: Party,
    run_id: Annotated[str | None, typer.Option("--run", help="Since this training run; else the champion's.")] = None,
    as_json: Json = False,
) -> None:
    """Say how far a party's rows have moved since a model was trained on them (population stability index)."""
    moved = steps_of(directory, in_process=True).drift(party, run_id)
    if as_json:
        print(json.dumps(msgspec.to_builtins(moved)))
        return
    for one in moved.columns:
        print(f"{one.column:32} {one.index:8.4f}  {one.verdict}")
    print(f"{party} since {moved.run_id}: {moved.verdict}")


def _train(
    directory: Path,
    recipe: str | None,
    seed: int | None,
    settings: list[str],
    max_shared: int | None,
    report: Path | None,
    plots: Path | None,
    *,
    in_process: bool,
    as_json: bool,
) -> None:
    from ftl.pipeline import report as reporting
    from ftl.pipeline.run import train as train_once
    from ftl.pipeline.services import engine_up

    steps = steps_of(directory, in_process=in_process)
    say = Console(stderr=True, highlight=False).print
    request = steps.request(
        f"run-{now():%Y%m%dT%H%M%S%f}", recipe=recipe, seed=seed, settings=pairs(settings), max_shared=max_shared
    )
    with nullcontext() if in_process else engine_up(steps.folder, say):
        trained = train_once(steps, request, say)
    document = reporting.report(steps.folder, trained)
    if report:
        report.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if plots:
        reporting.write_curves(steps.folder, trained, plots)
    if as_json:
        print(json.dumps(document))
    else:
        Console(highlight=False, width=None if sys.stdout.isatty() else 110).print(reporting.table(document))
