"""Figures of a run, drawn from aggregated curves only: no person can be read from them.

All four compare the same models on the same holdout. With the holdout's base rate the ROC curve alone gives the gain
and the Kolmogorov–Smirnov curves: at a threshold that flags a share *f* of the good and *t* of the bad, it flags
``(1 − bad) · f + bad · t`` of all people.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ftl.federation import Evaluated, Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SERIES = {
    "active_only": ("active party alone", "#8c8c8c"),
    "federated": ("federated", "#0b6e99"),
    "pooled_reference": ("pooled reference", "#d1791f"),
}
"""Model to label and colour; the colours stay apart for the colour-blind."""
ALONE = ("#7a5195", "#4f8f3a", "#b04a5a")
"""Colours of the passive parties that can answer alone."""

Evaluations = Mapping[str, Evaluation]


def figures(evaluations: Mapping[str, Evaluated]) -> dict[str, Any]:
    """File name to matplotlib figure; none for labels that are not bad or good.

    Args:
        evaluations: ``active_only``, ``federated``, ``alone:PARTY``, ``pooled_reference``, as far as there are any.
    """
    metrics = {name: one for name, one in evaluations.items() if isinstance(one, Evaluation)}
    if not metrics:
        return {}
    return {
        "plots/roc.png": _figure("Receiver operating characteristic", metrics, _roc),
        "plots/ks.png": _figure("Kolmogorov–Smirnov: bad found minus good flagged", metrics, _ks),
        "plots/calibration.png": _figure("Calibration in tenths of the holdout", metrics, _calibration),
        "plots/gain.png": _figure("Gain: bad found among the riskiest", metrics, _gain),
    }


def _figure(title: str, metrics: Evaluations, draw: Callable[["Axes", Evaluations], None]) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    draw(axes, metrics)
    people = next(iter(metrics.values()))
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    figure.supxlabel(f"holdout: {people.people:,} people, {people.bad:,} bad", fontsize=8, color="#666666")
    axes.grid(visible=True, color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return figure


def _series(metrics: Evaluations) -> dict[str, tuple[Evaluation, str, str]]:
    """Model to its figures, its label and its colour."""
    alone = [name for name in metrics if name not in SERIES]
    extra = {
        name: (f"{name.removeprefix('alone:')} alone", ALONE[number % len(ALONE)]) for number, name in enumerate(alone)
    }
    return {name: (one, *(SERIES | extra)[name]) for name, one in metrics.items()}


def _roc(axes: "Axes", metrics: Evaluations) -> None:
    for one, label, colour in _series(metrics).values():
        axes.plot(
            one.curves.false_positive_rate,
            one.curves.true_positive_rate,
            color=colour,
            linewidth=2,
            label=f"{label}: AUC {one.auc:.3f}{_interval(one, 'auc')}",
        )
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linestyle=":", linewidth=1)
    axes.set(xlabel="share of good flagged", ylabel="share of bad found", xlim=(0, 1), ylim=(0, 1.01))


def _ks(axes: "Axes", metrics: Evaluations) -> None:
    for one, label, colour in _series(metrics).values():
        flagged, found = _flagged(one)
        distance = found - np.asarray(one.curves.false_positive_rate)
        axes.plot(flagged, distance, color=colour, linewidth=2, label=f"{label}: KS {one.ks:.3f}{_interval(one, 'ks')}")
        top = int(np.argmax(distance))
        axes.plot(flagged[top], distance[top], marker="o", color=colour, markersize=5)
    axes.set(xlabel="share of people flagged, riskiest first", ylabel="distance", xlim=(0, 1), ylim=(0, None))


def _calibration(axes: "Axes", metrics: Evaluations) -> None:
    highest = 0.0
    for one, label, colour in _series(metrics).values():
        predicted = [point[0] for point in one.curves.calibration]
        observed = [point[1] for point in one.curves.calibration]
        highest = max([highest, *predicted, *observed])
        axes.plot(
            predicted,
            observed,
            color=colour,
            linewidth=1.5,
            marker="o",
            markersize=5,
            label=f"{label}: slope {one.calibration_slope:.2f}, Brier {one.brier:.4f}",
        )
    axes.plot([0, highest], [0, highest], color="#bbbbbb", linestyle=":", linewidth=1)
    axes.set(xlabel="mean predicted probability of default", ylabel="share that defaulted")


def _gain(axes: "Axes", metrics: Evaluations) -> None:
    for one, label, colour in _series(metrics).values():
        flagged, found = _flagged(one)
        among = float(np.interp(0.2, flagged, found))
        axes.plot(flagged, found, color=colour, linewidth=2, label=f"{label}: {among:.0%} among the riskiest 20 %")
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linestyle=":", linewidth=1)
    axes.axvline(0.2, color="#bbbbbb", linewidth=0.8)
    axes.set(xlabel="share of people flagged, riskiest first", ylabel="share of bad found", xlim=(0, 1), ylim=(0, 1.01))


def _flagged(one: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Share of all people flagged and share of the bad found, float64, shape (101,) each."""
    bad = one.bad / one.people
    good_flagged = np.asarray(one.curves.false_positive_rate)
    found = np.asarray(one.curves.true_positive_rate)
    return (1 - bad) * good_flagged + bad * found, found


def _interval(one: Evaluation, metric: str) -> str:
    if metric not in one.intervals:
        return ""
    low, high = one.intervals[metric]
    return f" ({low:.3f}–{high:.3f})"
