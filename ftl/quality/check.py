"""Landed rows → validated rows: what passes the suite is published, the rest goes to quarantine with its reasons.

Severity decides. *critical*: nothing of the batch is published, the rows at fault are shown in the quarantine, and
:class:`~ftl.errors.QualityError` stops what comes after. *warning*: the rows at fault go to quarantine, the others are
published. *info*: a warning in the report.

The validated table shares the landed table's files: deletion vectors name the rows that are *not* published, so that no
row is written twice. Its commit carries the number of the landed sync up to which rows were checked. Refused rows are
prepared in the quarantine before that commit (see :mod:`ftl.collect.refused`). A row that was good once and arrives
damaged leaves the validated table: an outdated record must not be trained on as if it were true.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ftl.collect import (
    SYNC,
    Clock,
    Lake,
    Mapping,
    Part,
    Refusal,
    Refused,
    Stage,
    adopted,
    current,
    duplicates,
    exclusive,
    joined_key,
    quoted,
    records,
)
from ftl.consortium import Node
from ftl.errors import LakeError, QualityError
from ftl.quality.accepted import read_accepted, write_accepted
from ftl.quality.against import Context, accept
from ftl.quality.compared import compare
from ftl.quality.rows import Rows
from ftl.quality.suite import Rules
from ftl.quality.validation import Docs, Finding, opened_docs, validate

log = logging.getLogger(__name__)

Places = NDArray[np.int64]
"""Of rows among those that are checked, ascending; see :class:`ftl.quality.rows.Rows`."""


class QualityReport(msgspec.Struct, frozen=True):
    """What one check found.

    Attributes:
        party, table: what was checked.
        version: Delta version of the landed table that was checked.
        rows: rows that were checked now; 0 when nothing had landed since the last check.
        passed: those of them that were published.
        quarantined: rows of the table that stand in quarantine now, whoever refused them.
        reasons: reason to number of those rows; a row with two reasons counts in both.
        warnings: expectations that failed without refusing a row.
        published_version: Delta version of the validated table.
        data_docs: index page of the node's Data Docs.
        published: whether this check committed a new version.
    """

    party: str
    table: str
    version: int
    rows: int
    passed: int
    quarantined: int
    reasons: dict[str, int]
    warnings: list[str]
    published_version: int
    data_docs: str
    published: bool


def check(node: Node, table: str, clock: Clock) -> QualityReport:
    """Check what has landed since the last check, and publish what passes.

    After a full sync, or when the mapping or the suite has changed, all landed rows are checked and the validated table
    is replaced; otherwise only the files are that came since, and new states of rows replace the old ones.

    Args:
        node: the party's node.
        table: lake name of the table.
        clock: gives the present moment in UTC.

    Raises:
        QualityError: a critical expectation failed; nothing was published.
        LakeError: nothing has landed yet, or it landed with another mapping.
        LakeConflict: a sync or check of this table is under way.
    """
    rules = Rules(node, table, Mapping(node, table))
    with exclusive(node.landed(table), f"check {node.name}.{table}"):
        report = _Check(rules, clock).run()
    log.info("quality.checked", extra={"check": msgspec.structs.asdict(report)})
    return report


@dataclass
class _Check:
    """One check of one table, under its lock."""

    rules: Rules
    clock: Clock

    def __post_init__(self) -> None:
        node, table = self.rules.node, self.rules.table
        self.landed, self.validated = Lake(node.landed(table)), Lake(node.validated(table))
        self.refused = Refused(node.quarantine(table))
        self.sync, full, mapping = self.landed.marks("sync", "full", "mapping")
        self.checked, last, rebuilt, rules = self.validated.marks("checked", "check", "rebuilt", "rules")
        self.number, self.last_rebuilt = (last or 0) + 1, rebuilt or 0
        if self.sync is None:
            raise LakeError(f"{self.rules.name} has not been collected yet.", cure="Run a full sync first.")
        if mapping != self.rules.mapping.fingerprint:
            raise LakeError(
                f"{self.rules.name} landed with another mapping than consortium.yaml has now.",
                cure="Run a full sync, then check again.",
            )
        self.fingerprint = self.rules.fingerprint
        self.everything = self.checked is None or (full or 0) > self.checked or rules != self.fingerprint
        self.rows = self._unchecked()

    def _unchecked(self) -> Rows:
        """The files that no check has seen; all, and everything is checked again, where one holds rows that one has.

        That comes of a compaction, or of a validated table that shares no file with the landed one.
        """
        known = {adopted(part.path) for part in self.validated.parts()}
        parts = self.landed.parts()
        fresh = Rows.of(self.landed, [part for part in parts if part.path.name not in known])
        if not self.everything and fresh.oldest <= (self.checked or 0):
            self.everything = True
        return Rows.of(self.landed, parts) if self.everything else fresh

    def run(self) -> QualityReport:
        """Check and publish."""
        if not self.everything and self.checked == self.sync:
            return self._report(0, 0, [], published=False)
        self.refused.discard(("quality", "blocked"), after=self.number - 1)
        if not self.rows.count and not self.everything:
            return self._decided([])
        with opened_docs(self.rules.node, self.rules.name) as docs:
            return self._decided(self._findings(docs))

    def _decided(self, findings: list[Finding]) -> QualityReport:
        """Refuse and publish as the findings say."""
        blocking = [finding for finding in findings if finding.severity == "critical"]
        if blocking:
            self._block(blocking)
        refusing = [finding for finding in findings if finding.severity == "warning" and finding.rows is not None]
        refused = self._refuse(refusing)
        self._publish(refused)
        self._remember(refused)
        warnings = [finding.text for finding in findings if finding not in refusing]
        return self._report(self.rows.count, self.rows.count - len(refused), warnings, published=True)

    def _findings(self, docs: Docs) -> list[Finding]:
        findings = validate(docs, self.rules.name, self.rules.build, self.rows)
        findings += compare(docs, self.rules.name, self.rules.compared, self._context)
        refused = _at_fault(finding for finding in findings if finding.severity == "warning")
        findings = [self._counted(refused, finding) for finding in findings]
        return findings + self._repeated_identifiers(refused)

    def _counted(self, refused: Places, finding: Finding) -> Finding:
        """A repeated value says how often; it only blocks where rows repeat it that are not refused anyway."""
        if not finding.unique or finding.rows is None:
            return finding
        passed = self.rows.take(np.setdiff1d(finding.rows, refused), finding.unique)
        count = duplicates(passed, finding.unique)
        if count:
            return _repeated(count, finding.unique, finding.rows)
        return Finding("info", f"{finding.text}: repeated by rows only that are refused for another reason", None)

    def _repeated_identifiers(self, refused: Places) -> list[Finding]:
        """New rows may repeat the identifiers of a row that was published earlier under another key."""
        identifiers = self.rules.identifiers
        if self.everything or not identifiers or set(identifiers) == set(self.rules.mapping.key):
            return []
        passed = self.rows.take(np.setdiff1d(self.rows.places, refused), identifiers)
        known = Rows.of(self.landed, [part for part in self._kept if part.alive])
        named = ", ".join(map(quoted, identifiers))
        kept = known.ask(f"SELECT {named} FROM checked SEMI JOIN passed USING ({named})", passed=passed)  # noqa: S608
        count = duplicates(pa.concat_tables([kept.cast(passed.schema), passed]), identifiers)
        return [_repeated(count, identifiers, None)] if count else []

    @property
    def _kept(self) -> list[Part]:
        """Files of the landed table that were checked before; rows that were refused then, or have left, are dead."""
        if self.everything:
            return []
        refused = {adopted(part.path): part.dead for part in self.validated.parts()}
        return [
            Part(part.path, part.rows, np.union1d(part.dead, refused[part.path.name]))
            for part in self.landed.parts()
            if part.path.name in refused
        ]

    def _block(self, blocking: list[Finding]) -> None:
        """Show the rows at fault in the quarantine, publish nothing.

        Raises:
            QualityError: always.
        """
        self._prepare("blocked", blocking)
        raise QualityError(
            f"{self.rules.name}: of {self.rows.count} rows checked nothing was published, because "
            + "; ".join(finding.text for finding in blocking)
            + ".",
            cure=f"Correct the source and collect again; details: {self._docs}.",
        )

    def _refuse(self, refusing: list[Finding]) -> Places:
        """Places of the rows that do not pass; they are prepared for the quarantine."""
        refused = _at_fault(refusing)
        if self.everything and len(refused) == self.rows.count:
            self._block([Finding("critical", "no row passes: " + "; ".join(f.text for f in refusing), None)])
        self._prepare("quality", refusing)
        return refused

    def _prepare(self, stage: Stage, findings: list[Finding]) -> None:
        places = _at_fault(findings)
        taken = self.rows.take(places)
        refusal = Refusal(
            stage=stage,
            decision=self.number,
            batches=taken.column(SYNC),
            keys=joined_key(taken, self.rules.mapping.key),
            reasons=pa.array(_reasons(places, findings), pa.string()),
            raw=records(taken.drop_columns([SYNC]), range(taken.num_rows)),
            at=self.clock(),
        )
        self.refused.prepare(refusal)

    def _publish(self, refused: Places) -> None:
        assert self.sync is not None  # noqa: S101 - checked when the check was opened
        marks = {
            "checked": self.sync,
            "check": self.number,
            "rebuilt": self.number if self.everything else self.last_rebuilt,
            "rules": self.fingerprint,
        }
        self.validated.adopt(self.landed, [*self._kept, *self.rows.without(refused)], marks)

    def _remember(self, refused: Places) -> None:
        """What was accepted, for the comparisons of later checks. A crash before this only leaves an older memory."""
        compared, rules = self.rules.compared, self.rules
        if compared:
            published = Rows.of(self.landed, self.rows.without(refused))
            write_accepted(rules.node, rules.table, accept(compared, self._context, published, whole=self.everything))

    @cached_property
    def _context(self) -> Context:
        node, table = self.rules.node, self.rules.table
        return Context(node, table, self.rows, self.landed.count(), read_accepted(node, table), self.clock())

    def _report(self, rows: int, passed: int, warnings: list[str], *, published: bool) -> QualityReport:
        standing = current(self.rules.node, self.rules.table)
        reasons = Counter(part for reason in standing.column("reason").to_pylist() for part in reason.split("; "))
        return QualityReport(
            party=self.rules.node.name,
            table=self.rules.table,
            version=self.landed.version or 0,
            rows=rows,
            passed=passed,
            quarantined=standing.num_rows,
            reasons=dict(reasons.most_common()),
            warnings=warnings,
            published_version=self.validated.version or 0,
            data_docs=str(self._docs),
            published=published,
        )

    @property
    def _docs(self) -> Path:
        return self.rules.node.docs / "index.html"


def _repeated(count: int, columns: tuple[str, ...], rows: NDArray[np.int64] | None) -> Finding:
    text = f"{count} values of {' + '.join(columns)} appear more than once, but must be unique"
    return Finding("critical", text, rows, columns)


def _at_fault(findings: Iterable[Finding]) -> Places:
    """Places of the rows that any of the findings names, ascending."""
    found = [finding.rows for finding in findings if finding.rows is not None]
    return np.unique(np.concatenate([np.empty(0, np.int64), *found]))


def _reasons(places: Places, findings: list[Finding]) -> list[str]:
    """Per row at these places its reasons."""
    reasons = [""] * len(places)
    for finding in findings:
        for row in [] if finding.rows is None else np.searchsorted(places, finding.rows).tolist():
            reasons[row] = f"{reasons[row]}; {finding.text}" if reasons[row] else finding.text
    return reasons
