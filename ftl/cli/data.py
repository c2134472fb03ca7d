"""A party's own data: collect, gate, query, map."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal

import typer

from ftl import consortium
from ftl.cli.common import (
    Bar,
    Dir,
    Json,
    Party,
    WithDefault,
    app,
    now,
    print_rows,
    print_table,
    steps_of,
    tables_of,
    version_or_time,
)


@app.command(epilog="Example: ftl collect my-consortium --party bank --mode incremental")
def collect(
    directory: Dir,
    party: Party,
    mode: Annotated[
        Literal["full", "incremental", "stream"],
        typer.Option(help="How to read the source; a stream runs until stopped."),
    ] = "full",
    table: Annotated[str | None, typer.Option(help="Only this table; all of them otherwise.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Merge only rows with this cursor or a later one.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Merge only rows with an earlier cursor than this.")] = None,
    as_json: Json = False,
) -> None:
    """Bring a party's tables from its sources into its lake."""
    from ftl.collect import Interval

    if mode == "stream":
        _follow(directory, party, table, as_json=as_json)
        return
    steps = steps_of(directory, in_process=True)
    tables = tables_of(steps.folder, party, table)
    interval = None if start is None and until is None else Interval(start, until)
    with Bar() as bar:
        reports = [
            steps.collect(party, name, mode if interval is None else "incremental", bar.show, interval)
            for name in tables
        ]
    print_rows(reports, as_json=as_json)


def _follow(directory: Path, party: str, table: str | None, *, as_json: bool) -> None:
    """Follow change streams and watch folders until SIGTERM or Ctrl-C; the batch under way is finished."""
    from ftl.collect import watch, watchable
    from ftl.collect.stream import follow, followable
    from ftl.pipeline.collected import StreamNotes

    folder, stop = consortium.load(directory), threading.Event()
    named = tables_of(folder, party, table)
    node = folder.node(party)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    tables = named if table is not None else [*followable(node), *watchable(node)] or named
    watched = [name for name in tables if name in watchable(node)]
    followed = [name for name in tables if name not in watched]
    work = [(follow, followed, StreamNotes(folder).note)] if followed else []
    work += [(watch, watched, None)] if watched else []  # type: ignore[list-item]
    with ThreadPoolExecutor(max_workers=len(work)) as pool:
        running = [pool.submit(what, node, some, now, stop, told) for what, some, told in work]
        for one in running:
            one.add_done_callback(lambda _: stop.set())  # the end of either is the end of both
    print_rows([row for one in running for row in one.result()], as_json=as_json)


@app.command(epilog="Example: ftl streams my-consortium --party bank")
def streams(
    directory: Dir,
    party: Party,
    drop: Annotated[str | None, typer.Option(help="Remove what following this table created at its source.")] = None,
    as_json: Json = False,
) -> None:
    """Show how far a party's change streams are."""
    from ftl.collect.stream import drop_stream, status_of

    folder = consortium.load(directory)
    tables = tables_of(folder, party, drop)
    node = folder.node(party)
    if drop is not None:
        drop_stream(node, drop)
        return
    print_rows([status for name in tables if (status := status_of(node, name)) is not None], as_json=as_json)


class _Quality(WithDefault):
    default = "check"


class _Quarantine(WithDefault):
    default = "list"


quality = typer.Typer(
    cls=_Quality,
    help="Gate what has landed, or learn what it should be like.",
    epilog="Example: ftl quality my-consortium --party bank",
    no_args_is_help=True,
)
app.add_typer(quality, name="quality")
quarantine = typer.Typer(
    cls=_Quarantine,
    help="Rows that stand refused: see them, land them.",
    epilog="Example: ftl quarantine my-consortium --party bank",
    no_args_is_help=True,
)
app.add_typer(quarantine, name="quarantine")


@quality.command("check", epilog="Example: ftl quality my-consortium --party bank")
def quality_check(
    directory: Dir,
    party: Party,
    table: Annotated[str | None, typer.Option(help="Only this table; all of them otherwise.")] = None,
    as_json: Json = False,
) -> None:
    """Gate what has landed: publish what passes, quarantine what does not."""
    steps = steps_of(directory, in_process=True)
    print_rows([steps.check_quality(party, name) for name in tables_of(steps.folder, party, table)], as_json=as_json)


