"""What the simulated partner's customers must look like before anything is learned from them.

The mapping's own promises (columns, key, identifiers, label) are always checked and need no line here. Severity
decides: ``warning`` sends the rows at fault to quarantine, ``critical`` stops the batch, ``info`` only tells.
"""

import great_expectations as gx
import great_expectations.expectations as gxe

MONTHS = range(1, 7)


def build(suite: gx.ExpectationSuite) -> None:
    """Add the expectations of `partner.customers`."""
    for expectation in (*_identifiers(), *_person(), *_repayment(), *_batch()):
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
    ]


def _person() -> list[gxe.Expectation]:
    return [
        gxe.ExpectColumnValuesToBeInSet(
            column="sex", value_set=["female", "male"], severity="warning", description="is female or male"
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="education", min_value=1, max_value=6, severity="warning", description="is one of the codes 1 to 6"
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="marriage",
            value_set=["married", "single", "other"],
            severity="warning",
            description="is married, single or other",
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="age", min_value=18, max_value=110, severity="warning", description="is an adult's age"
        ),
        gxe.ExpectColumnValuesToNotBeNull(column="age", severity="warning", description="is known"),
    ]


def _repayment() -> list[gxe.Expectation]:
    statuses = [f"pay_status_{month}" for month in MONTHS]
    known = [gxe.ExpectColumnValuesToNotBeNull(column=c, severity="warning", description="is known") for c in statuses]
    ranges = [
        gxe.ExpectColumnValuesToBeBetween(
            column=column,
            min_value=-2,
            max_value=9,
            severity="warning",
            description="is -2 (no use), -1 (paid in full), 0 (revolving) or 1 to 9 months late",
        )
        for column in statuses
    ]
    return [*known, *ranges]


def _batch() -> list[gxe.Expectation]:
    return [
        gxe.ExpectColumnMedianToBeBetween(
            column="age",
            min_value=25,
            max_value=60,
            severity="critical",
            description="the median is a plausible age in years",
        ),
        gxe.ExpectColumnMeanToBeBetween(
            column="late_months",
            min_value=0,
            max_value=3,
            severity="info",
            description="most customers pay on time in most months",
        ),
    ]
