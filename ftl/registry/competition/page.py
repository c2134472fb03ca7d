"""The page of an experiment: one self-contained HTML document, from aggregates only; it loads nothing from anywhere.

Every curve has a title and a description that a screen reader speaks, and the figures stand beside it in tables with
header cells; wide tables scroll by keyboard.
"""

import logging
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from ftl.consortium import Folder
from ftl.registry import store
from ftl.registry.competition.comparison import Comparison, Figures, roc
from ftl.registry.competition.experiment import Experiment, home, read_experiment
from ftl.registry.competition.observations import Observations, observations
from ftl.registry.competition.verdict import Verdict, looks

log = logging.getLogger(__name__)

STYLE = Path(__file__).with_name("page.css")
SIDE = 300
"""Of a plot, in the drawing's own units."""
FIGURES = {
    "auc": "AUC",
    "ks": "KS",
    "calibration": "Predicted over observed bad rate",
    "approval": "Approval rate at the cut-off",
    "bad_rate": "Bad rate of the approved",
    "profit": "Profit per applicant, for a loan of 1",
    "milliseconds_p99": "Latency, 99th percentile (ms)",
    "degraded": "Share without a party it needs",
    "disparity": "Lowest approval rate of a group over the highest",
    "errors": "Share of requests without an answer",
}


def experiment_page(folder: Folder, name: str) -> str:
    """The page as it stands after the last look.

    Args:
        folder: the consortium.
        name: of the experiment.

    Raises:
        RegistryError: there is no such experiment, or what was observed is unreadable.
    """
    experiment, seen = read_experiment(folder, name), looks(folder, name)
    parts = [_challenger(folder, experiment, one, seen) for one in experiment.challengers]
    title = f"Experiment {escape(name)}"
    return "\n".join(
        [
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
            f'<meta name="viewport" content="width=device-width"><style>{STYLE.read_text()}</style></head>',
            f'<body><main><h1>{title}</h1>\n<p role="status">{_state(experiment)}</p>',
            _split(experiment),
            *parts,
            "</main></body></html>\n",
        ]
    )


def publish(folder: Folder, name: str) -> None:
    """Keep the page as an artefact of the run of each challenger, at ``experiments/NAME.html``.

    Raises:
        RegistryError: there is no such experiment or version.
        RegistryUnavailable: MLflow does not answer.
    """
    experiment, text, uri = read_experiment(folder, name), experiment_page(folder, name), store.tracking_uri(folder)
    with store.asking(f"keeping the page of experiment {name}", uri):
        client = store.client(uri)
        for version in experiment.challengers:
            run = client.get_model_version(experiment.model, version).run_id
            client.log_text(run, text, f"experiments/{name}.html")
    log.info("registry.experiment published", extra={"experiment": name})


def _state(experiment: Experiment) -> str:
    if experiment.ended:
        return f"Ended on {experiment.ended:%Y-%m-%d}: {escape(experiment.why)}"
    return f"Under way since {experiment.started:%Y-%m-%d}."


def _split(experiment: Experiment) -> str:
    rest = 1 - sum(experiment.challengers.values())
    kind = "answers" if experiment.mode == "split" else "is only scored, never answered"
    rows = [(f"version {experiment.champion}", "champion", f"{rest:.0%}", "answers")]
    rows += [(f"version {one}", "challenger", f"{share:.0%}", kind) for one, share in experiment.challengers.items()]
    rule = (
        f"A winner: {experiment.policy}. At most {experiment.stop.alpha:.0%} of challengers that are no better are "
        f"promoted, however often one looks. Cut-off: a probability of default of {experiment.cutoff:g}."
    )
    return _table("Split of the applicants", ("Model", "Role", "Share", "It"), rows) + f"<p>{escape(rule)}</p>"


def _challenger(folder: Folder, experiment: Experiment, version: str, seen: Sequence[Verdict]) -> str:
    own = [one for one in seen if one.challenger == version]
    heading = f"<section><h2>Version {escape(version)} against version {escape(experiment.champion)}</h2>"
    if not own:
        return f"{heading}<p>Nobody has looked yet.</p></section>"
    last = own[-1]
    verdict = f"<p><strong>{last.decision.capitalize()}.</strong> {escape(last.why)} p = {last.p:.4f}.</p>"
    guards = "".join(f"<li>{escape(one)}</li>" for one in last.broken) or "<li>None is broken.</li>"
    guardrails = f"<h3>Guardrails</h3><ul>{guards}</ul>"
    if last.comparison is None:
        return f"{heading}{verdict}{guardrails}</section>"
    observed = observations(home(folder) / experiment.name, experiment.champion, version)
    drawn = _roc(version, observed) if 0 < observed.label.sum() < len(observed.label) else ""
    lines = guardrails, _figures(last.comparison), drawn, _looks(version, own)
    return "\n".join([heading, verdict, *lines, "</section>"])


def _figures(comparison: Comparison) -> str:
    rows = [(title, *_pair(comparison.champion, comparison.challenger, name)) for name, title in FIGURES.items()]
    caption = f"Figures on {comparison.people} people with a known outcome, {comparison.bad} of them bad"
    return _table(caption, ("Figure", "Champion", "Challenger"), rows)


def _pair(champion: Figures, challenger: Figures, name: str) -> tuple[str, str]:
    old, new = (getattr(one, name) for one in (champion, challenger))
    return _number(old), _number(new)


def _number(value: float | None) -> str:
    return "none yet" if value is None else f"{value:.4f}"


def _roc(version: str, seen: Observations) -> str:
    curves = {"champion": roc(seen.label, seen.champion), "challenger": roc(seen.label, seen.challenger)}
    lines = "".join(
        f'<polyline class="{role}" points="{_points(zip(x, y, strict=True))}"/>' for role, (x, y) in curves.items()
    )
    return _figure(
        f"roc-{version}", "ROC curves", "Share of the bad found, against share of the good refused, from 0 to 1.", lines
    )


def _looks(version: str, own: Sequence[Verdict]) -> str:
    rows = [
        (f"{one.at:%Y-%m-%d %H:%M}", one.decision, f"{one.p:.4f}", f"{one.low:+.4f}", f"{one.high:+.4f}") for one in own
    ]
    scale = max(len(own) - 1, 1)
    line = f'<polyline class="challenger" points="{_points((n / scale, one.p) for n, one in enumerate(own))}"/>'
    curve = _figure(
        f"p-{version}", "p-value of each look", "From the first look to the last; the smaller, the surer.", line
    )
    titles = ("Look", "Verdict", "p", "AUC difference from", "to")
    return curve + _table("All looks; p and the interval hold at all of them together", titles, rows)


def _points(curve: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x * SIDE:.1f},{(1 - y) * SIDE:.1f}" for x, y in curve)


def _figure(name: str, title: str, description: str, lines: str) -> str:
    legend = "Champion: dashed line. Challenger: solid line."
    return (
        f'<figure><svg viewBox="-5 -5 {SIDE + 10} {SIDE + 10}" role="img" aria-labelledby="{name}-title {name}-text">'
        f'<title id="{name}-title">{title}</title><desc id="{name}-text">{description}</desc>'
        f'<rect width="{SIDE}" height="{SIDE}"/>{lines}</svg>'
        f"<figcaption>{title}. {description} {legend}</figcaption></figure>"
    )


def _table(caption: str, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    label = escape(caption, quote=True)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{label}"><table><caption>{label}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
