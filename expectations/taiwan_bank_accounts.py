"""What the simulated bank's card accounts must look like before anything is learned from them.

The mapping's own promises (columns, key, identifiers, label) are always checked and need no line here. Severity
decides: ``warning`` sends the rows at fault to quarantine, ``critical`` stops the batch, ``info`` only tells.
"""

import great_expectations as gx
import great_expectations.expectations as gxe

MONTHS = range(1, 7)
LIMITS = (10_000, 1_000_000)
"""Smallest and largest credit limit of the published table, in NT dollars."""


def build(suite: gx.ExpectationSuite) -> None:
    """Add the expectations of `bank.accounts`."""
    for expectation in (*_identifiers(), *_amounts(), *_batch()):
        suite.add_expectation(expectation)


def _identifiers() -> list[gxe.Expectation]:
    return [
        gxe.ExpectColumnValuesToMatchRegex(
            column="id_number",
            regex=r"^[0-9]{17}[0-9X]$",
            severity="warning",
            description="has 17 digits and a check character",
        ),
        gxe.ExpectColumnValuesToMatchRegex(
            column="phone", regex=r"^1[0-9]{10}$", severity="warning", description="is a mobile number of 11 digits"
        ),
        gxe.ExpectColumnValuesToMatchRegex(
            column="account", regex=r"^AC[0-9]{6}$", severity="warning", description="is an account number"
        ),
    ]


def _amounts() -> list[gxe.Expectation]:
    paid = [
        gxe.ExpectColumnValuesToBeBetween(
            column=f"paid_{month}", min_value=0, severity="warning", description="is a receipt, never negative"
        )
        for month in MONTHS
    ]
    known = [
        gxe.ExpectColumnValuesToNotBeNull(column=column, severity="warning", description="is known")
        for column in ("credit_limit", "bill_1", "paid_1", "sample")
    ]
    return [
        *known,
        *paid,
        gxe.ExpectColumnValuesToBeBetween(
            column="credit_limit",
            min_value=1,
            max_value=10 * LIMITS[1],
            severity="warning",
            description="is a limit in NT dollars",
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="sample", value_set=["train", "test"], severity="warning", description="is train or test"
        ),
    ]


def _batch() -> list[gxe.Expectation]:
    return [
        gxe.ExpectColumnProportionOfUniqueValuesToBeBetween(
            column="phone", min_value=0.99, severity="critical", description="hardly any phone is shared"
        ),
        gxe.ExpectColumnMedianToBeBetween(
            column="credit_limit",
            min_value=LIMITS[0],
            max_value=LIMITS[1],
            severity="critical",
            description="the median is a plausible limit: the amounts are in NT dollars",
        ),
        gxe.ExpectColumnMeanToBeBetween(
            column="default_next_month",
            min_value=0.1,
            max_value=0.4,
            severity="info",
            description="between 10 and 40 % of the accounts default",
        ),
    ]
