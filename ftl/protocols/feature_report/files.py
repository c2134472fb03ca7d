"""What a party gets for its own eyes: its bins as a table, as SQL and as pictures."""

import re
from collections.abc import Sequence

import msgspec

from ftl.features.woe_plot import plot
from ftl.features.woe_table import WoeTable, derived

PLAIN = re.compile(r"[A-Za-z0-9_]{1,80}")
"""Column names that can be file names."""


def private_files(tables: Sequence[WoeTable]) -> dict[str, bytes]:
    """File name to content; the files stay at the node.

    `bins.json` holds every column's bins; `derived.yaml` the columns coded by bin, to be put under a table in
    `consortium.yaml`; `bins-COLUMN.svg` is the picture of one column.
    """
    ordered = sorted(tables, key=lambda table: -table.information_value)
    files = {
        "bins.json": msgspec.json.format(msgspec.json.encode(ordered), indent=1),
        "derived.yaml": _yaml(ordered).encode(),
    }
    for table in ordered:
        name = table.column if PLAIN.fullmatch(table.column) else f"column-{table.number}"
        files[f"bins-{name}.svg"] = plot(table)
    return files


def _yaml(tables: Sequence[WoeTable]) -> str:
    lines = [
        "# Copy what you want under the table of these columns in consortium.yaml, and list it under features.columns.",
        "derived:",
    ]
    for table in tables:
        verdict = "selected" if table.selected else f"not selected: {table.reason}"
        name, expression = derived(table)
        lines += [
            f"  # information value {table.information_value:.4g}, {verdict}",
            f"  {name}: {msgspec.json.encode(expression).decode()}",
        ]
    return "\n".join(lines) + "\n"
