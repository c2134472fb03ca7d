"""Scenario `german`: the German credit table, cut by columns into two or three parties.

Data: Hans Hofmann, Statlog (German Credit Data), UCI Machine Learning Repository,
https://doi.org/10.24432/C5NC77, CC BY 4.0. 1,000 people, 30 % of them bad, most columns text.

A small consortium of files rather than databases: the bank has CSV files with semicolons, the others Parquet. Customer
numbers are simulated, and a few values are left out on purpose.
"""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ftl.consortium.scenarios.packages import SCORECARDPIPELINE, check, member

MEMBER = "scorecardpipeline/germancredit.csv"
SHA256 = "2c0bae00275c028fc853a1ea72cc7a68002c3f6876c41300c5c948711540c8c6"
PEOPLE = 1_000
NOTICE = (
    "Simulated consortium: the rows are the public German Credit table (Hofmann, Statlog, UCI, CC BY 4.0), cut by "
    "columns; customer numbers and missing values are made up."
)

_BANK = (
    "status_of_existing_checking_account",
    "duration_in_month",
    "credit_history",
    "purpose",
    "credit_amount",
    "installment_rate_in_percentage_of_disposable_income",
    "number_of_existing_credits_at_this_bank",
    "creditability",
)
_SAVINGS = (
    "savings_account_and_bonds",
    "other_debtors_or_guarantors",
    "property",
    "other_installment_plans",
    "housing",
)
_REGISTRY = (
    "present_employment_since",
    "personal_status_and_sex",
    "present_residence_since",
    "age_in_years",
    "job",
    "number_of_people_being_liable_to_provide_maintenance_for",
    "telephone",
    "foreign_worker",
)
_PARTIES: Mapping[int, Mapping[str, tuple[str, ...]]] = {
    2: {"partner": _SAVINGS + _REGISTRY},
    3: {"savings": _SAVINGS, "registry": _REGISTRY},
}
_LEFT_OUT = {"duration_in_month": 15, "property": 30, "age_in_years": 25, "job": 20}
"""Column to how many of its values are left out."""


def write(folder: Path, parties: int, shared: int, seed: int, cache: Path) -> None:
    """Write the parties' files and the truth into `folder`/data.

    Args:
        folder: the consortium's folder.
        parties: 2 or 3.
        shared: how many people every party knows; the other rows of passive parties are of people the bank has never
            seen.
        seed: of the draw of shared people, missing values and row orders.
        cache: where downloads are kept.

    Raises:
        ConsortiumError: the data set cannot be had.
    """
    rng = np.random.default_rng(seed)
    table = pd.read_csv(io.BytesIO(_raw(cache)), keep_default_na=False)
    truth, table = table, _leave_out(table, rng)
    numbers = _customer_numbers(1 + len(_PARTIES[parties]))
    at_all = np.isin(np.arange(PEOPLE), rng.permutation(PEOPLE)[:shared])
    links = {"bank": numbers[0]}
    _write_csv(folder / "data" / "bank", table, numbers[0])
    for own, (party, columns) in zip(numbers[1:], _PARTIES[parties].items(), strict=True):
        links[party] = np.where(at_all, numbers[0], own)
        rows = table[list(columns)].assign(CustomerNo=links[party]).loc[rng.permutation(PEOPLE)]
        (folder / "data" / party).mkdir(parents=True)
        rows.to_parquet(folder / "data" / party / f"{party}.parquet", index=False)
    _write_truth(folder / "data" / "truth", truth, links, at_all)


def _raw(cache: Path) -> bytes:
    data = member(SCORECARDPIPELINE, MEMBER, cache)
    check(data, SHA256, MEMBER)
    return data


def _leave_out(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    table = table.astype(dict.fromkeys(_LEFT_OUT, "object"))
    for name, count in _LEFT_OUT.items():
        table.loc[rng.choice(PEOPLE, size=count, replace=False), name] = None
    return table.astype(dict.fromkeys(("duration_in_month", "age_in_years"), "Int64"))


def _customer_numbers(parties: int) -> list[NDArray[np.object_]]:
    """Per party a different simulated number for everyone; the same whatever the seed."""
    drawn = np.random.default_rng(PEOPLE).choice(10**6, size=parties * PEOPLE, replace=False)
    numbers = np.array([f"SIM-{number:06d}" for number in drawn], dtype=object)
    return np.split(numbers, parties)


def _write_csv(folder: Path, table: pd.DataFrame, numbers: NDArray[np.object_]) -> None:
    """Two files, as from two branches; both belong to one table."""
    folder.mkdir(parents=True)
    rows = table[list(_BANK)].assign(KUNDE=[number.lower() for number in numbers])
    rows.iloc[: PEOPLE // 2].to_csv(folder / "loans_north.csv", sep=";", index=False)
    rows.iloc[PEOPLE // 2 :].to_csv(folder / "loans_south.csv", sep=";", index=False)


def _write_truth(
    folder: Path, table: pd.DataFrame, links: Mapping[str, NDArray[np.object_]], at_all: NDArray[np.bool_]
) -> None:
    folder.mkdir(parents=True)
    person = np.arange(1, PEOPLE + 1)
    pd.DataFrame({"person": person, **links, "at_all": at_all}).to_parquet(folder / "links.parquet", index=False)
    table.to_parquet(folder / "table.parquet", index=False)
