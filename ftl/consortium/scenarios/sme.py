"""Scenario `sme`: Chinese small enterprises, a bank that knows who defaulted and a tax office that has their invoices.

Data: China Undergraduate Mathematical Contest in Modeling 2020, problem C, which are masked records of real
enterprises: 123 with a bank's rating and whether they defaulted, 302 without, and 1.1 million dated VAT invoices of
both. No licence came with them, so they are neither shipped nor downloaded: the user names the folder that holds them.

The files are one relational set; nothing is joined that did not belong together. The parties' roles, the date at which
the features stand and the folds are made up.
"""

import sqlite3
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ftl.consortium.scenarios.sme_files import invoices, raw_table
from ftl.consortium.scenarios.sme_later import ARRIVING, DATE_LENGTH
from ftl.errors import ConsortiumError

FOLDS = 5
NOTICE = (
    "Simulated consortium of real, masked records: enterprises and VAT invoices of problem C of the Chinese "
    "mathematical modelling contest of 2020. That a bank and a tax office hold them apart, the date at which features "
    "stand and the folds are made up."
)

_BANK = {"enterprise_id": "TEXT", "name": "TEXT", "rating": "TEXT", "default": "INTEGER", "fold": "INTEGER"}
_OFFICE = "tax_office"
_MONTH_LENGTH = len("YYYY-MM")


def write(folder: Path, data: Path, day: int, later: int) -> None:
    """Write the bank's database, the tax office's files and who is who into `folder`/data.

    Args:
        folder: the consortium's folder.
        data: the folder of the raw files.
        day: year, month and day at which the tax office's features stand, as in 20200101.
        later: invoices dated within so many days before `day`, or after, are not there yet.

    Raises:
        ConsortiumError: `day` is none, or a raw file is missing or another one.
    """
    stand = _date(day)
    labelled = raw_table(data, "credit_enterprises")
    everyone = _everyone(labelled, raw_table(data, "nocredit_enterprises"))
    (folder / "data" / _OFFICE).mkdir(parents=True)
    _write_bank(folder / "data" / "bank.db", labelled)
    taxpayers = pa.table({"enterprise_id": everyone, "assessed_on": [stand.isoformat()] * len(everyone)})
    pa_csv.write_csv(taxpayers, folder / "data" / _OFFICE / "taxpayers.csv")
    last = (stand - timedelta(days=later)).isoformat() if later else "9999-12-31"
    for direction in ("input", "output"):
        _write_invoices(folder, direction, invoices(data, direction), last)
    known = labelled.column("enterprise_id").to_pylist()
    (folder / "data" / "truth").mkdir()
    links = pa.table({"bank": known, _OFFICE: known})
    pq.write_table(links, folder / "data" / "truth" / "links.parquet")


def _date(day: int) -> date:
    try:
        return datetime.strptime(str(day), "%Y%m%d").date()  # noqa: DTZ007 - a day has no zone
    except ValueError:
        raise ConsortiumError(f"day={day} is not a day.", cure="Write year, month and day, as in 20200101.") from None


def _everyone(labelled: pa.Table, unlabelled: pa.Table) -> list[str]:
    """The ids of all enterprises.

    Raises:
        ConsortiumError: an id comes twice.
    """
    ids: list[str] = [*labelled.column("enterprise_id").to_pylist(), *unlabelled.column("enterprise_id").to_pylist()]
    if len(set(ids)) < len(ids):
        message = f"{len(ids) - len(set(ids))} enterprises come twice in credit_enterprises and nocredit_enterprises."
        raise ConsortiumError(message, cure="Take the files as published; docs/sme.md describes them.")
    return ids


def _write_bank(path: Path, labelled: pa.Table) -> None:
    rows = labelled.append_column("fold", pa.array(folds(labelled.column("default").to_pylist())))
    columns = ", ".join(f'"{name}" {kind}' for name, kind in _BANK.items())
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"CREATE TABLE SME_CUSTOMERS ({columns}, PRIMARY KEY (enterprise_id))")
        places = ", ".join("?" * len(_BANK))
        values = zip(*(rows.column(name).to_pylist() for name in _BANK), strict=True)
        database.executemany(f"INSERT INTO SME_CUSTOMERS VALUES ({places})", values)  # noqa: S608


def folds(defaults: list[str]) -> NDArray[np.int64]:
    """int64, shape (n,): a fold from 0 to 4 for each, with equal shares of defaults; the same every time.

    Args:
        defaults: ``0`` or ``1``.
    """
    rng = np.random.default_rng(len(defaults))
    result = np.empty(len(defaults), dtype=np.int64)
    for value in sorted(set(defaults)):
        same = rng.permutation([place for place, one in enumerate(defaults) if one == value])
        result[same] = np.arange(len(same)) % FOLDS
    return result


def _write_invoices(folder: Path, direction: str, rows: pa.Table, last: str) -> None:
    """A file per month of what is there, and one per day, elsewhere, of what comes from `last` on."""
    days = rows.column("invoice_date")
    names = pc.if_else(pc.less(days, last), pc.utf8_slice_codeunits(days, 0, _MONTH_LENGTH), days)
    (folder / ARRIVING / _OFFICE).mkdir(parents=True, exist_ok=True)
    start = 0
    for name, length in _runs(names):
        part = rows.slice(start, length)
        start += length
        if len(name) == DATE_LENGTH:
            pa_csv.write_csv(part, folder / ARRIVING / _OFFICE / f"{direction}-{name}.csv")
            continue
        path = folder / "data" / _OFFICE / f"{direction}-{name}.csv.zst"
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            pa_csv.write_csv(part, file)


def _runs(names: pa.ChunkedArray) -> list[tuple[str, int]]:
    """Each name in a row of equal ones, with how many there are."""
    encoded = pc.run_end_encode(names.combine_chunks())
    ends = encoded.run_ends.to_pylist()
    lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    return list(zip(encoded.values.to_pylist(), lengths, strict=True))
