"""What the simulated tax office's invoices, input and output, must look like before features are made of them.

The mapping's own promises (columns, key) are always checked and need no line here. Severity decides: ``warning`` sends
the rows at fault to quarantine, ``critical`` stops the batch, ``info`` only tells.
"""

import great_expectations as gx
import great_expectations.expectations as gxe


def build(suite: gx.ExpectationSuite) -> None:
    """Add the expectations of `tax_office.input_invoices` and `tax_office.output_invoices`."""
    for expectation in (
        gxe.ExpectColumnValuesToMatchRegex(
            column="enterprise", regex=r"^E[0-9]+$", severity="warning", description="is the number of an enterprise"
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="status", value_set=["valid", "void"], severity="warning", description="is valid or void"
        ),
        gxe.ExpectColumnValuesToNotBeNull(column="status", severity="warning", description="is known"),
        gxe.ExpectColumnValuesToBeBetween(
            column="amount",
            min_value=-1e8,
            max_value=1e8,
            severity="warning",
            description="is an amount that one invoice may have, in CNY",
        ),
        gxe.ExpectColumnValuesToNotBeNull(
            column="tax", mostly=0.99, severity="info", description="is known on nearly every invoice"
        ),
    ):
        suite.add_expectation(expectation)
