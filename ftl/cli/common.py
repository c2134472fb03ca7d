"""What the commands share: options, how a value is read from the command line, how an answer is printed."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from typer.core import TyperGroup

from ftl import consortium
from ftl.errors import ConsortiumError

if TYPE_CHECKING:
    from ftl.collect import SyncProgress
    from ftl.pipeline.steps import Steps

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
NO_SETTINGS: list[str] = []


class WithDefault(TyperGroup):
    """A group of commands of which one, `default`, need not be named."""

    default = ""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Name the default where no command is named."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [self.default, *args]
        return super().parse_args(ctx, args)


class Bar:
    """Shows how far a sync is, on standard error, for as long as it is entered."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("rows  {task.fields[speed]:.1f} MB/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, sync: "SyncProgress") -> None:
        """Move the bar of this table to where its sync is."""
        name = f"{sync.party}.{sync.table}"
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, speed=0.0)
        self._progress.update(self._tasks[name], completed=sync.rows, total=sync.of, speed=sync.speed)


def now() -> datetime:
    """Give the present moment in UTC."""
    return datetime.now(UTC)


def steps_of(directory: Path, *, in_process: bool) -> "Steps":
    """Open the steps of the consortium in `directory`."""
    from ftl.pipeline.steps import Steps

    return Steps(consortium.load(directory), now, in_process=in_process)


def tables_of(folder: consortium.Folder, party: str, table: str | None) -> list[str]:
    """Name all tables of a party, or the one that was asked for."""
    parties = folder.consortium.parties
    if party not in parties:
        raise ConsortiumError(f"there is no party {party!r}", cure=f"There are: {', '.join(parties)}.")
    tables = parties[party].tables
    if table is not None and table not in tables:
        raise ConsortiumError(f"party {party} has no table {table!r}", cure=f"It has: {', '.join(tables)}.")
    return [table] if table else list(tables)


def pairs(given: list[str]) -> dict[str, Any]:
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


def version_or_time(text: str | None) -> int | datetime | None:
    """A Delta version, or a moment, which is in UTC where it names no zone."""
    if text is None or text.isdecimal():
        return None if text is None else int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise ConsortiumError(
            f"{text!r} is no version and no time", cure="Write for example 12 or 2026-11-23T10:00."
        ) from exc
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def print_table(names: list[str], rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print rows under the names of their columns, or as one JSON list."""
    from rich.table import Table

    if as_json:
        print(json.dumps(rows, default=str))
        return
    shown = Table(*names)
    for row in rows:
        shown.add_row(*("" if value is None else str(value) for value in row.values()))
    Console().print(shown)


def print_rows(rows: list[Any], *, as_json: bool) -> None:
    """Print structs as one line each, or as one JSON list."""
    plain = [msgspec.to_builtins(row) for row in rows]
    if as_json:
        print(json.dumps(plain))
        return
    for row in plain:
        print("  ".join(f"{key}={value}" for key, value in row.items()))
