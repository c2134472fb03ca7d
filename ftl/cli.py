"""`ftl …`: the command line. Each command is a few lines around a step; errors become one sentence and an exit code.

Exit codes: 0 done; 1 failed for good; 2 wrong usage; 75 failed, but trying again can help (EX_TEMPFAIL of sysexits.h).
"""

import json
import logging
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

import ftl
from ftl import consortium
from ftl.errors import ConsortiumError, FtlError

if TYPE_CHECKING:
    from ftl.collect import SyncProgress
    from ftl.decision import Policy
    from ftl.pipeline.steps import Steps

TEMPORARY_FAILURE = 75

app = typer.Typer(
    name="ftl",
    help="Train and serve one credit model on data that stays with its owners.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Dir = Annotated[Path, typer.Argument(metavar="DIR", help="Folder with consortium.yaml.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]
Party = Annotated[str, typer.Option("--party", "-p", help="A party of consortium.yaml.")]
Set = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="A setting; may be repeated.")]
Recipe = Annotated[str | None, typer.Option(help="Name of the recipe; else what consortium.yaml says.")]
Seed = Annotated[int | None, typer.Option(help="Drives the learner; `run` also redraws a scenario's shared customers.")]
MaxShared = Annotated[int | None, typer.Option(min=0, help="Train on at most so many shared people.")]
InProcess = Annotated[bool, typer.Option("--in-process", help="In-memory channel instead of NVFlare's processes.")]
ReportFile = Annotated[Path | None, typer.Option(help="Write the report (JSON) to this file.")]
NO_SETTINGS: list[str] = []


def main() -> None:
    """Run the command line and exit with its code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    try:
        app()
    except FtlError as error:
        print(f"error: {error.message}", *([f"  → {error.cure}"] if error.cure else []), sep="\n", file=sys.stderr)
        raise SystemExit(TEMPORARY_FAILURE if error.transient else 1) from None


@app.command(epilog="Example: ftl new my-consortium   |   ftl new demo --scenario taiwan --set shared=250")
def new(
    directory: Dir,
    scenario: Annotated[str | None, typer.Option(help="A ready story with data: taiwan, german.")] = None,
    settings: Set = NO_SETTINGS,
    seed: Annotated[int, typer.Option(help="Draws the scenario's shared customers.")] = 0,
) -> None:
    """Write a commented consortium.yaml, or a whole scenario with its data."""
    for path in consortium.new(directory, scenario, {k: str(v) for k, v in _pairs(settings).items()}, seed):
        print(path)


@app.command(epilog="Example: ftl advance demo")
def advance(directory: Dir) -> None:
    """Let time pass at the sources of a scenario: new and changed rows are written to them, for the next sync."""
    for party, rows in consortium.advance(directory).items():
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


@app.command(epilog="Example: ftl collect my-consortium --party bank --mode incremental")
def collect(
    directory: Dir,
    party: Party,
    mode: Annotated[Literal["full", "incremental"], typer.Option(help="How to read the source.")] = "full",
    table: Annotated[str | None, typer.Option(help="Only this table; all of them otherwise.")] = None,
    as_json: Json = False,
) -> None:
    """Bring a party's tables from its sources into its lake."""
    steps = _steps(directory, in_process=True)
    tables = _tables(steps.folder, party, table)
    with _Bar() as bar:
        reports = [steps.collect(party, name, mode, bar.show) for name in tables]
    _print(reports, as_json=as_json)


@app.command(epilog="Example: ftl quality my-consortium --party bank")
def quality(
    directory: Dir,
    party: Party,
    table: Annotated[str | None, typer.Option(help="Only this table; all of them otherwise.")] = None,
    as_json: Json = False,
) -> None:
    """Gate what has landed: publish what passes, quarantine what does not."""
    steps = _steps(directory, in_process=True)
    _print([steps.check_quality(party, name) for name in _tables(steps.folder, party, table)], as_json=as_json)


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
    bring_data(_steps(directory, in_process=True), say)
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
    provision_scoring(folder, _now())
    done = score_file(folder, file, out)
    told = f"{done.scored} of {done.rows} scored, {done.unknown} unknown, {done.degraded} degraded, by {done.model}"
    print(told, file=sys.stderr)


@app.command(epilog="Example: ftl promote my-consortium 3 --reason 'AUC +0.012 on the holdout' --by 'J. Doe'")
def promote(
    directory: Dir,
    version: Annotated[str, typer.Argument(help="Version of the registered model.")],
    reason: Annotated[str, typer.Option(help="Kept with the version.")],
    by: Annotated[str, typer.Option(help="Who approved it.")],
) -> None:
    """Make a model version the champion."""
    print(_steps(directory, in_process=True).promote(version, reason, by))


