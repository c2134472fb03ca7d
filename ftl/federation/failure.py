"""What went wrong at which party, as a value that may leave the party."""

import traceback
from collections.abc import Iterator
from pathlib import PurePath

import msgspec

from ftl.errors import FederationError, FtlError


class Failure(msgspec.Struct, frozen=True):
    """An error on its way to the other parties and to the coordinator.

    Attributes:
        code: of the error's class.
        message: what happened; starts with the name of the party where it did.
        cure: what to do next.
    """

    code: str
    message: str
    cure: str = ""

    def error(self) -> FtlError:
        """The same kind of error as was raised at the party."""
        kind = next((kind for kind in _kinds(FtlError) if kind.code == self.code), FederationError)
        return kind(self.message, cure=self.cure)

    @property
    def transient(self) -> bool:
        """Whether the same run may succeed when it is tried again."""
        return self.error().transient


def told(error: FtlError) -> Failure:
    """The failure that an error of `run_party` tells of; it names its party already."""
    return Failure(error.code, error.message, error.cure)


def failure_at(party: str, error: BaseException) -> Failure:
    """Describe an error of `party`.

    The text of a foreign exception may quote a value of a row, so only its type and the place in our code leave the
    party; the node's own log has the rest.
    """
    if isinstance(error, FtlError):
        return Failure(error.code, _named(party, error.message), error.cure)
    return Failure(
        FederationError.code,
        f"{party}: {type(error).__name__} in {_place(error)}",
        f"Read the log of {party}'s node; the details stay there.",
    )


def _named(party: str, message: str) -> str:
    return message if message.startswith(party) else f"{party}: {message}"


def _place(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "ftl" in PurePath(frame.filename).parts]
    if not frames:
        return "a library"
    path = PurePath(frames[-1].filename)
    return f"{path.parent.name}/{path.name} line {frames[-1].lineno}"


def _kinds(kind: type[FtlError]) -> Iterator[type[FtlError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _kinds(child)
