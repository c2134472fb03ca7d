"""Registered models: promote, roll back, let challengers compete."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from ftl import consortium
from ftl.cli.common import Dir, Json, app, pairs, steps_of
from ftl.errors import ConsortiumError

if TYPE_CHECKING:
    from ftl.registry import ModelVersion


@app.command(epilog="Example: ftl promote my-consortium 3 --reason 'AUC +0.012 on the holdout' --by 'J. Doe'")
def promote(
    directory: Dir,
    version: Annotated[str, typer.Argument(help="Version of the registered model.")],
    reason: Annotated[str, typer.Option(help="Kept with the version.")],
    by: Annotated[str, typer.Option(help="Who approved it.")],
) -> None:
    """Make a model version the champion."""
    _print_version(steps_of(directory, in_process=True).promote(version, reason, by))


@app.command(epilog='Example: ftl rollback my-consortium --reason "approvals fell" --by "J. Doe"')
def rollback(
    directory: Dir,
    reason: Annotated[str, typer.Option(help="Kept with the version.")],
    by: Annotated[str, typer.Option(help="Who approved it.")],
) -> None:
    """Make the version before the present champion the champion again."""
    _print_version(steps_of(directory, in_process=True).roll_back(reason, by))


experiment = typer.Typer(help="Champion against challenger on live traffic.", no_args_is_help=True)
app.add_typer(experiment, name="experiment")
ExperimentName = Annotated[str, typer.Argument(metavar="NAME", help="Of the experiment.")]


@experiment.command("start", epilog="Example: ftl experiment start my-consortium spring --challenger 7=0.2")
def experiment_start(
    directory: Dir,
    name: ExperimentName,
    challenger: Annotated[list[str], typer.Option(metavar="VERSION=SHARE", help="May be repeated.")],
    mode: Annotated[str, typer.Option(help="split: challengers answer; shadow: they are only scored.")] = "split",
    policy: Annotated[str, typer.Option(help="What becomes of a winner: automatic, ask or never.")] = "ask",
    cutoff: Annotated[float, typer.Option(help="Probability of default up to which one is approved.")] = 0.2,
    alpha: Annotated[float, typer.Option(help="Chance of promoting a challenger that is no better.")] = 0.05,
) -> None:
    """Let challengers compete with the present champion."""
    from ftl.registry import competition

    shares = pairs(challenger)
    if not all(isinstance(share, float) for share in shares.values()):
        raise ConsortiumError("A share is a number between 0 and 1.", cure="Write for example --challenger 7=0.2.")
    rule = competition.StopRule(alpha=alpha)
    began = competition.start(
        consortium.load(directory),
        name,
        shares,
        datetime.now(UTC),
        mode=mode,  # type: ignore[arg-type]
        policy=policy,  # type: ignore[arg-type]
        cutoff=cutoff,
        stop=rule,
    )
    print(f"{began.name}: version {began.champion} against {', '.join(shares)}")


@experiment.command("list", epilog="Example: ftl experiment list my-consortium")
def experiment_list(directory: Dir) -> None:
    """Say which experiments there are and how they stand."""
    from ftl.registry import competition

    for one in competition.experiments(consortium.load(directory)):
        state = f"ended {one.ended:%Y-%m-%d}: {one.why}" if one.ended else f"{one.mode} since {one.started:%Y-%m-%d}"
        print(f"{one.name}: version {one.champion} against {', '.join(one.challengers)}; {state}")


@experiment.command("judge", epilog="Example: ftl experiment judge my-consortium spring")
def experiment_judge(directory: Dir, name: ExperimentName, as_json: Json = False) -> None:
    """Compare on the outcomes known so far; looking often does no harm."""
    for one in steps_of(directory, in_process=True).judge(name):
        if as_json:
            print(msgspec.json.encode(one).decode())
        else:
            print(f"version {one.challenger}: {one.decision}. {one.why} p = {one.p:.4f}")


@experiment.command("end", epilog='Example: ftl experiment end my-consortium spring --reason "model withdrawn"')
def experiment_end(
    directory: Dir, name: ExperimentName, reason: Annotated[str, typer.Option(help="Kept with the experiment.")]
) -> None:
    """End an experiment; its champion answers everybody again."""
    from ftl.registry import competition

    competition.end(consortium.load(directory), name, datetime.now(UTC), reason)
    print(f"{name} has ended")


def _print_version(model: "ModelVersion") -> None:
    print(f"{model.name} version {model.version}: {', '.join(model.aliases)}")
