from pathlib import Path
from typing import Any

import pytest
from collect_bank import customer, open_bank

from ftl.collect import SyncProgress, collect


def test_a_sync_tells_rows_bytes_and_time_and_logs_one_record_a_batch(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bank = open_bank("sqlite", tmp_path, request)
    bank.write([customer(number) for number in range(70_000)])
    caplog.set_level("INFO")
    told: list[SyncProgress] = []
    collect(bank.node, "customers", "full", clock, told.append)
    mapped = [one for one in told if one.step == "mapped"]
    assert [(one.rows, one.of) for one in mapped] == [(65_536, 70_000), (70_000, 70_000)]
    assert 0 < mapped[0].bytes < mapped[1].bytes == told[-1].bytes
    assert mapped[0].seconds < mapped[1].seconds < told[-1].seconds
    assert mapped[0].speed == mapped[0].bytes / 1e6 / mapped[0].seconds
    logged = [record.batch for record in caplog.records if record.message == "collect.batch"]  # type: ignore[attr-defined]
    assert [(one["table"], one["rows"], one["bytes"]) for one in logged] == [
        ("customers", one.rows, one.bytes) for one in mapped
    ]
