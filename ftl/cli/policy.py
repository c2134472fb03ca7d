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


@policy.command("list", epilog="Example: ftl policy list my-consortium")
def policy_list(directory: Dir) -> None:
    """Say which versions there are, from when each counts, who approved it, and which one decides today."""
    from ftl.decision import effective, policies
    from ftl.decision.declared import POLICY, Declared, read
    from ftl.serving.decisions import policy_home

    places = policies(policy_home(consortium.load(directory)))
    today = effective(places, datetime.now(UTC).date())
    for place, one in sorted(
        ((at, read(at / POLICY, Declared)) for at in places), key=lambda two: two[1].effective_from
    ):
        sealed = "approved" if one.approved_digest else "named"
        mark = "; decides today" if place == today else ""
        print(f"{one.name} {one.version}: from {one.effective_from}, {sealed} by {one.approved_by}{mark}")


@policy.command("approve", epilog='Example: ftl policy approve my-consortium/policies/2026-07 --by "J. Doe"')
def policy_approve(
    place: Annotated[Path, typer.Argument(help="The policy's folder.")],
    by: Annotated[str, typer.Option(help="Who approves it.")],
    effective: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")] = None,
) -> None:
    """Seal a policy that passes its examples; gateways refuse it when it is changed afterwards."""
    from ftl.decision.approval import approve

    one = approve(place, by, effective.date() if effective else None).declared
    print(f"{one.name} {one.version} counts from {one.effective_from}, approved by {one.approved_by}")


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
