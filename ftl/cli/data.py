"""A party's own data: collect, gate, query, map."""

from typing import Annotated, Literal

import typer

from ftl import consortium
from ftl.cli.common import Bar, Dir, Json, Party, app, print_rows, print_table, steps_of, tables_of


@app.command(epilog="Example: ftl collect my-consortium --party bank --mode incremental")
def collect(
    directory: Dir,
    party: Party,
    mode: Annotated[Literal["full", "incremental"], typer.Option(help="How to read the source.")] = "full",
    table: Annotated[str | None, typer.Option(help="Only this table; all of them otherwise.")] = None,
    as_json: Json = False,
) -> None:
    """Bring a party's tables from its sources into its lake."""
    steps = steps_of(directory, in_process=True)
    tables = tables_of(steps.folder, party, table)
    with Bar() as bar:
        reports = [steps.collect(party, name, mode, bar.show) for name in tables]
    print_rows(reports, as_json=as_json)


@app.command(epilog="Example: ftl quality my-consortium --party bank")
def quality(
    directory: Dir,
    party: Party,
    table: Annotated[str | None, typer.Option(help="Only this table; all of them otherwise.")] = None,
    as_json: Json = False,
) -> None:
    """Gate what has landed: publish what passes, quarantine what does not."""
    steps = steps_of(directory, in_process=True)
    print_rows([steps.check_quality(party, name) for name in tables_of(steps.folder, party, table)], as_json=as_json)


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
