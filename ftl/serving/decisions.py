"""A gateway's side of decisions: the policy that counts today, the blacklist, velocities, and what is kept for replay.

Velocities are counted by keyed subject over all gateway processes. What is kept to replay a changed policy on last
month's applications names nobody: amounts, indicators and the outcome, without any subject.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec

from ftl import decision
from ftl.consortium import Folder
from ftl.consortium.deciding import Income, Scorecard
from ftl.crypto.keystore import replace
from ftl.decision import Application, Decision, Policy, Scored
from ftl.decision.approval import trusted
from ftl.decision.declared import POLICY, Declared, read
from ftl.errors import FtlError, InvalidRequest, PolicyError
from ftl.serving.appender import Appender
from ftl.serving.endpoints import shared_home
from ftl.serving.velocity import Velocity

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Between two looks at the policy's and the blacklist's files."""
_ENCODER = msgspec.json.Encoder()


class Kept(msgspec.Struct, frozen=True):
    """An application as kept for replay; names nobody.

    Attributes:
        at: seconds since 1970.
        service: code.
        application: what was asked for, with its indicators.
        scored: by the model, or None.
        decision: that was made.
        policy: name and version that made it.
    """

    at: float
    service: str
    application: Application
    scored: Scored | None
    decision: str | None
    policy: str


class Changed(msgspec.Struct, frozen=True):
    """What another policy would have decided.

    Attributes:
        before: the decision that was made.
        after: by the other policy.
        applications: how many.
        limit: sum of limits that it would have given.
    """

    before: str | None
    after: str | None
    applications: int
    limit: float


class Decisions:
    """Decides by the policy that counts today.

    Args:
        folder: the consortium, as the coordinator has it.
        clock: seconds since 1970.
    """

    def __init__(self, folder: Folder, clock: Callable[[], float]) -> None:
        self._folder, self._clock = folder, clock
        self._velocity = Velocity(shared_home(folder), clock)
        self._policy: Policy | None = None
        self._stamp: tuple[object, ...] = ()
        self._listed: frozenset[str] = frozenset()
        self._looked = -LOOK_SECONDS
        self._file: Appender | None = None
        self._written = 0, 0

    @property
    def policy(self) -> Policy:
        """The policy that counts now; the last good one while its files are broken.

        Raises:
            PolicyError: there has not been a good one yet.
        """
        now = self._clock()
        if not 0 <= now - self._looked < LOOK_SECONDS:
            self._looked = now
            self._look(datetime.fromtimestamp(now, UTC).date())
        if self._policy is None:
            raise PolicyError("No decision policy could be loaded.", cure="Run `ftl policy test`.")
        return self._policy

    def asks_parties(self, service: str) -> bool:
        """Whether a service needs a score, and with it the parties.

        Raises:
            InvalidRequest: the policy has no such service.
        """
        policy = self.policy
        try:
            return "scores" in policy.modules(service)
        except PolicyError as error:
            raise InvalidRequest(error.message, cure=error.cure, field="service") from None

    def fill(self, application: Application, subject: str) -> Application:
        """An application with what the coordinator knows of its subject: blacklist and velocities."""
        day, month = self._velocity.count(subject)
        listed = subject in self._listed
        return msgspec.structs.replace(application, listed=listed, velocity_day=day, velocity_month=month)

    def decide(
        self, service: str, application: Application, scored: Scored | FtlError | None, scorecard: Scorecard
    ) -> Decision:
        """Decide and keep what a replay needs.

        Args:
            service: code.
            application: filled.
            scored: by the model, or why not; None where nobody knows the applicant, or nobody was asked.
            scorecard: the consortium's scale.

        Raises:
            PolicyError: the policy has no such service.
        """
        made = decision.decide(self.policy, service, application, scored, scorecard, self._folder.consortium.income)
        kept = scored if isinstance(scored, Scored) else None
        line = Kept(round(self._clock()), service, application, kept, made.decision, made.policy)
        self._month().add(_ENCODER.encode(line))
        return made

    def flush(self) -> None:
        """Write what has been gathered."""
        if self._file:
            self._file.flush()

    def close(self) -> None:
        """Write what has been gathered and close the files."""
        self._velocity.close()
        self._close_month()

    def _look(self, today: date) -> None:
        """Take over changed files; trouble with them is logged, and what was good before goes on."""
        try:
            places = decision.policies(policy_home(self._folder))
            place = decision.effective(places, today)
            stamp = (place, *(path.stat().st_mtime_ns for path in sorted(place.iterdir())))
            if stamp != self._stamp:
                self._policy, self._stamp = trusted(place), stamp
                log.info("serving.policy loaded", extra={"policy": self._policy.declared.version, "place": place.name})
            self._listed = read_blacklist(self._folder)
        except FtlError as error:
            log.warning("serving.policy refused", extra={"reason": error.message})

    def _month(self) -> Appender:
        now = datetime.fromtimestamp(self._clock(), UTC)
        if self._file is None or (now.year, now.month) != self._written:
            self._close_month()
            self._file = Appender(applications(self._folder) / f"{now:%Y-%m}.jsonl")
            self._written = now.year, now.month
        return self._file

    def _close_month(self) -> None:
        if self._file:
            self._file.close()
            self._file = None


def policy_home(folder: Folder) -> Path:
    """Where a consortium keeps its own policies, a folder each."""
    return folder.root / "policies"


def service_codes(folder: Folder) -> list[str]:
    """The services of a consortium's policies, also of those whose day has not come.

    Raises:
        PolicyError: a policy cannot be read.
    """
    declared: list[Declared] = [read(place / POLICY, Declared) for place in decision.policies(policy_home(folder))]
    return list(dict.fromkeys(code for one in declared for code in one.services))


def applications(folder: Folder) -> Path:
    """Where applications are kept for replay, a file a month."""
    return folder.coordinator / "decisions"


def replay(policy: Policy, months: Sequence[Path], scorecard: Scorecard, income: Income | None = None) -> list[Changed]:
    """What a policy would have decided on applications that are kept.

    Args:
        policy: to try.
        months: files of :func:`applications`.
        scorecard: the consortium's scale.
        income: how income becomes a score; None without a model of it.

    Returns:
        one row for each pair of decisions, the most frequent first.
    """
    counted: dict[tuple[str | None, str | None], tuple[int, float]] = {}
    for kept in _kept(months):
        if kept.service not in policy.declared.services:
            continue
        after = decision.decide(policy, kept.service, kept.application, kept.scored, scorecard, income)
        key = kept.decision, after.decision
        count, limit = counted.get(key, (0, 0.0))
        counted[key] = count + 1, limit + (after.limit or 0.0)
    rows = [Changed(before, after, count, limit) for (before, after), (count, limit) in counted.items()]
    return sorted(rows, key=lambda row: -row.applications)


def _kept(months: Sequence[Path]) -> Iterable[Kept]:
    decoder = msgspec.json.Decoder(Kept)
    for path in months:
        for line in path.read_bytes().split(b"\n")[:-1]:
            yield decoder.decode(line)


def read_blacklist(folder: Folder) -> frozenset[str]:
    """Subjects on the consortium's blacklist."""
    path = _blacklist(folder)
    return frozenset(path.read_text().split()) if path.exists() else frozenset()


def block(folder: Folder, subjects: Iterable[str]) -> int:
    """Put subjects on the blacklist.

    Returns:
        how many are on it now.
    """
    listed = sorted(read_blacklist(folder) | set(subjects))
    replace(_blacklist(folder), ("\n".join(listed) + "\n").encode())
    return len(listed)


def _blacklist(folder: Folder) -> Path:
    return applications(folder) / "blacklist.txt"