@app.command(epilog='Example: ftl query my-consortium -p bank "SELECT count(*) FROM validated.accounts"')
def query(
    directory: Dir,
    sql: Annotated[str, typer.Argument(help="One reading statement over landed.NAME and validated.NAME.")],
    party: Party,
    limit: Annotated[int | None, typer.Option(min=1, help="Show at most so many rows.")] = None,
    as_json: Json = False,
) -> None:
    """Ask a party's own lake, inside the party; nothing can be changed, no file or network reached."""
    from ftl.collect import query as ask

    found = ask(consortium.load(directory).node(party), sql, limit)
    _print_table(found.column_names, found.to_pylist(), as_json=as_json)


mapping = typer.Typer(help="Field mappings: try them, or have one proposed.", no_args_is_help=True)
app.add_typer(mapping, name="map")


@mapping.command("test", epilog="Example: ftl map test my-consortium accounts -p bank")
def map_test(
    directory: Dir,
    table: Annotated[str, typer.Argument(help="Lake name of the table.")],
    party: Party,
    rows: Annotated[int, typer.Option(min=1, help="Of the source to try.")] = 20,
) -> None:
    """Run a table's mapping on a few rows of its source: before, after, and what failed."""
    from ftl.collect import try_mapping

    tried = try_mapping(consortium.load(directory).node(party), table, rows)
    for title, shown in (("before", tried.before), ("after", tried.after)):
        turned = [{title: name, **dict(enumerate(shown.column(name).to_pylist()))} for name in shown.column_names]
        _print_table([title, *(f"row {number}" for number in range(1, shown.num_rows + 1))], turned, as_json=False)
    for outcome in sorted(set(tried.outcomes)):
        print(f"{outcome}: {list(tried.outcomes).count(outcome)} rows")
    for failure in tried.failures:
        print(f"row {failure.row}, {failure.column}: expected {failure.expected}; {failure.policy}")


@mapping.command("suggest", epilog="Example: ftl map suggest my-consortium core accounts -p bank")
def map_suggest(
    directory: Dir,
    source: Annotated[str, typer.Argument(help="A source of the party.")],
    table: Annotated[str, typer.Argument(help="Table of the source, or file.")],
    party: Party,
) -> None:
    """Propose a mapping from a source's schema and a sample; a person edits it."""
    from ftl.collect import suggest

    print(suggest(consortium.load(directory).node(party), source, table))


@app.command(epilog='Example: ftl rollback my-consortium --reason "approvals fell" --by "J. Doe"')
def rollback(
    directory: Dir,
    reason: Annotated[str, typer.Option(help="Kept with the version.")],
    by: Annotated[str, typer.Option(help="Who approved it.")],
) -> None:
    """Make the version before the present champion the champion again."""
    print(_steps(directory, in_process=True).roll_back(reason, by))


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

    shares = _pairs(challenger)
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
    for one in _steps(directory, in_process=True).judge(name):
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


policy = typer.Typer(help="Decision policies: try them before they count.", no_args_is_help=True)
app.add_typer(policy, name="policy")
PolicyDir = Annotated[Path | None, typer.Option("--policy", help="Its folder; else the one that counts today.")]


@policy.command("test", epilog="Example: ftl policy test my-consortium --policy my-consortium/policies/2026-07")
def policy_test(directory: Dir, place: PolicyDir = None) -> None:
    """Run a policy's table of examples; exit with 1 when one fails."""
    chosen = _policy(consortium.load(directory), place)
    failures = chosen.failures()
    for one in failures:
        print(f"{one.name}: {one.key} is {one.found!r}, {one.expected!r} was expected")
    print(f"{chosen.declared.name} {chosen.declared.version}: {'failed' if failures else 'passed'}")
    if failures:
        raise SystemExit(1)


@policy.command("diff", epilog="Example: ftl policy diff my-consortium --policy my-consortium/policies/2026-07")
def policy_diff(
    directory: Dir,
    place: PolicyDir = None,
    month: Annotated[list[str], typer.Option(metavar="YYYY-MM", help="May be repeated; all without.")] = NO_SETTINGS,
    as_json: Json = False,
) -> None:
    """What a policy would have decided on the applications that gateways have kept, beside what was decided."""
    from ftl.serving.decisions import applications, replay

    folder = consortium.load(directory)
    files = sorted(applications(folder).glob("*.jsonl"))
    chosen = [path for path in files if not month or path.stem in month]
    _print(replay(_policy(folder, place), chosen, folder.consortium.scorecard), as_json=as_json)


@policy.command("block", epilog="Example: ftl policy block my-consortium --set id_number=… --set phone=…")
def policy_block(directory: Dir, identifiers: Set) -> None:
    """Put a person on the consortium's blacklist; only a keyed hash of the identifiers is kept."""
    from ftl.serving.decisions import block
    from ftl.serving.subjects import subject_of

    folder = consortium.load(directory)
    given = {key: str(value) for key, value in _pairs(identifiers).items()}
    print(f"{block(folder, [subject_of(folder, given)])} people are on the blacklist")


