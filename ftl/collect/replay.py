"""Lands quarantined records after their mapping has been corrected, without reading the source again.

A replay is a sync of its own: it maps the raw records that the mapping refused with the mapping as it is now, merges
those that pass by key, and leaves the rest where they are. What landed is noted in the quarantine under the sync's
number before its commit, and counts from that commit on: a crash repeats no record and loses none.
"""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ftl.collect.cells import cells
from ftl.collect.history import keep_history
from ftl.collect.lake import SYNC
from ftl.collect.leaving import GONE
from ftl.collect.lock import exclusive
from ftl.collect.mapping import Mapped, Mapping
from ftl.collect.online import OnlineStore
from ftl.collect.refused import Clock, Refusal, current, joined_key
from ftl.collect.session import Session
from ftl.consortium import Node
from ftl.errors import LakeError

log = logging.getLogger(__name__)


class ReplayReport(msgspec.Struct, frozen=True):
    """What one replay did.

    Attributes:
        party, table: whose records.
        records: that the mapping had refused.
        landed: of them, now in the landed table.
        deleted: marked as deleted by the source, so that they left the quarantine for nowhere.
        refused: still refused, or no record of the source's columns.
        conflicting: they read well, but their key has landed since, or comes twice among them.
        pseudonyms: not tried, because the column at fault is kept as a hash only.
        version: Delta version of the landed table.
    """

    party: str
    table: str
    records: int
    landed: int
    deleted: int
    refused: int
    conflicting: int
    pseudonyms: int
    version: int


def replay(node: Node, table: str, clock: Clock) -> ReplayReport:
    """Map the refused records of a table anew and land what passes.

    Rows that landed before stay as they are, and the table goes on with the mapping as it is now. A cell of a column
    that lands as a pseudonym is in the record as the pseudonym that it got, and is taken as such.

    Args:
        node: the party's node.
        table: lake name.
        clock: gives the present moment in UTC.

    Raises:
        LakeError: the table has not landed, or with other columns than the mapping has now.
        MappingError: the mapping is wrong as a whole.
        LakeConflict: a sync or check of this table is under way.
    """
    mapping = Mapping(node, table)
    with exclusive(node.landed(table), f"replay {node.name}.{table}"):
        session = Session(node, table, mapping, clock, lambda _: None)
        report = _Replay(session).run()
        if report.landed and mapping.settings.history:
            keep_history(node, table)
        if report.landed and mapping.settings.online:
            with closing(OnlineStore.of(node, table, mapping)) as online:
                online.refresh(session.lake)
    log.info("collect.replayed", extra={"replay": msgspec.structs.asdict(report)})
    return report


class _Replay:
    """One replay, under the table's lock."""

    def __init__(self, session: Session) -> None:
        self.session, self.mapping = session, session.mapping
        known = session.lake.schema()
        if known is None or not session.last:
            raise LakeError(f"{self.mapping.label} has not been collected yet.", cure="Run a full sync first.")
        if not all(field in known for field in self.mapping.schema):
            raise LakeError(
                f"{self.mapping.label}: the columns or their types are others than those that have landed.",
                cure="Run a full sync: it reads the quarantined records anew as well.",
            )
        session.refused.discard(("collect",), after=session.last)
        stands = current(session.node, session.table)
        self._fine = 0
        self.records = stands.filter(pc.equal(stands.column("stage"), "collect"))

    def run(self) -> ReplayReport:
        """Map, merge, report."""
        reasons = self.records.column("reason").to_pylist()
        tried = [place for place, reason in enumerate(reasons) if not _names(reason, self._hashed)]
        rows = [(place, row) for place in tried if (row := self._row(place)) is not None]
        landing, staying = self._land(rows) if rows else (0, 0)
        return ReplayReport(
            party=self.session.node.name,
            table=self.session.table,
            records=self.records.num_rows,
            landed=staying,
            deleted=landing - staying,
            refused=len(tried) - self._fine,
            conflicting=self._fine - landing,
            pseudonyms=self.records.num_rows - len(tried),
            version=self.session.lake.version or 0,
        )

    def _land(self, rows: list[tuple[int, dict[str, Any]]]) -> tuple[int, int]:
        """(records that leave the quarantine, those of them that land)."""
        mapped = self._mapped([row for _, row in rows])
        fine = pc.indices_nonzero(pc.is_null(mapped.reasons)).to_pylist()
        self._fine = len(fine)
        landing = self._undisputed(mapped.rows, fine, [place for place, _ in rows])
        gone = mapped.rows.column(GONE).to_pylist() if GONE in mapped.rows.column_names else [False] * len(rows)
        staying = [spot for spot in landing if not gone[spot]]
        if landing:
            self._commit(mapped.rows.take(pa.array(staying, pa.int64())), [rows[spot][0] for spot in landing])
        return len(landing), len(staying)

    @property
    def _hashed(self) -> set[str]:
        """Lake columns that cannot be read from the records: what they are made of is kept as a hash only."""
        columns = self.mapping.settings.columns
        sources = {column.source for column in columns.values() if column.pseudonym}
        return {name for name, column in columns.items() if column.source in sources}

    def _row(self, place: int) -> dict[str, Any] | None:
        """The source's record; None where the raw text is none, or lacks a column."""
        try:
            row = json.loads(self.records.column("raw")[place].as_py())
        except json.JSONDecodeError:
            return None
        complete = isinstance(row, dict) and all(name in row for name in self.mapping.source_columns)
        return row if complete else None

    def _mapped(self, rows: list[dict[str, Any]]) -> Mapped:
        names = self.mapping.source_columns
        batch = pa.record_batch([cells([row[name] for row in rows]) for name in names], names=list(names))
        return self.session.remapped(batch)

    def _undisputed(self, rows: pa.Table, fine: Sequence[int], places: Sequence[int]) -> list[int]:
        """Of the rows at `fine` those whose key no landed row of the same or a later sync has, nor another of them."""
        keys = joined_key(rows, self.mapping.key).to_pylist()
        landed = self.session.lake.read([*self.mapping.key, SYNC])
        there = joined_key(landed, self.mapping.key)
        asked = pc.is_in(there, pa.array([keys[spot] for spot in fine], pa.string()))
        newest = dict(zip(there.filter(asked).to_pylist(), landed.column(SYNC).filter(asked).to_pylist(), strict=True))
        batches = self.records.column("batch").to_pylist()
        times = Counter(keys[spot] for spot in fine)
        return [spot for spot in fine if times[keys[spot]] == 1 and newest.get(keys[spot], -1) < batches[places[spot]]]

    def _commit(self, rows: pa.Table, places: Sequence[int]) -> None:
        """Note what lands, then merge it."""
        session = self.session
        noted = self.records.take(pa.array(places, pa.int64()))
        session.refused.prepare(
            Refusal(
                stage="replayed",
                decision=session.number,
                batches=noted.column("batch"),
                keys=noted.column("key"),
                reasons=noted.column("reason"),
                raw=noted.column("raw").to_pylist(),
                at=session.clock(),
            )
        )
        key = list(self.mapping.key)
        marks = {"sync": session.number, "mapping": self.mapping.fingerprint}
        if session.mapping_moved:
            marks["source"] = -1  # a full sync that is asked for reads everything with the new mapping
        nothing = rows.select(key).slice(0, 0)
        session.lake.merge(session.numbered(rows), key, nothing, marks)


def _names(reason: str, columns: set[str]) -> bool:
    """Whether a reason of the mapping is about one of the columns."""
    return any(part.partition(":")[0] in columns for part in reason.split("; "))
