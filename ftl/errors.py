"""The one tree of errors.

* FtlError
  * ConsortiumError      consortium.yaml is wrong, or a folder is not a consortium
  * SourceError          a party's database or file cannot be read
    · SourceUnavailable  … right now; a retry can help
  * MappingError         a column cannot be renamed, cast, recoded or derived as declared
  * LakeError            a Delta table cannot be read or committed
    · LakeConflict       another sync of the same table is under way; a retry can help
  * QualityError         a landed batch failed a critical expectation
  * FeatureError         a feature frame cannot be built (label with one class, unknown column …)
  * AlignmentError       the private set intersection was refused or failed
  * ProtocolError        a peer sent something the protocol does not allow
  * CipherError          a key, ciphertext or plaintext is out of bounds
  * ChannelError         a message cannot be delivered
    · ChannelTimeout     nobody answered in time; names who was awaited, and for what
  * FederationError      the engine cannot provision, start, submit or finish a run
    · EngineUnavailable  … right now; a retry can help
  * RegistryError        MLflow or a model part is missing or does not match its hash
    · RegistryUnavailable  … right now; a retry can help
  * PolicyError          a decision policy's file is wrong, or its rules fail on an application
  * ScoringError         an applicant cannot be scored
    · InvalidRequest     what a caller sent cannot be answered; names the field
    · ApplicantUnknown   no party that must know the applicant does
    · PartyUnavailable   a party's score server did not answer; a retry can help
    · NotAuthorised      a caller's token or client secret is missing, wrong or has expired
    · NotAllowed         a client asked for a service that it has not been granted
    · TooManyRequests    a client is over its rate or quota; a retry can help
    · Replayed           a request was sent before under the same idempotency key
  * ServiceError         a service of the deployment cannot be started or stopped

Every error says what happened (``message``), what to do next (``cure``) and whether trying the same thing again can
help (``transient``). That one attribute decides Airflow's retry, the command line's exit code and the HTTP status.
No message holds an identifier of a person.
"""

from typing import ClassVar


class FtlError(Exception):
    """Base of all errors that `ftl` raises on purpose.

    Args:
        message: what happened, naming the object (file, table, party, column).
        cure: what to do next; empty only where nothing can be done.
    """

    code: ClassVar[str] = "ftl"
    transient: ClassVar[bool] = False

    def __init__(self, message: str, *, cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.message} {self.cure}".rstrip()

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.cure)


def _rebuild(kind: type[FtlError], message: str, cure: str) -> FtlError:
    return kind(message, cure=cure)


class ConsortiumError(FtlError):
    """consortium.yaml is wrong, or a folder is not a consortium."""

    code = "consortium"


class SourceError(FtlError):
    """A party's database or file cannot be read."""

    code = "source"


class SourceUnavailable(SourceError):
    """A source does not answer right now."""

    code = "source_unavailable"
    transient = True


class MappingError(FtlError):
    """A column cannot be renamed, cast, recoded or derived as declared."""

    code = "mapping"


class LakeError(FtlError):
    """A Delta table cannot be read or committed."""

    code = "lake"


class LakeConflict(LakeError):
    """Another sync of the same table is under way."""

    code = "lake_conflict"
    transient = True


class QualityError(FtlError):
    """A landed batch failed a critical expectation; nothing of it was published."""

    code = "quality"


class FeatureError(FtlError):
    """A feature frame cannot be built."""

    code = "features"


class AlignmentError(FtlError):
    """The private set intersection was refused or failed."""

    code = "alignment"


class ProtocolError(FtlError):
    """A peer sent something the protocol does not allow."""

    code = "protocol"


class CipherError(FtlError):
    """A key, ciphertext or plaintext is out of bounds."""

    code = "cipher"


class ChannelError(FtlError):
    """A message cannot be delivered."""

    code = "channel"


class ChannelTimeout(ChannelError):
    """Nobody answered in time."""

    code = "channel_timeout"
    transient = True


class FederationError(FtlError):
    """The engine cannot provision, start, submit or finish a run."""

    code = "federation"


class EngineUnavailable(FederationError):
    """The federation server or a site does not answer right now."""

    code = "engine_unavailable"
    transient = True


class RegistryError(FtlError):
    """MLflow or a model part is missing or does not match its hash."""

    code = "registry"


class RegistryUnavailable(RegistryError):
    """MLflow does not answer right now."""

    code = "registry_unavailable"
    transient = True


class PolicyError(FtlError):
    """A decision policy's file is wrong, or its rules fail on an application."""

    code = "policy"


class ScoringError(FtlError):
    """An applicant cannot be scored."""

    code = "scoring"


class InvalidRequest(ScoringError):
    """What a caller sent to a scoring service cannot be answered.

    Args:
        message: what is wrong; never the value, it may name a person.
        cure: what to send instead.
        field: path of the offending field, for example ``fields.limit_bal``.
    """

    code = "invalid_request"

    def __init__(self, message: str, *, cure: str = "", field: str = "") -> None:
        super().__init__(message, cure=cure)
        self.field = field


class ApplicantUnknown(ScoringError):
    """No party that must know the applicant does."""

    code = "applicant_unknown"


class PartyUnavailable(ScoringError):
    """A party's score server did not answer."""

    code = "party_unavailable"
    transient = True


class NotAuthorised(ScoringError):
    """A caller's token or client secret is missing, wrong or has expired."""

    code = "unauthorised"


class NotAllowed(ScoringError):
    """A client asked for a service that it has not been granted.

    Args:
        message: who may not do what.
        cure: what to do next.
        field: path of the field of the request that asked for it, if one did.
    """

    code = "forbidden"

    def __init__(self, message: str, *, cure: str = "", field: str = "") -> None:
        super().__init__(message, cure=cure)
        self.field = field


class TooManyRequests(ScoringError):
    """A client is over its rate or its daily quota."""

    code = "too_many_requests"
    transient = True


class Replayed(ScoringError):
    """A request was sent before under the same idempotency key."""

    code = "replayed"


class ServiceError(FtlError):
    """A service of the deployment cannot be started or stopped."""

    code = "service"
