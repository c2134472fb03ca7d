"""Decision policies: try them before they count."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftl import consortium
from ftl.cli.common import NO_SETTINGS, Dir, Json, Set, app, pairs, print_rows

if TYPE_CHECKING:
    from ftl.decision import Policy

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
    settings = folder.consortium
    rows = replay(_policy(folder, place), chosen, settings.scorecard, settings.income)
    print_rows(rows, as_json=as_json)
    if not rows and not as_json:
        print("no application has been kept")


@policy.command("block", epilog="Example: ftl policy block my-consortium --set id_number=… --set phone=…")
def policy_block(directory: Dir, identifiers: Set) -> None:
    """Put a person on the consortium's blacklist; only a keyed hash of the identifiers is kept."""
    from ftl.serving.decisions import block
    from ftl.serving.subjects import subject_of

    folder = consortium.load(directory)
    given = {key: str(value) for key, value in pairs(identifiers).items()}
    print(f"{block(folder, [subject_of(folder, given)])} people are on the blacklist")


def _policy(folder: consortium.Folder, place: Path | None) -> "Policy":
    from ftl.decision import Policy, effective, policies
    from ftl.serving.decisions import policy_home

    today = datetime.now(UTC).date()
    return Policy(place or effective(policies(policy_home(folder)), today))
