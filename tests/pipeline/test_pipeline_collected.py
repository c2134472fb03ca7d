from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from ftl.collect import SyncReport
from ftl.collect.stream import StreamStatus
from ftl.consortium import Consortium, Folder
from ftl.pipeline.collected import StreamNotes, lag_seconds, write_collected
from ftl.pipeline.journal import Entry, entries

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def report(position: str | None) -> SyncReport:
    return SyncReport("bank", "accounts", "full", 1, 1, 0, 1, position, 1.0, skipped=False)


@pytest.mark.parametrize(
    ("position", "seconds"),
    [
        ("2026-01-01 11:00:00+00:00", 3600),
        ("2025-12-31", 129_600),
        ("2026-01-01 13:00:00+00:00", 0),
        ("20260101", None),
        ("-5", None),
        ("1.5e-05", None),
        (None, None),
    ],
)
def test_lag_is_the_age_of_the_newest_row_where_its_cursor_is_a_time(position: str | None, seconds: Any) -> None:
    assert lag_seconds(report(position), NOON) == seconds


def test_rows_and_lag_of_every_synced_table_are_drawn(tmp_path: Path) -> None:
    led = [
        Entry("collect", NOON + timedelta(hours=hour), 1.0, "bank", table, {"landed": 10, "lag_seconds": 60 * hour})
        for hour in range(3)
        for table in ("accounts", "loans")
    ]
    assert write_collected([*led, Entry("quality", NOON, 1.0, "bank", "accounts")], tmp_path / "one.png")
    assert imread(tmp_path / "one.png").shape[2] == 4
    assert write_collected(led[:2], tmp_path / "less.png")
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "less.png").read_bytes()


def test_a_stream_is_journalled_with_its_first_batch_once_a_minute_and_at_its_end(tmp_path: Path) -> None:
    folder = two_parties(tmp_path)
    notes = StreamNotes(folder)
    for second, rows in ((0, 0), (1, 10), (30, 50), (61, 90), (70, 95)):
        lag = 2.6 if rows else None
        notes.note(StreamStatus("bank", "accounts", "streaming", rows, rows, 0, 0, 1, 1, lag, 0, moment(second)))
    notes.note(StreamStatus("bank", "accounts", "stopped", 95, 94, 0, 1, 1, 1, None, 0, moment(71)))
    found = [entry for entry in entries(folder) if entry.step == "stream"]
    assert [(entry.at, entry.seconds, entry.counts) for entry in found] == [
        (moment(1), 0.0, {"read": 10, "landed": 10, "quarantined": 0, "lag_seconds": 3}),
        (moment(61), 60.0, {"read": 80, "landed": 80, "quarantined": 0, "lag_seconds": 3}),
        (moment(71), 10.0, {"read": 5, "landed": 4, "quarantined": 1}),
    ]
    assert write_collected(found, tmp_path / "streams.png")


def two_parties(root: Path) -> Folder:
    party = {
        "sources": {"files": {"kind": "csv", "path": "data"}},
        "tables": {
            "people": {"source": "files", "table": "p.csv", "columns": {"id": {"from": "ID", "type": "string"}}}
        },
        "features": {"table": "people", "columns": ["id"]},
    }
    parties = {"bank": party | {"role": "active", "label": {"column": "id"}}, "shop": party | {"role": "passive"}}
    values = {"version": 1, "name": "test", "identifiers": ["id"], "parties": parties}
    return Folder(root, Consortium.model_validate(values))


def moment(second: int) -> datetime:
    return NOON + timedelta(seconds=second)


def test_without_a_sync_nothing_is_drawn(tmp_path: Path) -> None:
    assert not write_collected([Entry("train", NOON, 1.0)], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