@quality.command("learn", epilog="Example: ftl quality learn my-consortium -p bank --table accounts")
def quality_learn(
    directory: Dir,
    party: Party,
    table: Annotated[str | None, typer.Option(help="Only this table; all of them otherwise.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that was learned before.")] = False,
    as_json: Json = False,
) -> None:
    """Write a baseline suite from what is published now, or has landed: a Python file for a person to edit."""
    from ftl.quality import learn

    folder = consortium.load(directory)
    node, tables = folder.node(party), tables_of(folder, party, table)
    print_rows([learn(node, name, now, overwrite=overwrite) for name in tables], as_json=as_json)


@quarantine.command("list", epilog="Example: ftl quarantine my-consortium --party bank")
def quarantine_list(
    directory: Dir,
    party: Party,
    table: Annotated[str | None, typer.Option(help="Only this table; all of them otherwise.")] = None,
    rows: Annotated[bool, typer.Option("--rows", help="Print the rows themselves, which hold personal data.")] = False,
    as_json: Json = False,
) -> None:
    """Show what stands refused now, counted by reason, or row by row."""
    from ftl.quality import quarantined, refusals

    folder = consortium.load(directory)
    node, tables = folder.node(party), tables_of(folder, party, table)
    if not rows:
        print_rows([count for name in tables for count in refusals(node, name)], as_json=as_json)
        return
    found = [{"table": name, **row} for name in tables for row in quarantined(node, name).to_pylist()]
    print_table(["table", "stage", "decision", "batch", "key", "reason", "raw", "at"], found, as_json=as_json)


@quarantine.command("replay", epilog="Example: ftl quarantine replay my-consortium -p bank --table accounts")
def quarantine_replay(
    directory: Dir,
    party: Party,
    table: Annotated[str | None, typer.Option(help="Only this table; all of them otherwise.")] = None,
    as_json: Json = False,
) -> None:
    """Land refused records whose mapping has been corrected, without reading the source again."""
    from ftl.collect import replay

    folder = consortium.load(directory)
    node, tables = folder.node(party), tables_of(folder, party, table)
    print_rows([replay(node, name, now) for name in tables], as_json=as_json)


@app.command(epilog='Example: ftl query my-consortium -p bank "SELECT count(*) FROM validated.accounts"')
def query(
    directory: Dir,
    sql: Annotated[str, typer.Argument(help="One reading statement over landed.NAME and validated.NAME.")],
    party: Party,
    limit: Annotated[int | None, typer.Option(min=1, help="Show at most so many rows.")] = None,
    as_of: Annotated[str | None, typer.Option(help="A Delta version, or a time: the tables as they were then.")] = None,
    as_json: Json = False,
) -> None:
    """Ask a party's own lake, inside the party; nothing can be changed, no file or network reached."""
    from ftl.collect import query as ask

    found = ask(consortium.load(directory).node(party), sql, limit, version_or_time(as_of))
    print_table(found.column_names, found.to_pylist(), as_json=as_json)


@app.command(epilog="Example: ftl changes my-consortium accounts -p bank --since 12 --json")
def changes(
    directory: Dir,
    table: Annotated[str, typer.Argument(help="Lake name of the table.")],
    party: Party,
    since: Annotated[int, typer.Option(min=0, help="Delta version that you already have.")],
    until: Annotated[int | None, typer.Option(min=0, help="Up to this version; the newest otherwise.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write them to this Parquet file instead.")] = None,
    as_json: Json = False,
) -> None:
    """Print what changed in a landed table: rows inserted, updated and deleted."""
    from ftl.collect import changes as changed
    from ftl.collect import write_changes

    folder = consortium.load(directory)
    (name,) = tables_of(folder, party, table)
    if out is not None:
        print(f"{write_changes(folder.node(party), name, since, until, out)} changes written to {out}")
        return
    found = changed(folder.node(party), name, since, until)
    print_table(found.column_names, found.to_pylist(), as_json=as_json)


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
        print_table([title, *(f"row {number}" for number in range(1, shown.num_rows + 1))], turned, as_json=False)
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
