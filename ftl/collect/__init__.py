"""Source → lake: readers, field mapping, full and incremental sync into Delta tables, exactly once.

>>> report = collect(node, "accounts", "full", clock)          # doctest: +SKIP
>>> watermark(node, "accounts")                                # doctest: +SKIP
"""

from ftl.collect.cast import LAKE_TYPES, cast, plain
from ftl.collect.changes import CHANGE, changes, difference, write_changes
from ftl.collect.contract import Terms, judge
from ftl.collect.derive import Derivation, sandbox
from ftl.collect.disk import disk_full, disk_is_full
from ftl.collect.increment import Interval
from ftl.collect.lake import SYNC, Lake, adopted, duplicates
from ftl.collect.lock import exclusive
from ftl.collect.mapping import Mapping, number, records
from ftl.collect.normalise import normalised, normalised_text
from ftl.collect.online import OnlineStore
from ftl.collect.own_code import run_file
from ftl.collect.parts import PLACE, Part, create_numbered_view, create_view, quoted
from ftl.collect.personal import personal_sort
from ftl.collect.query import query
from ftl.collect.refused import Clock, Refusal, Refused, Stage, current, joined_key
from ftl.collect.replay import ReplayReport, replay
from ftl.collect.report import Mode, SyncProgress, SyncReport
from ftl.collect.source import Position, Since, Snapshot, Source, nearest, open_source
from ftl.collect.suggest import suggest
from ftl.collect.survey import Fault, survey
from ftl.collect.sync import collect, follows, watermark
from ftl.collect.trial import Failure, Trial, try_mapping
from ftl.collect.watch import watch, watchable

__all__ = [
    "CHANGE",
    "LAKE_TYPES",
    "PLACE",
    "SYNC",
    "Clock",
    "Derivation",
    "Failure",
    "Fault",
    "Interval",
    "Lake",
    "Mapping",
    "Mode",
    "OnlineStore",
    "Part",
    "Position",
    "Refusal",
    "Refused",
    "ReplayReport",
    "Since",
    "Snapshot",
    "Source",
    "Stage",
    "SyncProgress",
    "SyncReport",
    "Terms",
    "Trial",
    "adopted",
    "cast",
    "changes",
    "collect",
    "create_numbered_view",
    "create_view",
    "current",
    "difference",
    "disk_full",
    "disk_is_full",
    "duplicates",
    "exclusive",
    "follows",
    "joined_key",
    "judge",
    "nearest",
    "normalised",
    "normalised_text",
    "number",
    "open_source",
    "personal_sort",
    "plain",
    "query",
    "quoted",
    "records",
    "replay",
    "run_file",
    "sandbox",
    "suggest",
    "survey",
    "try_mapping",
    "watch",
    "watchable",
    "watermark",
    "write_changes",
]
