"""Source → lake: readers, field mapping, full and incremental sync into Delta tables, exactly once.

>>> report = collect(node, "accounts", "full", clock)          # doctest: +SKIP
>>> watermark(node, "accounts")                                # doctest: +SKIP
"""

from ftl.collect.cast import LAKE_TYPES, cast, plain
from ftl.collect.derive import Derivation
from ftl.collect.lake import SYNC, Lake, duplicates
from ftl.collect.lock import exclusive
from ftl.collect.mapping import Mapping, number, records
from ftl.collect.refused import Clock, Refusal, Refused, Stage, current, joined_key
from ftl.collect.report import Mode, SyncProgress, SyncReport
from ftl.collect.source import Position, Since, Snapshot, Source, nearest, open_source
from ftl.collect.survey import Fault, survey
from ftl.collect.sync import collect, watermark

__all__ = [
    "LAKE_TYPES",
    "SYNC",
    "Clock",
    "Derivation",
    "Fault",
    "Lake",
    "Mapping",
    "Mode",
    "Position",
    "Refusal",
    "Refused",
    "Since",
    "Snapshot",
    "Source",
    "Stage",
    "SyncProgress",
    "SyncReport",
    "cast",
    "collect",
    "current",
    "duplicates",
    "exclusive",
    "joined_key",
    "nearest",
    "number",
    "open_source",
    "plain",
    "records",
    "survey",
    "watermark",
]
