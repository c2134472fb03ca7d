"""What the simulated bank's loans must look like before anything is learned from them.

The mapping's own promises (columns, key, identifiers) are always checked and need no line here. Severity decides:
``warning`` sends the rows at fault to quarantine, ``critical`` stops the batch, ``info`` only tells. Values that were
left out of the published table are *missing*, not wrong.
"""

import great_expectations as gx
import great_expectations.expectations as gxe

CODES = {
    "outcome": ["good", "bad"],
    "checking_account": [
        "no checking account",
        "... < 0 DM",
        "0 <= ... < 200 DM",
        "... >= 200 DM / salary assignments for at least 1 year",
    ],
    "credit_history": [
        "no credits taken/ all credits paid back duly",
        "all credits at this bank paid back duly",
        "existing credits paid back duly till now",
        "delay in paying off in the past",
        "critical account/ other credits existing (not at this bank)",
    ],
}
RANGES = {
    "duration_months": (1, 120),
    "credit_amount": (100, 100_000),
    "installment_rate": (1, 4),
    "existing_credits": (1, 10),
}


def build(suite: gx.ExpectationSuite) -> None:
    """Add the expectations of `bank.loans`."""
    for expectation in (*_values(), *_batch()):
        suite.add_expectation(expectation)


def _values() -> list[gxe.Expectation]:
    codes = [
        gxe.ExpectColumnValuesToBeInSet(
            column=column, value_set=values, severity="warning", description="is one of the published codes"
        )
        for column, values in CODES.items()
    ]
    ranges = [
        gxe.ExpectColumnValuesToBeBetween(
            column=column, min_value=low, max_value=high, severity="warning", description=f"is from {low} to {high}"
        )
        for column, (low, high) in RANGES.items()
    ]
    known = [
        gxe.ExpectColumnValuesToNotBeNull(column=column, severity="warning", description="is known")
        for column in ("credit_amount", "outcome")
    ]
    number = gxe.ExpectColumnValuesToMatchRegex(
        column="customer", regex=r"^SIM-[0-9]{6}$", severity="warning", description="is a customer number"
    )
    return [*codes, *ranges, *known, number]


def _batch() -> list[gxe.Expectation]:
    return [
        gxe.ExpectColumnMedianToBeBetween(
            column="credit_amount",
            min_value=500,
            max_value=20_000,
            severity="critical",
            description="the median is a plausible amount: the amounts are in Deutsche Mark",
        ),
        gxe.ExpectColumnValuesToNotBeNull(
            column="duration_months", mostly=0.9, severity="info", description="is known for nine loans in ten"
        ),
    ]
