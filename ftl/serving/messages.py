"""What goes over the gateway's REST interface, as checked structs; the consortium decides the applicant's fields."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, defstruct

from ftl.decision import Decision
from ftl.errors import InvalidRequest
from ftl.registry import Bundle
from ftl.serving.answers import Reason
from ftl.serving.wire import Fields

IdentifierText = Annotated[str, Meta(min_length=1, max_length=128)]
EventName = Annotated[str, Meta(max_length=64)]
EventCount = Annotated[int, Meta(ge=0, le=1_000_000)]
WholeNumber = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
ISO_DATE = r"^\d{4}-\d{2}-\d{2}$"
ISO_TIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})?$"

FULL_SERVICE = "full.1"
MOST_APPLICANTS = 10_000
"""In one batch."""

FIELD_TYPES: dict[str, Any] = {
    "string": Annotated[str, Meta(max_length=1024)],
    "int64": WholeNumber,
    "float64": float,
    "bool": bool,
    "date": Annotated[str, Meta(pattern=ISO_DATE, examples=["2026-01-31"])],
    "timestamp": Annotated[str, Meta(pattern=ISO_TIME, examples=["2026-01-31T12:00:00Z"])],
}
"""Lake type to the JSON value that stands for it."""


class Model(Struct, frozen=True):
    """Which model version answered.

    Attributes:
        name: of the registered model.
        version: in the registry.
        alias: it was found under.
    """

    name: str
    version: str
    alias: str


class ScoreResponse(Struct, frozen=True):
    """A scored applicant.

    Attributes:
        probability_of_default: between 0 and 1.
        score: on the consortium's scorecard; higher is better.
        reasons: at most four, costliest first.
        model: which version answered.
        parties: party to `known`, `unknown` or `unavailable`.
        degraded: whether a party that the model needs did not answer.
        why: what is missing, when degraded.
        trace_id: names this answer in the logs.
        milliseconds: spent in the gateway, parties included.
        timings: party to the milliseconds until it had answered.
        notice: what is simulated, if anything.
    """

    probability_of_default: float
    score: int
    reasons: list[Reason]
    model: Model
    parties: dict[str, str]
    degraded: bool
    trace_id: str
    milliseconds: float
    timings: dict[str, float] = {}
    why: str | None = None
    notice: str | None = None


class DecisionResponse(Struct, frozen=True):
    """A decision, and what it rests on.

    Attributes:
        decision: with its scores, limit, price and rules.
        probability_of_default: None when the applicant was not scored.
        reasons: at most four, costliest first.
        model: which version scored, or was asked to; None where the service needs no score.
        parties: party to `known`, `unknown` or `unavailable`; none where the applicant was not scored.
        degraded: whether a party that the model needs did not answer.
        trace_id: names this answer in the logs.
        milliseconds: spent in the gateway, parties included.
        notice: what is simulated, if anything.
    """

    decision: Decision
    probability_of_default: float | None
    reasons: list[Reason]
    model: Model | None
    parties: dict[str, str]
    degraded: bool
    trace_id: str
    milliseconds: float
    notice: str | None = None


class Unscored(Struct, frozen=True):
    """An applicant of a batch who was not scored.

    Attributes:
        code: why, for programs.
        detail: why, for people.
    """

    code: str
    detail: str


class BatchAnswer(Struct, frozen=True, omit_defaults=True):
    """One applicant of a batch; one of the two is there.

    Attributes:
        scored: as `POST /v1/scores` answers.
        refused: why there is no score.
    """

    scored: ScoreResponse | None = None
    refused: Unscored | None = None


class BatchResponse(Struct, frozen=True):
    """A batch of applicants, in the order of the request.

    Attributes:
        answers: one per applicant.
    """

    answers: list[BatchAnswer]


class ModelDescription(Struct, frozen=True):
    """The model version that answers now.

    Attributes:
        name: of the registered model.
        version: in the registry.
        alias: it was found under.
        run_id: of the run that trained it.
        recipe: how it was trained.
        parties: whose parts it needs.
        registry: `ok`, or why the registry could not be asked the last time.
    """

    name: str
    version: str
    alias: str
    run_id: str
    recipe: str
    parties: list[str]
    registry: str


class Models(Struct, frozen=True):
    """The model versions that answer now."""

    models: list[ModelDescription]


class Accepted(Struct, frozen=True):
    """What was taken down.

    Attributes:
        accepted: how many outcomes.
    """

    accepted: int


class Health(Struct, frozen=True):
    """Whether the gateway can answer.

    Attributes:
        status: `ok`.
        model: name and version, once one is loaded.
    """

    status: str
    model: str | None = None


@dataclass(frozen=True)
class Applicant:
    """A checked request.

    Attributes:
        identifiers: in the consortium's order, as sent.
        fields: only those that were sent.
    """

    identifiers: tuple[str, ...]
    fields: Fields


Told = Literal["bad", "good"] | None
"""What became of a loan; None takes back what was told before."""


class Asked(Struct, frozen=True, forbid_unknown_fields=True):
    """What an applicant asks for.

    Attributes:
        amount: of money, in the consortium's currency.
        term: months.
        product: code.
        events: kind of event (`applications`, `transactions`, `collections`) to counts by category.
    """

    amount: Annotated[float, Meta(gt=0, le=1e12)]
    term: Annotated[int, Meta(gt=0, le=600)]
    product: Annotated[str, Meta(max_length=64)] = ""
    events: dict[Literal["applications", "transactions", "collections"], dict[EventName, EventCount]] = {}


@dataclass(frozen=True)
class OutcomeOf:
    """A checked outcome.

    Attributes:
        identifiers: in the consortium's order, as sent.
        outcome: what became of the loan.
        group: for comparing approval rates, empty when not told.
    """

    identifiers: tuple[str, ...]
    outcome: Told
    group: str


class ApplicantReader:
    """Reads requests of the shape that one bundle asks for.

    Args:
        bundle: of the model version.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._identifiers = [one.name for one in bundle.identifiers]
        self._fields = list(bundle.fields)
        optional = [(name, FIELD_TYPES[kind] | UnsetType | None, UNSET) for name, kind in bundle.fields.items()]
        fields = defstruct("RequestFields", optional, forbid_unknown_fields=True, frozen=True)
        fields.__doc__ = "Values of the application itself; each stands in for what the active party has stored."
        members: list[Any] = [(name, IdentifierText) for name in self._identifiers]
        self.type = defstruct(
            "ScoreRequest", [*members, ("fields", fields | None, None)], forbid_unknown_fields=True, frozen=True
        )
        self.type.__doc__ = "Who applies."
        self.batch = defstruct(
            "BatchRequest",
            [("applicants", Annotated[list[self.type], Meta(min_length=1, max_length=MOST_APPLICANTS)])],  # type: ignore[name-defined]
            forbid_unknown_fields=True,
            frozen=True,
        )
        self.batch.__doc__ = "Who applies, several at once."
        asked: list[Any] = [
            *members,
            ("application", Asked),
            ("fields", fields | None, None),
            ("service", Annotated[str, Meta(min_length=1, max_length=64)], FULL_SERVICE),
        ]
        self.decision = defstruct("DecisionRequest", asked, forbid_unknown_fields=True, frozen=True)
        self.decision.__doc__ = "Who applies, and what for."
        self._decisions = msgspec.json.Decoder(self.decision)
        told: list[Any] = [*members, ("outcome", Told), ("group", Annotated[str, Meta(max_length=64)], "")]
        outcome = defstruct("Outcome", told, forbid_unknown_fields=True, frozen=True)
        outcome.__doc__ = "What became of an applicant; null takes back what was told before."
        self.outcomes = defstruct(
            "OutcomesRequest",
            [("outcomes", Annotated[list[outcome], Meta(min_length=1, max_length=MOST_APPLICANTS)])],  # type: ignore[valid-type]
            forbid_unknown_fields=True,
            frozen=True,
        )
        self.outcomes.__doc__ = "What became of applicants."
        self._outcomes = msgspec.json.Decoder(self.outcomes)
        self._decoder, self._batches = msgspec.json.Decoder(self.type), msgspec.json.Decoder(self.batch)

    @property
    def shapes(self) -> tuple[type[Struct], type[Struct], type[Struct], type[Struct]]:
        """Structs of a request, of a batch, of a decision and of outcomes, for the description."""
        return self.type, self.batch, self.decision, self.outcomes

    def read(self, body: bytes) -> Applicant:
        """Check a request.

        Args:
            body: JSON.

        Returns:
            the applicant.

        Raises:
            InvalidRequest: names the field; never repeats a value.
        """
        return self._checked(self._decoded(self._decoder, body))

    def read_many(self, body: bytes) -> list[Applicant]:
        """Check a batch.

        Args:
            body: JSON.

        Returns:
            the applicants in their order.

        Raises:
            InvalidRequest: names the place and the field; never repeats a value.
        """
        given = self._decoded(self._batches, body).applicants
        return [self._checked(one, f"applicants[{place}].") for place, one in enumerate(given)]

    def read_outcomes(self, body: bytes) -> list[OutcomeOf]:
        """Check outcomes.

        Args:
            body: JSON.

        Returns:
            the outcomes in their order.

        Raises:
            InvalidRequest: names the place and the field; never repeats a value.
        """
        given = self._decoded(self._outcomes, body).outcomes
        return [
            OutcomeOf(self._named(one, f"outcomes[{place}]."), one.outcome, one.group)
            for place, one in enumerate(given)
        ]

    def read_decision(self, body: bytes) -> tuple[Applicant, Asked, str]:
        """Check a request for a decision.

        Args:
            body: JSON.

        Returns:
            who applies, what for, and the service code.

        Raises:
            InvalidRequest: names the field; never repeats a value.
        """
        given = self._decoded(self._decisions, body)
        return self._checked(given), given.application, given.service

    def _decoded(self, decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError as exc:
            raise self._refused(str(exc)) from None  # the cause's context would keep the body alive
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise InvalidRequest("The body is not JSON.", cure=f"Send {self._shape()}.") from None

    def _checked(self, given: Any, place: str = "") -> Applicant:
        return Applicant(self._named(given, place), _sent(given.fields))

    def _named(self, given: Any, place: str) -> tuple[str, ...]:
        identifiers = tuple(getattr(given, name) for name in self._identifiers)
        for name, text in zip(self._identifiers, identifiers, strict=True):
            if "|" in text or not text.strip():
                raise InvalidRequest(
                    f"{place}{name} is blank or holds '|'.", cure="Send the bare identifier.", field=f"{place}{name}"
                )
        return identifiers

    def _refused(self, message: str) -> InvalidRequest:
        """Msgspec says where (``- at `$.fields.x` ``) and which name is unknown or missing; never the value."""
        where = re.search(r" - at `\$\.?(.*?)`$", message)
        path = where.group(1) if where else ""
        named = re.search(r"(?:unknown|missing required) field `(.*?)`", message)
        what = re.sub(r" - at `.*?`$", "", message)
        if named and "unknown" in message:
            return self._unknown(path, named.group(1))
        if named:
            path = ".".join(filter(None, (path, named.group(1))))
            return InvalidRequest(f"{path} is missing.", cure=f"Send {self._shape()}.", field=path)
        return InvalidRequest(f"{path or 'The body'}: {what}.", cure=f"Send {self._shape()}.", field=path)

    def _unknown(self, path: str, name: str) -> InvalidRequest:
        known = self._fields if path.endswith("fields") else [*self._identifiers, "fields"]
        near = get_close_matches(name, known, n=1, cutoff=0.6)
        cure = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."
        return InvalidRequest(
            f"{path or 'The body'} holds a field that does not exist.",
            cure=cure,
            field=".".join(filter(None, (path, name[:64]))),
        )

    def _shape(self) -> str:
        names = ", ".join(f'"{name}": text' for name in self._identifiers)
        return f'{{{names}}}, optionally with "fields": {{…}}'


def _sent(fields: Any) -> Fields:
    if fields is None:
        return {}
    return {name: value for name in fields.__struct_fields__ if (value := getattr(fields, name)) is not UNSET}
