"""Runs a suite file's comparisons: judges their figures with Great Expectations and says what fails."""

from collections.abc import Sequence
from typing import Any

from ftl.quality.against import Comparison, Context, Measured, frame, measure
from ftl.quality.validation import Docs, Finding, definition_of


def compare(docs: Docs, name: str, comparisons: Sequence[Comparison], context: Context) -> list[Finding]:
    """Measure and store the result.

    Args:
        docs: the node's.
        name: of the table's suite; that of the comparisons is ``NAME.compared``.
        comparisons: of the suite file.
        context: what they look at.
    """
    measured = measure(comparisons, context)
    if measured:
        _keep(docs, f"{name}.compared", measured)
    return [
        Finding(one.severity, f"{one.text}; it is {one.value:.3g}" if one.rows is None else one.text, one.rows)
        for one in measured
        if not _good(one)
    ]


def _good(one: Measured) -> bool:
    return (one.low is None or one.value >= one.low) and (one.high is None or one.value <= one.high)


def _keep(docs: Docs, name: str, measured: Sequence[Measured]) -> None:
    import great_expectations.expectations as gxe

    def build(suite: Any) -> None:
        for one in measured:
            suite.add_expectation(
                gxe.ExpectColumnMaxToBeBetween(
                    column=one.name,
                    min_value=one.low,
                    max_value=one.high,
                    severity=one.severity,
                    description=one.text,
                )
            )

    definition, fresh = definition_of(docs.context, name, build)
    batch = definition.data.get_batch(batch_parameters={"dataframe": frame(measured)})
    docs.store(definition, batch, list(batch.validate(definition.suite).results), fresh=fresh)
