"""A picture of what was collected, by syncs and by streams: rows and lag of every table over time."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ftl.collect import SyncReport
from ftl.collect.stream import StreamStatus
from ftl.consortium import Folder
from ftl.pipeline.journal import Entry, append

_NOTED_SECONDS = 60.0
"""Between two entries of one stream."""
_COUNTED = {"read": "rows", "landed": "landed", "quarantined": "refused"}
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


class StreamNotes:
    """Journals how far streams are: of each table its first batch, then once in a while, and its end.

    Args:
        folder: the consortium.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._noted: dict[str, StreamStatus] = {}

    def note(self, status: StreamStatus) -> None:
        """Add what the stream of a table did since its last entry, if that was anything and is long enough ago."""
        before = self._noted.get(status.table)
        seconds = (status.at - before.at).total_seconds() if before else 0.0
        if before and status.state == "streaming" and seconds < _NOTED_SECONDS:
            return
        if status.rows == (before.rows if before else 0):
            return
        counts = {name: _grown(status, before, of) for name, of in _COUNTED.items()}
        if status.lag_seconds is not None:
            counts["lag_seconds"] = round(status.lag_seconds)
        append(self._folder, Entry("stream", status.at, seconds, status.party, status.table, counts))
        self._noted[status.table] = status


def _grown(status: StreamStatus, before: StreamStatus | None, name: str) -> int:
    return int(getattr(status, name)) - (int(getattr(before, name)) if before else 0)


def write_collected(entries: Sequence[Entry], path: Path) -> bool:
    """Draw the syncs and streams among the entries, rows above and lag below, as a PNG.

    Args:
        entries: of the journal.
        path: the picture.

    Returns:
        whether there was anything to draw.
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
        if entry.step in {"collect", "stream"}:
            syncs[f"{entry.party}.{entry.table}"].append(entry)
    return dict(syncs)
