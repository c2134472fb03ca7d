"""The model card of a version, in the sections of Mitchell et al. (2019), *Model Cards for Model Reporting*, FAT*."""

from ftl.consortium import Consortium
from ftl.federation import Evaluation, Result
from ftl.registry.lineage import Lineage

CARD_FILE = "card.md"
INTENDED = (
    "To rank and price applicants for credit within the consortium, together with a decision policy and with a person "
    "for the cases that the policy refers."
)
UNKNOWN_GROUPS = (
    "Groups by a partner's column are not compared at training, as that would show one party what belongs to another; "
    "nor are groups too small to hide their people. Each experiment compares groups by what an outcome names, and a "
    "challenger under four fifths is held back."
)
NO_GRANT = "nothing is declared (`grant` in consortium.yaml)"
LIMITS = (
    "Valid for people like those it was evaluated on; compare with `ftl drift` before use on others.",
    "A party that does not answer gives a degraded score, which is marked as such.",
    "The holdout is drawn from the training period: it says nothing of how the model ages.",
    "Not for employment, insurance, or any purpose that a party has not agreed to.",
)


def card(consortium: Consortium, result: Result, lineage: Lineage, gate: str) -> str:
    """The card as Markdown; aggregated figures only.

    Args:
        consortium: that trained it.
        result: what the federation said.
        lineage: of the version.
        gate: what the offline gate said, one sentence.
    """
    sections = {
        "Intended use": [INTENDED],
        "Recipe": _recipe(result),
        "Data": _data(consortium, result, lineage),
        "Figures on the holdout": _figures(result),
        "Offline gate": [gate],
        "Fairness": _fairness(consortium, result),
        "Limits": [*(f"- {limit}" for limit in LIMITS), *(f"- {note}" for note in result.notes)],
        "Origin": _origin(lineage),
    }
    if consortium.simulation:
        sections["Simulation"] = [consortium.simulation.notice]
    body = [line for title, lines in sections.items() for line in (f"## {title}", "", *lines, "")]
    return "\n".join([f"# {consortium.training.model_name}, run {result.run_id}", "", *body])


def _recipe(result: Result) -> list[str]:
    settings = [f"| {name} | {value} |" for name, value in sorted(result.settings.items())]
    return [f"`{result.recipe}`, seed {result.seed}.", "", *_table(("setting", "value"), settings)]


def _data(consortium: Consortium, result: Result, lineage: Lineage) -> list[str]:
    rows = [
        f"| {party} | {consortium.parties[party].role} | {one.table} | {_known(one.delta_version)} "
        f"| {result.rows.get(party, 0)} | {result.columns.get(party, 0)} | `{one.part_sha256}` |"
        for party, one in lineage.inputs.items()
    ]
    titles = ("party", "role", "table", "Delta version", "rows", "columns", "SHA-256 of its part")
    shared = ", ".join(f"{count} in {name}" for name, count in result.aligned.items())
    grants = [f"| {party} | {consortium.parties[party].grant or NO_GRANT} |" for party in lineage.inputs]
    return [
        *_table(titles, rows),
        "",
        f"Shared people: {shared}.",
        "",
        *_table(("party", "its rows may be used"), grants),
    ]


def _figures(result: Result) -> list[str]:
    rows = [
        f"| {model} | {name} | {one.figures[name]:.4f} | {low:.4f} | {high:.4f} |"
        for model, one in result.metrics.items()
        for name, (low, high) in one.intervals.items()
    ]
    people = next((one for one in result.metrics.values() if isinstance(one, Evaluation)), None)
    counts = [f"{people.people} people, {people.bad} of them bad.", ""] if people else []
    return [*counts, *_table(("model", "figure", "value", "95 % low", "95 % high"), rows)]


def _fairness(consortium: Consortium, result: Result) -> list[str]:
    rows = [
        f"| {party} | {', '.join(its.features.protected) or 'none'} | {', '.join(its.features.proxies) or 'none'} |"
        for party, its in consortium.parties.items()
        if its.features.protected or its.features.proxies
    ]
    compared = [
        f"| {one.column} | {one.value} | {one.people} | {_rate(one.approval)} | {_rate(one.bad)} | {_rate(one.auc)} |"
        for one in result.groups
    ]
    titles = ("column", "group", "people", "approval rate", "bad rate", "AUC")
    return [
        *_table(("party", "protected columns, never named as a reason", "their proxies, never named either"), rows),
        "",
        f"Approved at a probability of default up to {consortium.registry.cutoff:g}; 95 % intervals.",
        "",
        *_table(titles, compared),
        "",
        UNKNOWN_GROUPS,
    ]


def _rate(rate: tuple[float, float, float]) -> str:
    value, low, high = rate
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _origin(lineage: Lineage) -> list[str]:
    return [
        f"- ftl {lineage.ftl_version}",
        f"- git commit: {_known(lineage.git_commit)}",
        f"- SHA-256 of the lock file: {_known(lineage.lock_sha256)}",
    ]


def _known(value: object) -> str:
    return "not known" if value is None else f"{value}"


def _table(titles: tuple[str, ...], rows: list[str]) -> list[str]:
    return [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}", *rows] if rows else ["None."]
