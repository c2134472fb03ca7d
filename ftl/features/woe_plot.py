"""A picture of one column's bins for its owner, as SVG: no library is needed to draw or to look at it."""

from xml.sax.saxutils import escape

from ftl.features.woe_table import WoeBin, WoeTable

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 60, 60, 50, 80
LONGEST = 18
"""Characters of a bin's caption."""


def plot(table: WoeTable) -> bytes:
    """Bars are shares of people; points, where it is known, the weight of evidence (above 0 better than average)."""
    title = f"{table.column}   information value {table.information_value:.3g}"
    verdict = "selected" if table.selected else f"not selected: {table.reason}"
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 22, title, size=15, anchor="start"),
        _text(LEFT, 40, verdict, size=11, anchor="start"),
        *_bars(table),
        *(_points(table) if table.told else [_text(WIDTH - RIGHT, 22, "weight of evidence not told", anchor="end")]),
        "</svg>",
    ]
    return "\n".join(drawn).encode()


def caption(each: WoeBin) -> str:
    """Which values are in a bin, in a few characters; where it begins is said by the one before."""
    parts = []
    if each.categories:
        parts.append(", ".join(each.categories))
    elif each.high is not None:
        parts.append(f"≤ {each.high:.5g}")
    elif each.low is not None:
        parts.append(f"> {each.low:.5g}")
    if each.missing:
        parts.append("missing")
    text = ", ".join(parts) or "all"
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _bars(table: WoeTable) -> list[str]:
    people = sum(each.people for each in table.bins)
    most = max(each.people for each in table.bins) / people
    drawn = [_text(14, HEIGHT / 2, "share of people", turned=True)]
    for number, each in enumerate(table.bins):
        share = each.people / people
        height = _room() * share / most
        left, middle, width = _place(table, number)
        top = HEIGHT - BOTTOM - height
        drawn += [
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" fill="#b8c9dd"/>',
            _text(middle, HEIGHT - BOTTOM - 6, f"{share:.1%}"),
            _text(middle, HEIGHT - BOTTOM + 18, caption(each)),
        ]
    return drawn


def _points(table: WoeTable) -> list[str]:
    known = [(number, each.woe) for number, each in enumerate(table.bins) if each.woe is not None]
    most = max(*(abs(woe) for _, woe in known), 1e-9)
    at = [(_place(table, number)[1], _height(woe / most), woe) for number, woe in known]
    joined = 0 if table.categorical else len(at) - _gap_apart(table)  # neighbours only
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in at[:joined])
    zero = _height(0.0)
    return [
        f'<line x1="{LEFT}" y1="{zero:.1f}" x2="{WIDTH - RIGHT}" y2="{zero:.1f}" stroke="#999" stroke-dasharray="4"/>',
        _text(WIDTH - RIGHT + 22, zero, "0"),
        f'<polyline points="{line}" fill="none" stroke="#b03a2e" stroke-width="2"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#b03a2e"/>' for x, y, _ in at),
        *(_text(x, y - 8, f"{woe:+.2f}") for x, y, woe in at),
        _text(WIDTH - 14, HEIGHT / 2, "weight of evidence", turned=True),
    ]


def _gap_apart(table: WoeTable) -> bool:
    """Whether the last bin drawn is for missing values alone."""
    last = table.bins[-1]
    return not last.known and last.woe is not None


def _place(table: WoeTable, number: int) -> tuple[float, float, float]:
    """Left edge, middle and width of a bar."""
    step = (WIDTH - LEFT - RIGHT) / len(table.bins)
    return LEFT + step * (number + 0.1), LEFT + step * (number + 0.5), step * 0.8


def _room() -> float:
    return HEIGHT - TOP - BOTTOM - 20


def _height(share: float) -> float:
    """Where a share between -1 and 1 of the greatest weight of evidence is drawn."""
    return TOP + 20 + _room() * (1 - share) / 2 * 0.9


def _text(x: float, y: float, text: str, *, size: int = 10, anchor: str = "middle", turned: bool = False) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{turn}>{escape(text)}</text>'
