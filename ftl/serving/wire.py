"""What gateway and score servers say to each other: msgpack, with arrays as raw little-endian bytes."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.errors import ProtocolError
from ftl.protocols import SubScores

PATH = "/v1/sub-scores"
MOST_PEOPLE = 5_000
"""In one request; about 3 MB of answer with reasons."""

Fields = dict[str, str | int | float | bool | None]
"""Lake column to the value that came with a request."""


class Question(msgspec.Struct, frozen=True, array_like=True):
    """What the gateway asks one party.

    Attributes:
        run_id: names the model part.
        sha256: the part's hash as the bundle says; the party refuses any other.
        pseudonyms: 32 bytes per person.
        reasons: also say what each reason cost.
        fields: empty, or one mapping per person of values that replace what the party has stored.
    """

    run_id: str
    sha256: str
    pseudonyms: list[bytes]
    reasons: bool = False
    fields: list[Fields] = []


class _Relaxed(msgspec.Struct, frozen=True, array_like=True):
    trees: bytes
    leaves: bytes


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    people: int
    trees: int
    known: bytes
    log_odds: bytes
    leaves: bytes
    lost: dict[str, bytes]
    relaxed: dict[str, _Relaxed]
    share: bytes | None
    own_leaves: bytes | None
    hidden: bytes | None


_ENCODER = msgspec.msgpack.Encoder()
_QUESTIONS = msgspec.msgpack.Decoder(Question)
_ANSWERS = msgspec.msgpack.Decoder(_Answer)


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
    return question


def encode_answer(scores: SubScores) -> bytes:
    """Msgpack of sub-scores."""
    return _ENCODER.encode(
        _Answer(
            people=len(scores.known),
            trees=scores.leaves.shape[1],
            known=_raw(scores.known, "u1"),
            log_odds=_raw(scores.log_odds, "<f8"),
            leaves=_raw(scores.leaves, "<u8"),
            lost={code: _raw(lost, "<f8") for code, lost in scores.lost.items()},
            relaxed={
                code: _Relaxed(_raw(trees, "<i8"), _raw(leaves, "<u8"))
                for code, (trees, leaves) in scores.relaxed.items()
            },
            share=None if scores.share is None else _raw(scores.share, "<f8"),
            own_leaves=None if scores.own_leaves is None else _raw(scores.own_leaves, "<u8"),
            hidden=None if scores.hidden is None else _raw(scores.hidden, "<f8"),
        )
    )


def decode_answer(body: bytes, people: int, party: str) -> SubScores:
    """Read sub-scores.

    Args:
        body: msgpack.
        people: how many were asked for.
        party: who answered, for the message.

    Returns:
        the sub-scores; arrays are read-only.

    Raises:
        ProtocolError: the shapes do not fit.
    """
    try:
        answer = _ANSWERS.decode(body)
        scores = SubScores(
            known=_array(answer.known, "u1", (people,)).astype(bool),
            log_odds=_array(answer.log_odds, "<f8", (people,)),
            leaves=_array(answer.leaves, "<u8", (people, answer.trees)),
            lost={code: _array(lost, "<f8", (people,)) for code, lost in answer.lost.items()},
            relaxed={code: _relaxed(one, people) for code, one in answer.relaxed.items()},
            share=_table(answer.share, "<f8", people),
            own_leaves=_table(answer.own_leaves, "<u8", people),
            hidden=_table(answer.hidden, "<f8", people),
        )
    except (msgspec.MsgspecError, ValueError) as exc:
        raise ProtocolError(f"{party} answered something that is no sub-scores of {people} people.") from exc
    return scores


def _relaxed(one: _Relaxed, people: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    trees = np.frombuffer(one.trees, dtype="<i8")
    return trees, _array(one.leaves, "<u8", (people, len(trees)))


def _table(raw: bytes | None, dtype: str, people: int) -> NDArray[Any] | None:
    """As many columns as there are bytes for."""
    if raw is None:
        return None
    values = np.frombuffer(raw, dtype=dtype)
    return values.reshape(people, len(values) // max(people, 1))


def _raw(array: NDArray[Any], dtype: str) -> bytes:
    return np.ascontiguousarray(array).astype(dtype, copy=False).tobytes()


def _array(raw: bytes, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.frombuffer(raw, dtype=dtype).reshape(shape)
