"""What the simulated bank's enterprises must look like before anything is learned from them.

The mapping's own promises (columns, key, identifiers, label) are always checked and need no line here. Severity
decides: ``warning`` sends the rows at fault to quarantine, ``critical`` stops the batch, ``info`` only tells.
"""

import great_expectations as gx
import great_expectations.expectations as gxe


def build(suite: gx.ExpectationSuite) -> None:
    """Add the expectations of `bank.customers`."""
    for expectation in (
        gxe.ExpectColumnValuesToMatchRegex(
            column="enterprise", regex=r"^E[0-9]+$", severity="warning", description="is the number of an enterprise"
        ),
        gxe.ExpectColumnValuesToNotBeNull(column="name", severity="warning", description="is known"),
        gxe.ExpectColumnValuesToBeInSet(
            column="rating", value_set=["A", "B", "C", "D"], severity="warning", description="is a rating from A to D"
        ),
        gxe.ExpectColumnMeanToBeBetween(
            column="defaulted",
            min_value=0.05,
            max_value=0.5,
            severity="critical",
            description="some have defaulted and most have not",
        ),
    ):
        suite.add_expectation(expectation)
