"""The partner's side of scenario `taiwan`: members with who they are and how they repaid elsewhere."""

from collections.abc import Sequence

import pandas as pd

from ftl.consortium.scenarios.damage import Damage
from ftl.consortium.scenarios.database import Source
from ftl.consortium.scenarios.people import Identity

PAY_COLUMNS = ("PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6")
GENDER = {1: "M", 2: "F"}
EDUCATION = {0: "NA", 1: "GRAD", 2: "UNIV", 3: "HIGH", 4: "OTHER", 5: "UNK5", 6: "UNK6"}
MARITAL = {0: "NA", 1: "MARRIED", 2: "SINGLE", 3: "OTHER"}
STATUS = {-2: "NO_USE", -1: "PAID_IN_FULL", 0: "REVOLVING", **{months: str(months) for months in range(1, 10)}}
"""The published code book says -1 *pay duly*, 1 … 9 *months late*; -2 and 0 as their author explained them later."""

PARTNER = Source(
    "partner",
    "sim_members",
    {
        "memberId": "TEXT",
        "idCard": "TEXT",
        "mobile": "TEXT",
        "gender": "TEXT",
        "educationLevel": "TEXT",
        "maritalStatus": "TEXT",
        "ageYears": "INTEGER",
        **{f"payM{month}": "TEXT" for month in range(1, 7)},
        "updatedAt": "TEXT",
    },
    "updatedAt",
)

PARTNER_DAMAGE = (
    Damage("ageYears", 203, "the age is impossible", "suite"),
    Damage("educationLevel", "PHD?", "the education code is unknown", "mapping"),
    Damage("mobile", None, "the phone is missing", "suite"),
    Damage("gender", "Q", "the gender code is unknown", "suite"),
    Damage("ageYears", "thirty", "the age is not a number", "mapping"),
    Damage("payM1", "99", "nobody is 99 months late", "suite"),
    Damage("idCard", "99-unreadable", "the id number has not 18 characters", "suite"),
    Damage("payM3", None, "the repayment status is missing", "suite"),
)


def partner_rows(raw: pd.DataFrame, people: Sequence[Identity], numbers: Sequence[int]) -> pd.DataFrame:
    """The partner's true rows in its own names and types, without the cursor, in table order.

    Args:
        raw: the public table.
        people: the identifiers by which the partner knows them.
        numbers: member numbers, which must not follow the table order.
    """
    rows = {
        "memberId": [f"M-{number:05d}" for number in numbers],
        "idCard": [person.id_number.lower() for person in people],
        "mobile": [" ".join((person.phone[:3], person.phone[3:7], person.phone[7:])) for person in people],
        "gender": raw["SEX"].map(GENDER),
        "educationLevel": raw["EDUCATION"].map(EDUCATION),
        "maritalStatus": raw["MARRIAGE"].map(MARITAL),
        "ageYears": raw["AGE"],
        **{f"payM{month}": raw[column].map(STATUS) for month, column in enumerate(PAY_COLUMNS, start=1)},
    }
    return pd.DataFrame(rows)


def month_before_at_partner(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as they stood a month before: everyone's latest month was still revolving and nobody a year older."""
    return rows.assign(payM1="REVOLVING", ageYears=rows["ageYears"] - 1)
