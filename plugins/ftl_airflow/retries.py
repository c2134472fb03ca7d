"""When a failed step is tried again: where its error says that this can help, and nowhere else."""

from collections.abc import Iterator
from datetime import timedelta

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from ftl.errors import FtlError

RETRIES = 3
WAIT = timedelta(seconds=10)


def kinds(parent: type[FtlError] = FtlError) -> Iterator[type[FtlError]]:
    """The tree of errors, each kind once."""
    yield parent
    for child in parent.__subclasses__():
        yield from kinds(child)


TRANSIENT_ONLY = {
    "retries": RETRIES,
    "retry_delay": WAIT,
    "retry_policy": ExceptionRetryPolicy(
        rules=[
            RetryRule(
                exception=[kind for kind in kinds() if kind.transient],
                action=RetryAction.RETRY,
                retry_delay=WAIT,
                reason="Trying again can help.",
            )
        ],
        default=RetryAction.FAIL,
    ),
}
"""Arguments of every task. A task whose process was lost without an error is tried again too."""


def rebuilt(code: str, message: str, cure: str) -> FtlError:
    """The error of that code, as it was before it crossed from one process to another."""
    kind = next((kind for kind in kinds() if kind.code == code), FtlError)
    return kind(message, cure=cure)
