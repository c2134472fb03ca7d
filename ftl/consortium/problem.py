"""One thing that is wrong with a `consortium.yaml`, and where it is written."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

FILE = "consortium.yaml"

Path = tuple[str | int, ...]
"""Keys and list positions from the top of the file."""


@dataclass(frozen=True)
class Finding:
    """A problem before its line is looked up.

    Attributes:
        path: the place it is about; need not exist, then the nearest place above it is named.
        message: what was found there, and why it cannot stay.
        expected: what may stand there; empty when the message says it all.
        suggestion: the nearest valid name; empty when nothing is near.
        at_key: point at the key and not at its value.
    """

    path: Path
    message: str
    expected: str = ""
    suggestion: str = ""
    at_key: bool = False


@dataclass(frozen=True, order=True)
class Problem:
    """A problem with its place in the file.

    Attributes:
        line: counted from 1.
        column: counted from 1.
        path: for example ``parties.bank.tables.accounts.cursor``; empty when the file cannot be read as YAML.
        message: what was found.
        expected: what may stand there.
        suggestion: the nearest valid name.
        file: name of the file.
    """

    line: int
    column: int
    path: str
    message: str
    expected: str = ""
    suggestion: str = ""
    file: str = FILE

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " + (f"{self.path}: " if self.path else "")
        if self.suggestion:
            return f"{where}{self.message}; did you mean {self.suggestion!r}?"
        return f"{where}{self.message}" + (f"; expected {self.expected}" if self.expected else "")


def nearest(name: object, valid: Iterable[str]) -> str:
    """The valid name closest to `name` (Ratcliff/Obershelp, at least 0.6 alike), or an empty text."""
    by_lower = {choice.lower(): choice for choice in valid}
    matches = get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[matches[0]] if matches else ""


def dotted(path: Path) -> str:
    """``("parties", "bank", "columns", 2)`` as ``parties.bank.columns[2]``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
