"""`ftl run`: every step from the sources to a registered version, without Airflow."""

from collections.abc import Callable

from ftl import consortium
from ftl.federation import Progress, Request
from ftl.pipeline.steps import Steps, Trained

Say = Callable[[str], None]


def bring_data(steps: Steps, say: Say) -> None:
    """Full sync the first time and incremental after it, then the quality gate, for every table of every party.

    In a scenario, time then passes at the sources once, and what is new and changed is brought too.
    """
    sync_and_check(steps, say)
    if steps.folder.consortium.simulation and any(consortium.advance(steps.folder.root).values()):
        say("scenario: time has passed at the sources")
        sync_and_check(steps, say)


def sync_and_check(steps: Steps, say: Say) -> None:
    """One sync and one quality check of every table of every party."""
    for party, its in steps.folder.consortium.parties.items():
        for table in its.tables:
            synced = steps.collect(party, table, steps.mode(party, table))
            say(f"collect: {party}.{table}: " + ("nothing new" if synced.skipped else f"{synced.rows_landed} rows"))
            checked = steps.check_quality(party, table)
            say(f"quality: {party}.{table}: {checked.passed} rows passed, {checked.quarantined} quarantined")


def train(steps: Steps, request: Request, say: Say) -> Trained:
    """Align, train, evaluate and register; needs an engine that is up. The active party's rounds are shown for all."""
    steps.submit(request)
    for progress in steps.watch(request.run_id):
        if progress.party == steps.folder.consortium.active:
            say(line(progress))
    say("register: evaluating and logging to MLflow")
    return steps.finish(request.run_id)


def line(progress: Progress) -> str:
    """One progress report as a person reads it."""
    step = progress.step
    rounds = f" {step.round}/{step.of}" if step.of else f" {step.round}" if step.round else ""
    figures = ", ".join(f"{name} {value:.4f}" for name, value in step.metrics.items())
    return f"{step.phase}{rounds} after {progress.elapsed:.1f} s" + (f": {figures}" if figures else "")