def _policy(folder: consortium.Folder, place: Path | None) -> "Policy":
    from ftl.decision import Policy, effective, policies
    from ftl.serving.decisions import policy_home

    today = datetime.now(UTC).date()
    return Policy(place or effective(policies(policy_home(folder)), today))


clients = typer.Typer(help="Who may ask the gateway: add, list and remove clients.", no_args_is_help=True)
app.add_typer(clients, name="client")


@clients.command("add", epilog="Example: ftl client add my-consortium shop --scope scores --per-second 50")
def client_add(
    directory: Dir,
    name: Annotated[str, typer.Argument(help="Of the client.")],
    scope: Annotated[list[str], typer.Option(help="A service it may use; may be repeated. All without.")] = NO_SETTINGS,
    per_second: Annotated[float, typer.Option(min=0, help="Requests a second; 0 is without limit.")] = 0,
    per_day: Annotated[int, typer.Option(min=0, help="Requests a day; 0 is without limit.")] = 0,
) -> None:
    """Register a client and print its secret, which is kept nowhere."""
    from ftl.serving import provision_scoring
    from ftl.serving.clients import SCOPES, add_client

    chosen = tuple(scope) or SCOPES
    folder = consortium.load(directory)
    provision_scoring(folder, datetime.now(UTC))
    print(add_client(folder, name, chosen, per_second=per_second, per_day=per_day))  # type: ignore[arg-type]


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


@app.command(epilog="Example: ftl drift my-consortium --party bank")
def drift(
    directory: Dir,
    party: Party,
    run_id: Annotated[str | None, typer.Option("--run", help="Since this training run; else the champion's.")] = None,
    as_json: Json = False,
) -> None:
    """Say how far a party's rows have moved since a model was trained on them (population stability index)."""
    moved = _steps(directory, in_process=True).drift(party, run_id)
    if as_json:
        print(json.dumps(msgspec.to_builtins(moved)))
        return
    for one in moved.columns:
        print(f"{one.column:32} {one.index:8.4f}  {one.verdict}")
    print(f"{party} since {moved.run_id}: {moved.verdict}")


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

    _print(services.status(consortium.load(directory)), as_json=as_json)


@app.command(epilog="Example: ftl demo var/demo")
def demo(directory: Dir) -> None:
    """Run the whole story on real data and leave the services up."""
    from ftl.pipeline.demo import demo as tell

    tell(directory, Console(highlight=False, width=None if sys.stdout.isatty() else 110))


@app.command()
def version() -> None:
    """Print the version."""
    print(ftl.__version__)


class _Bar:
    """Shows how far a sync is, on standard error, for as long as it is entered."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, sync: "SyncProgress") -> None:
        name = f"{sync.party}.{sync.table}"
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name)
        self._progress.update(self._tasks[name], completed=sync.rows, total=sync.of)


def _now() -> datetime:
    return datetime.now(UTC)


def _steps(directory: Path, *, in_process: bool) -> "Steps":
    from ftl.pipeline.steps import Steps

    return Steps(consortium.load(directory), _now, in_process=in_process)


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

    steps = _steps(directory, in_process=in_process)
    say = Console(stderr=True, highlight=False).print
    request = steps.request(
        f"run-{_now():%Y%m%dT%H%M%S%f}", recipe=recipe, seed=seed, settings=_pairs(settings), max_shared=max_shared
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


def _tables(folder: consortium.Folder, party: str, table: str | None) -> list[str]:
    parties = folder.consortium.parties
    if party not in parties:
        raise ConsortiumError(f"there is no party {party!r}", cure=f"There are: {', '.join(parties)}.")
    tables = parties[party].tables
    if table is not None and table not in tables:
        raise ConsortiumError(f"party {party} has no table {table!r}", cure=f"It has: {', '.join(tables)}.")
    return [table] if table else list(tables)


def _pairs(given: list[str]) -> dict[str, Any]:
    """`key=value` texts as a mapping; a value that is JSON is taken as such, anything else as text."""
    pairs: dict[str, Any] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise ConsortiumError(f"--set {item!r} is not KEY=VALUE", cure="Write for example --set shared=250.")
        try:
            pairs[key] = json.loads(value)
        except json.JSONDecodeError:
            pairs[key] = value
    return pairs


def _print_table(names: list[str], rows: list[dict[str, Any]], *, as_json: bool) -> None:
    from rich.table import Table

    if as_json:
        print(json.dumps(rows, default=str))
        return
    shown = Table(*names)
    for row in rows:
        shown.add_row(*("" if value is None else str(value) for value in row.values()))
    Console().print(shown)


def _print(rows: list[Any], *, as_json: bool) -> None:
    plain = [msgspec.to_builtins(row) for row in rows]
    if as_json:
        print(json.dumps(plain))
        return
    for row in plain:
        print("  ".join(f"{key}={value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
