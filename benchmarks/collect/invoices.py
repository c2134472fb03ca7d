"""Simulated invoices, eleven columns each, and the party that collects them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from ruamel.yaml import YAML

from ftl import consortium
from ftl.consortium import Node

ENTERPRISES = 20_000
BATCH_ROWS = 250_000
NAMES = (
    "invoice_id",
    "number",
    "enterprise",
    "counterparty",
    "issued_at",
    "due",
    "amount",
    "tax",
    "kind",
    "void",
    "updated_at",
)
_START = np.datetime64("2024-01-01T00:00:00", "us")
_SECONDS_A_YEAR = 31_536_000
_KINDS = np.array(["goods", "services", "rent", "energy", "other"])


def invoices(first: int, rows: int, seed: int, after: int = 0) -> pa.Table:
    """Rows `first` … `first + rows - 1`; the same for the same arguments.

    Args:
        first: number of the first invoice.
        rows: how many.
        seed: of the draws.
        after: seconds that the time of change lies after the first year.
    """
    random = np.random.default_rng([seed, first])
    numbers = np.arange(first, first + rows)
    amount = np.round(random.lognormal(7, 1.5, rows), 2)
    issued = _START + random.integers(0, _SECONDS_A_YEAR, rows).astype("timedelta64[s]")
    changed = issued + random.integers(0, 3600, rows).astype("timedelta64[s]")
    if after:
        changed = _START + np.full(rows, _SECONDS_A_YEAR + 3600 + after, "timedelta64[s]")
    return pa.table(
        {
            "invoice_id": numbers,
            "number": _texts(random.integers(0, 10**8, rows), 8),
            "enterprise": _texts(random.integers(0, ENTERPRISES, rows), 18, "91"),
            "counterparty": _texts(random.integers(0, 10**6, rows), 18, "92"),
            "issued_at": issued.astype("datetime64[us]"),
            "due": (issued + np.timedelta64(30, "D")).astype("datetime64[D]"),
            "amount": amount,
            "tax": np.round(amount * random.choice([0.03, 0.06, 0.13], rows), 2),
            "kind": _KINDS[random.integers(0, len(_KINDS), rows)],
            "void": random.integers(0, 2, rows),
            "updated_at": changed.astype("datetime64[us]"),
        }
    )


def changes(rows: int, seed: int, after: int = 0) -> pa.Table:
    """One invoice in a hundred changed, and one in a hundred more new ones; `after` moves their times by seconds."""
    some = max(rows // 100, 1)
    picked = np.sort(np.random.default_rng(seed).choice(rows, some, replace=False))
    changed = invoices(0, some, seed + 1, after=after + 60).set_column(0, "invoice_id", pa.array(picked))
    return pa.concat_tables([changed, invoices(rows, some, seed, after=after + 120)])


def write_csv(path: Path, rows: int, seed: int = 0) -> Path:
    """The first `rows` invoices as CSV with a header; kept where it was written before."""
    if not path.exists():
        draft = path.with_suffix(".part")
        schema = invoices(0, 1, seed).schema
        with pa_csv.CSVWriter(draft, schema) as writer:
            for first in range(0, rows, BATCH_ROWS):
                writer.write(invoices(first, min(BATCH_ROWS, rows - first), seed))
        draft.rename(path)
    return path


def write_changes(path: Path, rows: int, seed: int = 0) -> Path:
    """The changes as CSV with a header."""
    pa_csv.write_csv(changes(rows, seed), path)
    return path


def party(root: Path, source: dict[str, Any], table: str) -> Node:
    """A tax office in a folder of its own, with one mapped table of invoices over `source`."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "suite.py").write_text(SUITE, encoding="utf-8")
    settings = {"source": "core", "table": table, "key": ["invoice_id"], "cursor": "updated_at", "columns": COLUMNS}
    offices = {
        "tax": _party(source, settings | {"suite": "suite.py"}, "active") | {"label": {"column": "void"}},
        "bank": _party(source, settings, "passive"),
    }
    with (root / "consortium.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(
            {"version": 1, "name": "benchmark", "identifiers": ["invoice_id"], "parties": offices}, file
        )
    return consortium.load(root).node("tax")


def _party(source: dict[str, Any], table: dict[str, Any], role: str) -> dict[str, Any]:
    features = {"table": "invoices", "columns": ["amount", "tax"]}
    return {"role": role, "sources": {"core": source}, "tables": {"invoices": table}, "features": features}


def _texts(numbers: Any, width: int, prefix: str = "") -> pa.Array:
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width - len(prefix), "0")
    return pc.binary_join_element_wise(prefix, digits, "")


COLUMNS: dict[str, Any] = {
    "invoice_id": {"from": "invoice_id", "type": "int64"},
    "number": {"from": "number", "type": "string"},
    "enterprise": {"from": "enterprise", "type": "string", "normalise": "upper", "pseudonym": True},
    "counterparty": {"from": "counterparty", "type": "string"},
    "issued_at": {"from": "issued_at", "type": "timestamp"},
    "due": {"from": "due", "type": "date"},
    "amount": {"from": "amount", "type": "float64"},
    "tax": {"from": "tax", "type": "float64"},
    "kind": {"from": "kind", "type": "string", "recode": {"other": "unknown"}},
    "void": {"from": "void", "type": "int64"},
    "updated_at": {"from": "updated_at", "type": "timestamp"},
}

SUITE = '''"""Fifteen expectations about invoices."""

import great_expectations.expectations as gxe

COLUMNS = ("number", "enterprise", "counterparty", "issued_at", "amount", "tax", "kind", "void", "updated_at")


def build(suite):
    for column in COLUMNS:
        suite.add_expectation(gxe.ExpectColumnValuesToNotBeNull(column=column, severity="warning"))
    for column, high in (("amount", 1e9), ("tax", 1e9), ("void", 1)):
        suite.add_expectation(
            gxe.ExpectColumnValuesToBeBetween(column=column, min_value=0, max_value=high, severity="warning")
        )
    kinds = ["goods", "services", "rent", "energy", "unknown"]
    suite.add_expectation(gxe.ExpectColumnValuesToBeInSet(column="kind", value_set=kinds, severity="warning"))
    suite.add_expectation(
        gxe.ExpectColumnValueLengthsToEqual(column="number", value=8, severity="warning")
    )
    suite.add_expectation(gxe.ExpectColumnMeanToBeBetween(column="void", min_value=0.4, max_value=0.6, severity="info"))
'''
