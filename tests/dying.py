"""Lets a process die before one of the steps that it takes."""

import itertools
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

Step = tuple[Any, str]
"""A function that changes something on disk: what has it, and its name there."""


def die(steps: Sequence[Step], before: int | None) -> None:
    """Let this process die by SIGKILL at the call of that number to any of the functions; never when None."""
    calls = itertools.count(1)

    def fragile(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            if next(calls) == before:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return wrapped

    for owner, name in steps:
        setattr(owner, name, fragile(getattr(owner, name)))
