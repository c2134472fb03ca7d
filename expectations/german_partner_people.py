"""What the simulated partner's people must look like before anything is learned from them.

The mapping's own promises (columns, key, identifiers) are always checked and need no line here. Severity decides:
``warning`` sends the rows at fault to quarantine, ``critical`` stops the batch, ``info`` only tells. Values that were
left out of the published table are *missing*, not wrong.
"""

import great_expectations as gx
import great_expectations.expectations as gxe

CODES = {
    "savings_account": [
        "unknown/ no savings account",
        "... < 100 DM",
        "100 <= ... < 500 DM",
        "500 <= ... < 1000 DM",
        "... >= 1000 DM",
    ],
    "other_debtors": ["none", "co-applicant", "guarantor"],
    "other_plans": ["none", "bank", "stores"],
    "housing": ["own", "rent", "for free"],
    "employed_since": [
        "unemployed",
        "... < 1 year",
        "1 <= ... < 4 years",
        "4 <= ... < 7 years",
        "... >= 7 years",
    ],
    "foreign_worker": ["yes", "no"],
}
RANGES = {"age": (18, 110), "residence_since": (1, 4), "dependants": (1, 2)}


def build(suite: gx.ExpectationSuite) -> None:
    """Add the expectations of `partner.people`."""
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
    number = gxe.ExpectColumnValuesToMatchRegex(
        column="customer", regex=r"^SIM-[0-9]{6}$", severity="warning", description="is a customer number"
    )
    return [*codes, *ranges, number]


def _batch() -> list[gxe.Expectation]:
    return [
        gxe.ExpectColumnMedianToBeBetween(
            column="age",
            min_value=25,
            max_value=60,
            severity="critical",
            description="the median is a plausible age in years",
        ),
        gxe.ExpectColumnValuesToNotBeNull(
            column="property", mostly=0.9, severity="info", description="is known for nine people in ten"
        ),
        gxe.ExpectColumnValuesToNotBeNull(
            column="job", mostly=0.9, severity="info", description="is known for nine people in ten"
        ),
    ]
