"""Runs a suite file's comparisons: judges their figures with Great Expectations and says what fails."""

from collections.abc import Sequence
from typing import Any

from ftl.collect import exclusive
from ftl.consortium import Node
from ftl.quality.against import Comparison, Context, Measured, frame, measure
from ftl.quality.validation import _ONE_CONTEXT, Finding, _definition, _store, open_context


def compare(node: Node, name: str, comparisons: Sequence[Comparison], context: Context) -> list[Finding]:
    """Measure, store the result in the node's context and update its Data Docs.

    Args:
        node: whose context and Data Docs.
        name: of the table's suite; that of the comparisons is ``NAME.compared``.
        comparisons: of the suite file.
        context: what they look at.
    """
    measured = measure(comparisons, context)
    if measured:
        _keep(node, f"{name}.compared", measured)
    return [
        Finding(one.severity, f"{one.text}; it is {one.value:.3g}" if one.rows is None else one.text, one.rows)
        for one in measured
        if not _good(one)
    ]


def _good(one: Measured) -> bool:
    return (one.low is None or one.value >= one.low) and (one.high is None or one.value <= one.high)


def _keep(node: Node, name: str, measured: Sequence[Measured]) -> None:
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

    with _ONE_CONTEXT, exclusive(node.home / "gx", f"check {name}", wait=True):
        context = open_context(node.home / "gx", node.docs)
        definition, fresh = _definition(context, name, build)
        batch = definition.data.get_batch(batch_parameters={"dataframe": frame(measured)})
        place = _store(context, definition, batch, list(batch.validate(definition.suite).results))
        context.build_data_docs(resource_identifiers=[place, place.expectation_suite_identifier][: 1 + fresh])
