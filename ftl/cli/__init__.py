"""`ftl …`: the command line. Each command is a few lines around a step; errors become one sentence and an exit code.

Exit codes: 0 done; 1 failed for good; 2 wrong usage; 75 failed, but trying again can help (EX_TEMPFAIL of sysexits.h).
"""

import logging
import sys

from ftl.cli import consortium, data, models, policy, serving, training
from ftl.cli.common import app
from ftl.errors import FtlError

__all__ = ["app", "consortium", "data", "main", "models", "policy", "serving", "training"]

TEMPORARY_FAILURE = 75


def main() -> None:
    """Run the command line and exit with its code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    try:
        app()
    except FtlError as error:
        print(f"error: {error.message}", *([f"  → {error.cure}"] if error.cure else []), sep="\n", file=sys.stderr)
        raise SystemExit(TEMPORARY_FAILURE if error.transient else 1) from None
