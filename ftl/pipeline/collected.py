"""A picture of what was collected: rows and lag of every table over time."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ftl.collect import SyncReport
from ftl.pipeline.journal import Entry

_COLOURS = ("#0b6e99", "#d1791f", "#4f8f3a", "#7a5195", "#b04a5a", "#8c8c8c")


def lag_seconds(report: SyncReport, now: datetime) -> int | None:
    """How old the newest landed row is; None where the table has no cursor, or one that is no time."""
    text = report.position or ""
    if "-" not in text[1:]:
        return None  # a number
    try:
        newest = datetime.fromisoformat(text)
    except ValueError:
        return None
    if newest.tzinfo is None:
        newest = newest.replace(tzinfo=now.tzinfo)  # a date begins with its first moment
    return max(0, int((now - newest).total_seconds()))


def write_collected(entries: Sequence[Entry], path: Path) -> bool:
    """Draw the syncs among the entries, rows above and lag below, as a PNG.

    Args:
        entries: of the journal.
        path: the picture.

    Returns:
        whether there was any sync to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    syncs = _by_table(entries)
    if not syncs:
        return False
    figure = Figure(figsize=(7.2, 5.6), dpi=130, layout="constrained")
    rows, lag = figure.subplots(2, 1, sharex=True)
    for place, (name, done) in enumerate(syncs.items()):
        colour, moments = _COLOURS[place % len(_COLOURS)], [entry.at for entry in done]
        landed = [entry.counts.get("landed", 0) for entry in done]
        totals = [sum(landed[: end + 1]) for end in range(len(landed))]
        rows.plot(moments, totals, color=colour, marker="o", markersize=3, drawstyle="steps-post", label=name)
        late = [(entry.at, entry.counts["lag_seconds"] / 3600) for entry in done if "lag_seconds" in entry.counts]
        if late:
            lag.plot(*zip(*late, strict=True), color=colour, marker="o", markersize=3, label=name)
    for axes, title in ((rows, "rows landed, in all"), (lag, "lag: age of the newest row, hours")):
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.grid(visible=True, color="#e6e6e6", linewidth=0.8)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    rows.legend(frameon=False, fontsize=8)
    figure.autofmt_xdate()
    FigureCanvasAgg(figure).print_png(str(path))
    return True


def _by_table(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    syncs = defaultdict[str, list[Entry]](list)
    for entry in entries:
        if entry.step == "collect":
            syncs[f"{entry.party}.{entry.table}"].append(entry)
    return dict(syncs)
