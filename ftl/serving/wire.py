"""What gateway and score servers say to each other: a msgpack question; an answer of one fixed-width row per person.

One question is about several model versions, such as a champion and its challengers, each for some of the people. All
rows of one model part have the same layout, so a party can keep the rows of all its people ready as one array, and an
answer is a selection of them. The layout itself crosses once: the asker says which one it knows.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.errors import ProtocolError
from ftl.protocols import Combiner, SubScores

PATH = "/v1/sub-scores"
MOST_PEOPLE = 5_000
"""In one request; some 5 MB of answer."""
MOST_MODELS = 8
"""In one request, and kept by a score server: champion, challengers and the one before."""
DIGEST_BYTES = 16
MASK_BYTES = (1, 2, 4, 8)

T = TypeVar("T")

Fields = dict[str, str | int | float | bool | None]
"""Lake column to the value that came with a request."""


class Wanted(msgspec.Struct, frozen=True, array_like=True):
    """One model part in a question.

    Attributes:
        run_id: names it.
        sha256: its hash as the bundle says; the party refuses any other.
        mask_bytes: 1, 2, 4 or 8: how many bytes a tree's leaves need.
        layout: digest of the layout that the asker knows, or nothing.
        people: places of the people it is wanted for; None for all of the question.
    """

    run_id: str
    sha256: str
    mask_bytes: int
    layout: bytes = b""
    people: list[int] | None = None

    def of(self, everybody: Sequence[T]) -> Sequence[T]:
        """What belongs to its people, out of something that each person of the question has."""
        return everybody if self.people is None else [everybody[place] for place in self.people]


class Question(msgspec.Struct, frozen=True, array_like=True):
    """What the gateway asks one party.

    Attributes:
        models: parts that it should answer from.
        pseudonyms: 32 bytes per person.
        fields: empty, or one mapping per person of values that replace what the party has stored.
    """

    models: list[Wanted]
    pseudonyms: list[bytes]
    fields: list[Fields] = []


class Refused(msgspec.Struct, frozen=True, array_like=True):
    """Why one part of a question was not answered.

    Attributes:
        code: for programs.
        detail: for people.
    """

    code: str
    detail: str


class _Columns(msgspec.Struct, frozen=True, array_like=True):
    """How wide each part of a row is; what :class:`Layout` is made from."""

    mask_bytes: int
    trees: int
    own_trees: int | None
    share: int | None
    hidden: int | None
    lost: list[str]
    relaxed: dict[str, list[int]]


@dataclass(frozen=True)
class Layout:
    """Where a person's sub-scores stand in a row.

    Attributes:
        columns: widths and names.
    """

    columns: _Columns

    @classmethod
    def of(cls, scores: SubScores, mask_bytes: int) -> "Layout":
        """The layout that sub-scores of one model part fit in."""
        own, share, hidden = map(_width, (scores.own_leaves, scores.share, scores.hidden))
        relaxed = {code: trees.tolist() for code, (trees, _) in scores.relaxed.items()}
        return cls(_Columns(mask_bytes, scores.leaves.shape[1], own, share, hidden, list(scores.lost), relaxed))

    @classmethod
    def decode(cls, data: bytes) -> "Layout":
        """Read what :attr:`encoded` is.

        Raises:
            msgspec.MsgspecError: it is none.
        """
        return cls(_COLUMNS.decode(data))

    @cached_property
    def encoded(self) -> bytes:
        """Msgpack of it."""
        return _ENCODER.encode(self.columns)

    @cached_property
    def digest(self) -> bytes:
        """Names it, 16 bytes."""
        return hashlib.sha256(self.encoded).digest()[:DIGEST_BYTES]

    @cached_property
    def trees_of(self) -> dict[str, NDArray[np.int64]]:
        """Reason code to the numbers of the trees that use its columns."""
        return {code: np.array(trees, dtype=np.int64) for code, trees in self.columns.relaxed.items()}

    @cached_property
    def places(self) -> dict[str, slice]:
        """Reason code to its place among the relaxed leaves."""
        ends = np.cumsum([0, *(len(trees) for trees in self.trees_of.values())]).tolist()
        return {code: slice(*ends[i : i + 2]) for i, code in enumerate(self.trees_of)}

    @cached_property
    def row(self) -> np.dtype[np.void]:
        """Of one person."""
        of, mask = self.columns, f"<u{self.columns.mask_bytes}"
        relaxed = sum(len(trees) for trees in of.relaxed.values())
        widths = (("lost", "<f8", len(of.lost)), ("share", "<f8", of.share), ("hidden", "<f8", of.hidden))
        masks = (("leaves", mask, of.trees), ("relaxed", mask, relaxed), ("own_leaves", mask, of.own_trees))
        wide = [(name, kind, (width,)) for name, kind, width in (*widths, *masks) if width is not None]
        return np.dtype([("known", "?"), ("log_odds", "<f8"), *wide])

    def pack(self, scores: SubScores) -> NDArray[np.void]:
        """Rows of sub-scores, shape (m,).

        Raises:
            ValueError: they have another layout.
        """
        rows = np.zeros(len(scores.known), dtype=self.row)
        rows["known"], rows["log_odds"], rows["leaves"] = scores.known, scores.log_odds, scores.leaves
        for number, code in enumerate(self.columns.lost):
            rows["lost"][:, number] = scores.lost[code]
        for code, place in self.places.items():
            rows["relaxed"][:, place] = scores.relaxed[code][1]
        for name in ("share", "own_leaves", "hidden"):
            if name in (self.row.names or ()):
                rows[name] = getattr(scores, name)
        return rows

    def unpack(self, rows: NDArray[np.void]) -> SubScores:
        """Sub-scores of rows; views of them."""
        more = {name: rows[name] for name in ("share", "own_leaves", "hidden") if name in (self.row.names or ())}
        relaxed = rows["relaxed"]
        return SubScores(
            known=rows["known"],
            log_odds=rows["log_odds"],
            leaves=rows["leaves"],
            lost={code: rows["lost"][:, place] for place, code in enumerate(self.columns.lost)},
            relaxed={code: (self.trees_of[code], relaxed[:, place]) for code, place in self.places.items()},
            **more,
        )


def _width(part: NDArray[Any] | None) -> int | None:
    return None if part is None else int(part.shape[1])


_ENCODER = msgspec.msgpack.Encoder()
_QUESTIONS = msgspec.msgpack.Decoder(Question)
_PARTS = msgspec.msgpack.Decoder(list[bytes | Refused])
_COLUMNS = msgspec.msgpack.Decoder(_Columns)


def mask_bytes(combiner: Combiner) -> int:
    """How many bytes the leaves of the model's largest tree need."""
    trees = [*combiner.trees, *(tree for alone in combiner.alone.values() for tree in alone.trees)]
    leaves = max((len(tree) for tree in trees), default=1)
    return next(size for size in MASK_BYTES if 8 * size >= leaves)


