"""Simulated raw files of scenario `sme`: names, columns, words, dates and packing of the real ones, and no real row.

Enterprises that default sell ever less, and void more of what they sell, so that there is something to learn. A few
rows are recorded twice, one has an amount that is no number, and one a status that nobody knows.
"""

import csv
import io
import lzma
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

LABELLED, UNLABELLED, DEFAULTS, INVOICES = 60, 20, 18, 36
FIRST, LAST = date(2019, 1, 20), date(2020, 1, 14)
TRADES = ("建筑工程有限公司", "物流有限责任公司", "科技有限公司", "商贸有限公司分公司", "经营部")
ENTERPRISE = ("enterprise_id", "name")
INVOICE = ("enterprise_id", "invoice_no", "invoice_date", "{}_id", "amount", "tax", "total", "status")


def write_raw(folder: Path) -> Path:
    """Write the six files and return their folder."""
    rng = np.random.default_rng(2020)
    folder.mkdir(parents=True)
    bad = rng.permutation(np.arange(LABELLED) < DEFAULTS)
    weak = np.append(bad, rng.random(UNLABELLED) < 0.3)
    names = [f"***{TRADES[number % len(TRADES)]}" for number in range(LABELLED + UNLABELLED)]
    labelled = [
        (f"E{number + 1}", names[number], "D" if bad[number] else "ABC"[number % 3], int(bad[number]))
        for number in range(LABELLED)
    ]
    _write(folder / "credit_enterprises.csv.xz", (*ENTERPRISE, "rating", "default"), labelled)
    others = [(f"E{number + 1}", names[number]) for number in range(LABELLED, LABELLED + UNLABELLED)]
    _write(folder / "nocredit_enterprises.csv.xz", ENTERPRISE, others)
    for direction, other in (("input", "seller"), ("output", "buyer")):
        columns = tuple(name.format(other) for name in INVOICE)
        for group, people in (("credit", range(LABELLED)), ("nocredit", range(LABELLED, LABELLED + UNLABELLED))):
            rows = [row for number in people for row in _invoices(f"E{number + 1}", direction, weak[number], rng)]
            if (group, direction) == ("credit", "output"):
                rows = _damaged(rows)
            _write(folder / f"{group}_{direction}_invoices.csv.xz", columns, rows)
    return folder


def _invoices(enterprise: str, direction: str, weak: bool, rng: np.random.Generator) -> list[tuple[Any, ...]]:
    """One enterprise's invoices, those of a weak one mostly early; one in twelve is a return, one is there twice."""
    rows: list[tuple[Any, ...]] = []
    for number in range(INVOICES):
        share = rng.random() ** (2.5 if weak else 1.0)
        day = FIRST + timedelta(days=int(share * (LAST - FIRST).days))
        amount = round(float(rng.lognormal(8, 1)) * (-1 if number % 12 == 5 else 1), 2)
        tax = round(amount * 0.13, 2)
        void = rng.random() < (0.25 if weak and direction == "output" else 0.05)
        other = f"{'A' if direction == 'input' else 'B'}{rng.integers(12):05d}"
        total = round(amount + tax, 2)
        # The same number on two invoices, as where the code of a series is left out.
        rows.append((enterprise, 10_000 + number // 2, day, other, amount, tax, total, "void" if void else "valid"))
    return [*rows, rows[-1]]


def _damaged(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [
        *rows,
        ("E1", 1, date(2019, 12, 2), "B00001", "n/a", 0.0, 0.0, "valid"),
        ("E2", 2, date(2019, 12, 2), "B00001", 1000.0, 130.0, 1130.0, "red"),
    ]


def _write(path: Path, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows(rows)
    path.write_bytes(lzma.compress(text.getvalue().encode()))
