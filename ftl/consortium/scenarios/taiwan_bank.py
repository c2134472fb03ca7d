"""The bank's side of scenario `taiwan`: card accounts with limit, statements, receipts and the outcome."""

from collections.abc import Sequence

import pandas as pd

from ftl.consortium.scenarios.damage import Damage
from ftl.consortium.scenarios.database import Source
from ftl.consortium.scenarios.people import Identity

MONTHS = range(1, 7)

BANK = Source(
    "bank",
    "SIM_CARD_ACCT",
    {
        "ACCT_NO": "TEXT",
        "CUST_ID_NO": "TEXT",
        "CUST_MOBILE": "TEXT",
        "CRED_LIM": "NUMERIC",
        **{f"STMT_BAL_{month:02d}": "TEXT" for month in MONTHS},
        **{f"RCPT_AMT_{month:02d}": "INTEGER" for month in MONTHS},
        "DFLT_STATUS": "TEXT",
        "SAMPLE": "TEXT",
        "UPDATED_AT": "TEXT",
    },
    "UPDATED_AT",
)

BANK_DAMAGE = (
    Damage("STMT_BAL_01", "12.5OO,-", "the statement balance is not a number", "mapping"),
    Damage("CRED_LIM", None, "the credit limit is missing", "suite"),
    Damage("DFLT_STATUS", "UNKNOWN", "the outcome is neither DEFAULT nor PAID", "mapping"),
    Damage("CUST_ID_NO", None, "the id number is missing", "suite"),
    Damage("CRED_LIM", -10000, "the credit limit is negative", "suite"),
    Damage("CUST_ID_NO", "12345", "the id number has not 18 characters", "suite"),
    Damage("RCPT_AMT_02", "ERR", "the receipt is not a number", "mapping"),
    Damage("SAMPLE", "TRIAN", "the sample is neither TRAIN nor TEST", "suite"),
)


def bank_rows(raw: pd.DataFrame, people: Sequence[Identity], test: Sequence[bool]) -> pd.DataFrame:
    """The bank's true rows in its own names and types, without the cursor, in table order."""
    rows = {
        "ACCT_NO": [f"AC{number:06d}" for number in raw["ID"]],
        "CUST_ID_NO": [person.id_number for person in people],
        "CUST_MOBILE": ["-".join((person.phone[:3], person.phone[3:7], person.phone[7:])) for person in people],
        "CRED_LIM": raw["LIMIT_BAL"],
        **{f"STMT_BAL_{m:02d}": [f"{amount}.00" for amount in raw[f"BILL_AMT{m}"]] for m in MONTHS},
        **{f"RCPT_AMT_{m:02d}": raw[f"PAY_AMT{m}"] for m in MONTHS},
        "DFLT_STATUS": raw["default.payment.next.month"].map({1: "DEFAULT", 0: "PAID"}),
        "SAMPLE": ["TEST" if held else "TRAIN" for held in test],
    }
    return pd.DataFrame(rows)


def month_before_at_bank(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as they stood before the latest receipt was booked and the limit was raised."""
    return rows.assign(RCPT_AMT_01=0, CRED_LIM=rows["CRED_LIM"] // 2)