def encode_question(question: Question) -> bytes:
    """Msgpack of a question."""
    return _ENCODER.encode(question)


def decode_question(body: bytes) -> Question:
    """Read a question.

    Args:
        body: msgpack.

    Returns:
        the question.

    Raises:
        ProtocolError: it is none, or asks for too many people.
    """
    try:
        question = _QUESTIONS.decode(body)
    except msgspec.MsgspecError as exc:
        raise ProtocolError("The body is no question for sub-scores.", cure="Use a gateway of this version.") from exc
    if len(question.pseudonyms) > MOST_PEOPLE:
        raise ProtocolError(
            f"{len(question.pseudonyms)} people in one question; at most {MOST_PEOPLE}.", cure="Split it."
        )
    if question.fields and len(question.fields) != len(question.pseudonyms):
        raise ProtocolError(f"{len(question.fields)} sets of fields for {len(question.pseudonyms)} people.")
    if not 0 < len(question.models) <= MOST_MODELS:
        raise ProtocolError(f"{len(question.models)} models in one question; 1 to {MOST_MODELS} are possible.")
    for model in question.models:
        _check(model, len(question.pseudonyms))
    return question


def _check(model: Wanted, people: int) -> None:
    if model.mask_bytes not in MASK_BYTES:
        raise ProtocolError(f"{model.mask_bytes} bytes per tree were asked for; {MASK_BYTES} are possible.")
    places = model.people
    if places and not (len(places) <= people and min(places) >= 0 and max(places) < people):
        raise ProtocolError(f"A model is wanted for others than the question's {people} people.")


def encode_answers(parts: Sequence[bytes | Refused]) -> bytes:
    """Msgpack of what is said from each part of a question: as :func:`encode_answer` returns, or why it is not."""
    return _ENCODER.encode(parts)


def decode_answers(party: str, body: bytes, models: int) -> list[bytes | Refused]:
    """Read what a party says from each part.

    Args:
        party: who answers, for messages.
        body: as :func:`encode_answers` returns.
        models: how many were asked for.

    Raises:
        ProtocolError: it is no such answer.
    """
    try:
        parts = _PARTS.decode(body)
    except msgspec.MsgspecError as exc:
        raise ProtocolError(f"{party} answered something that is no sub-scores.") from exc
    if len(parts) != models:
        raise ProtocolError(f"{party} answered from {len(parts)} model parts; {models} were asked for.")
    return parts


def encode_answer(layout: Layout, rows: NDArray[np.void], known: bytes = b"") -> bytes:
    """The rows behind the layout's digest, and behind the layout itself where the asker does not know it."""
    described = b"" if known == layout.digest else layout.encoded
    return b"".join((layout.digest, len(described).to_bytes(4, "little"), described, rows.tobytes()))


class Answers:
    """Reads one party's answers about one model part; remembers the layout.

    Args:
        party: who answers, for messages.
    """

    def __init__(self, party: str) -> None:
        self._party = party
        self._layout: Layout | None = None

    @property
    def known(self) -> bytes:
        """Digest of the layout known so far, for the next question."""
        return self._layout.digest if self._layout else b""

    def decode(self, body: bytes, people: int) -> SubScores:
        """Read sub-scores.

        Args:
            body: as :func:`encode_answer` returns.
            people: how many were asked for.

        Returns:
            the sub-scores; arrays are read-only views of the body.

        Raises:
            ProtocolError: the shapes do not fit.
        """
        try:
            layout, data = self._split(body)
            rows = np.frombuffer(data, dtype=layout.row) if data else np.zeros(0, dtype=layout.row)
            if len(rows) != people:
                raise ValueError("another number of people")  # noqa: TRY301 - one place makes the error
            return layout.unpack(rows)
        except (msgspec.MsgspecError, ValueError, OverflowError) as exc:
            raise ProtocolError(f"{self._party} answered something that is no sub-scores of {people} people.") from exc

    def _split(self, body: bytes) -> tuple[Layout, Any]:
        digest, length = body[:DIGEST_BYTES], int.from_bytes(body[DIGEST_BYTES : DIGEST_BYTES + 4], "little")
        start = DIGEST_BYTES + 4 + length
        if length:
            self._layout = Layout.decode(body[DIGEST_BYTES + 4 : start])
        if self._layout is None or self._layout.digest != digest:
            raise ValueError("an unknown layout")
        return self._layout, memoryview(body)[start:]
