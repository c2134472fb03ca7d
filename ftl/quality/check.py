"""Landed rows → validated rows: what passes the suite is published, the rest goes to quarantine with its reasons.

Severity decides. *critical*: nothing of the batch is published, the rows at fault are shown in the quarantine, and
:class:`~ftl.errors.QualityError` stops what comes after. *warning*: the rows at fault go to quarantine, the others are
published. *info*: a warning in the report.

The validated table commits the published rows together with the number of the landed sync up to which they were
checked. Refused rows are prepared in the quarantine before that commit (see :mod:`ftl.collect.refused`). A row that was
good once and arrives damaged leaves the validated table: an outdated record must not be trained on as if it were true.
"""

import logging
from collections import Counter
from dataclasses import dataclass
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
    Refusal,
    Refused,
    Stage,
    current,
    duplicates,
    exclusive,
    joined_key,
    records,
)
from ftl.consortium import Node
from ftl.errors import LakeError, QualityError
from ftl.quality.suite import Rules
from ftl.quality.validation import Finding, validate

log = logging.getLogger(__name__)


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
    is replaced; otherwise the new rows are merged into it by key.

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

    def run(self) -> QualityReport:
        """Check and publish."""
        if not self.everything and self.checked == self.sync:
            return self._report(0, 0, [], published=False)
        self.refused.discard(("quality", "blocked"), after=self.number - 1)
        rows = self.landed.read(since=None if self.everything else self.checked)
        findings = self._findings(rows)
        blocking = [finding for finding in findings if finding.severity == "critical"]
        if blocking:
            self._block(rows, blocking)
        refusing = [finding for finding in findings if finding.severity == "warning" and finding.rows is not None]
        good = self._refuse(rows, refusing)
        self._publish(rows, good)
        warnings = [finding.text for finding in findings if finding not in refusing]
        return self._report(rows.num_rows, int(good.sum()), warnings, published=True)

    def _findings(self, rows: pa.Table) -> list[Finding]:
        if not rows.num_rows and not self.everything:
            return []
        findings = validate(self.rules.node, self.rules.name, self.rules.build, rows.drop_columns([SYNC]))
        failed, _ = _reasons(rows.num_rows, [finding for finding in findings if finding.severity == "warning"])
        passed = rows.filter(pa.array(~failed, pa.bool_()))
        findings = [self._counted(passed, finding) for finding in findings]
        return findings + self._repeated_identifiers(passed, rows)

    def _counted(self, passed: pa.Table, finding: Finding) -> Finding:
        """A repeated value says how often; it only blocks where rows repeat it that are not refused anyway."""
        if not finding.unique:
            return finding
        count = duplicates(passed, finding.unique)
        if count:
            return _repeated(count, finding.unique, finding.rows)
        return Finding("info", f"{finding.text}: repeated by rows only that are refused for another reason", None)

    def _repeated_identifiers(self, passed: pa.Table, rows: pa.Table) -> list[Finding]:
        """New rows may repeat the identifiers of a row that was published earlier under another key."""
        key, identifiers = list(self.rules.mapping.key), self.rules.identifiers
        if self.everything or not identifiers or set(identifiers) == set(key):
            return []
        columns = list(dict.fromkeys([*key, *identifiers]))
        kept = self.validated.read(columns).join(rows.select(key), key, join_type="left anti").select(columns)
        count = duplicates(pa.concat_tables([kept, passed.select(columns)]), identifiers)
        return [_repeated(count, identifiers, None)] if count else []

    def _block(self, rows: pa.Table, blocking: list[Finding]) -> None:
        """Show the rows at fault in the quarantine, publish nothing.

        Raises:
            QualityError: always.
        """
        failed, reasons = _reasons(rows.num_rows, blocking)
        self._prepare("blocked", rows, failed, reasons)
        raise QualityError(
            f"{self.rules.name}: of {rows.num_rows} rows checked nothing was published, because "
            + "; ".join(finding.text for finding in blocking)
            + ".",
            cure=f"Correct the source and collect again; details: {self._docs}.",
        )

    def _refuse(self, rows: pa.Table, refusing: list[Finding]) -> NDArray[np.bool_]:
        """bool, shape (n,): rows that pass; the others are prepared for the quarantine."""
        failed, reasons = _reasons(rows.num_rows, refusing)
        if self.everything and failed.all():
            self._block(rows, [Finding("critical", "no row passes: " + "; ".join(f.text for f in refusing), None)])
        self._prepare("quality", rows, failed, reasons)
        return ~failed

    def _prepare(self, stage: Stage, rows: pa.Table, failed: NDArray[np.bool_], reasons: list[str]) -> None:
        positions = pa.array(np.flatnonzero(failed), pa.int64())
        taken = rows.take(positions)
        refusal = Refusal(
            stage=stage,
            decision=self.number,
            batches=taken.column(SYNC),
            keys=joined_key(taken, self.rules.mapping.key),
            reasons=pa.array([reasons[row] for row in positions.to_pylist()], pa.string()),
            raw=records(taken.drop_columns([SYNC]), range(taken.num_rows)),
            at=self.clock(),
        )
        self.refused.prepare(refusal)

    def _publish(self, rows: pa.Table, good: NDArray[np.bool_]) -> None:
        assert self.sync is not None  # noqa: S101 - checked when the check was opened
        marks = {
            "checked": self.sync,
            "check": self.number,
            "rebuilt": self.number if self.everything else self.last_rebuilt,
            "rules": self.fingerprint,
        }
        passed = rows.filter(pa.array(good, pa.bool_()))
        if self.everything:
            self.validated.replace(passed.to_batches(), rows.schema, lambda: marks)
            return
        key = list(self.rules.mapping.key)
        failed = rows.filter(pa.array(~good, pa.bool_())).select(key).drop_null()
        self.validated.merge(passed, key, pa.concat_tables([failed, self._gone(key)]), marks)

    def _gone(self, key: list[str]) -> pa.Table:
        """Keys of published rows that the landed table no longer has, because their new state was refused there."""
        return self.validated.read(key).join(self.landed.read(key), key, join_type="left anti").select(key)

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


def _reasons(count: int, findings: list[Finding]) -> tuple[NDArray[np.bool_], list[str]]:
    """(bool of shape (count,): rows at fault, per row its reasons)."""
    failed, reasons = np.zeros(count, dtype=bool), [""] * count
    for finding in findings:
        for row in [] if finding.rows is None else finding.rows.tolist():
            failed[row] = True
            reasons[row] = f"{reasons[row]}; {finding.text}" if reasons[row] else finding.text
    return failed, reasons
