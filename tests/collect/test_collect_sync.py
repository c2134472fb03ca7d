from typing import Any

import pytest
from collect_bank import Bank, customer, landed, make_node, open_bank

from ftl.collect import Lake, collect, current, survey, watermark
from ftl.errors import LakeConflict, MappingError


def rows_of(bank: Bank, version: int | None = None) -> list[dict[str, Any]]:
    rows = Lake(bank.node.landed("customers"), version).read().drop_columns(["_sync"]).to_pylist()
    return sorted(rows, key=lambda row: row["id_number"])


def refused_of(bank: Bank) -> list[tuple[str, str]]:
    rows = current(bank.node, "customers")
    return sorted(zip(rows.column("key").to_pylist(), rows.column("reason").to_pylist(), strict=True))


def test_a_full_sync_lands_every_row_as_the_mapping_says(bank: Bank, clock: Any) -> None:
    source = [customer(number) for number in range(100)]
    bank.write(source)
    report = collect(bank.node, "customers", "full", clock)
    assert rows_of(bank) == [landed(row) for row in source]
    assert (report.rows_read, report.rows_landed, report.rows_quarantined) == (100, 100, 0)
    assert report.position == "2024-05-01 10:00:59+00:00"
    assert str(watermark(bank.node, "customers")) == report.position
    assert not report.skipped


def test_a_second_full_sync_of_an_unchanged_source_writes_nothing(bank: Bank, clock: Any) -> None:
    bank.write([customer(number) for number in range(10)])
    first = collect(bank.node, "customers", "full", clock)
    second = collect(bank.node, "customers", "full", clock)
    assert second.skipped
    assert second.version == first.version


def test_an_incremental_sync_lands_new_and_changed_rows_once(bank: Bank, clock: Any) -> None:
    source = [customer(number) for number in range(60)]
    bank.write(source)
    collect(bank.node, "customers", "full", clock)
    source[7] = customer(7, LIM=7.25, UPD="2024-05-02 08:00:00")
    source += [customer(number, UPD="2024-05-02 09:30:00") for number in (100, 101)]
    bank.write(source)
    report = collect(bank.node, "customers", "incremental", clock)
    assert rows_of(bank) == [landed(row) for row in source]
    assert (report.rows_read, report.rows_landed) == (4, 3)  # the row at the watermark is read again, and not landed
    assert report.position == "2024-05-02 09:30:00+00:00"
    again = collect(bank.node, "customers", "incremental", clock)
    assert again.skipped
    assert again.version == report.version
    assert again.rows_read == 2


def test_rows_that_share_the_watermark_but_came_later_are_not_lost(bank: Bank, clock: Any) -> None:
    source = [customer(number, UPD="2024-05-01 10:00:00") for number in range(3)]
    bank.write(source)
    collect(bank.node, "customers", "full", clock)
    source.append(customer(3, UPD="2024-05-01 10:00:00"))
    bank.write(source)
    assert collect(bank.node, "customers", "incremental", clock).rows_landed == 1
    assert rows_of(bank) == [landed(row) for row in source]


def test_an_unreadable_cell_sends_its_row_to_quarantine_and_no_other(bank: Bank, clock: Any) -> None:
    source = [customer(number) for number in range(50)]
    source[20] = customer(20, SCORE="12,OO", BORN="1980-02-30")
    source[30] = customer(30, KNR=None)
    bank.write(source)
    report = collect(bank.node, "customers", "full", clock)
    good = [landed(row) for number, row in enumerate(source) if number not in (20, 30)]
    assert rows_of(bank) == good
    assert report.rows_quarantined == 2
    refused = current(bank.node, "customers").sort_by("reason").to_pylist()
    assert [row["reason"] for row in refused] == [
        "born: cannot be read as date; score: cannot be read as int64",
        "id_number: the key is missing",
    ]
    assert '"SCORE": "12,OO"' in refused[0]["raw"]
    assert refused[0]["key"] == "AB0020X"


def test_a_quarantined_row_that_arrives_repaired_leaves_the_quarantine(bank: Bank, clock: Any) -> None:
    source = [customer(0), customer(1, SCORE="?")]
    bank.write(source)
    collect(bank.node, "customers", "full", clock)
    assert refused_of(bank) == [("AB0001X", "score: cannot be read as int64")]
    source[1] = customer(1, SCORE="5", UPD="2024-05-02 00:00:00")
    bank.write(source)
    collect(bank.node, "customers", "incremental", clock)
    assert refused_of(bank) == []
    assert rows_of(bank) == [landed(row) for row in source]


def test_a_landed_row_that_arrives_damaged_is_taken_out(bank: Bank, clock: Any) -> None:
    source = [customer(0), customer(1)]
    bank.write(source)
    collect(bank.node, "customers", "full", clock)
    source[1] = customer(1, SCORE="?", UPD="2024-05-02 00:00:00")
    bank.write(source)
    report = collect(bank.node, "customers", "incremental", clock)
    assert (report.rows_landed, report.rows_quarantined) == (0, 1)
    assert rows_of(bank) == [landed(source[0])]
    for _ in range(2):  # it stays at the watermark, and is read again by every sync
        assert collect(bank.node, "customers", "incremental", clock).skipped
    assert refused_of(bank) == [("AB0001X", "score: cannot be read as int64")]


def test_a_row_deleted_at_the_source_goes_with_the_next_full_sync(bank: Bank, clock: Any) -> None:
    source = [customer(number) for number in range(5)]
    bank.write(source)
    collect(bank.node, "customers", "full", clock)
    source = [*source[1:], customer(9, UPD="2024-05-03 00:00:00")]
    bank.write(source)
    collect(bank.node, "customers", "incremental", clock)
    assert len(rows_of(bank)) == 6
    report = collect(bank.node, "customers", "full", clock)
    assert not report.skipped
    assert rows_of(bank) == [landed(row) for row in source]


def test_the_old_version_stays_readable_after_a_full_sync(bank: Bank, clock: Any) -> None:
    bank.write([customer(1)])
    first = collect(bank.node, "customers", "full", clock)
    bank.write([customer(2, UPD="2025-01-01 00:00:00")])
    collect(bank.node, "customers", "full", clock)
    assert rows_of(bank, first.version) == [landed(customer(1))]


def test_an_empty_source_lands_an_empty_table_without_a_watermark(bank: Bank, clock: Any) -> None:
    report = collect(bank.node, "customers", "full", clock)
    assert rows_of(bank) == []
    assert report.position is None
    bank.write([customer(3)])
    collect(bank.node, "customers", "incremental", clock)
    assert rows_of(bank) == [landed(customer(3))]


def test_a_survey_names_every_wrong_column_and_the_names_there_are(bank: Bank) -> None:
    columns = {
        name: column | {"from": {"TEL": "TELL", "SEX": "GENDER"}.get(column["from"], column["from"])}
        for name, column in bank.node.party.tables["customers"].model_dump(by_alias=True)["columns"].items()
    }
    source = bank.node.party.sources["core"].model_dump(by_alias=True)
    node = make_node(bank.node.root, source, bank.node.party.tables["customers"].table, columns=columns)
    faults = survey(node)
    assert [fault.path for fault in faults] == [
        "parties.bank.tables.customers.columns.phone.from",
        "parties.bank.tables.customers.columns.sex.from",
    ]
    assert faults[0].given == "TELL"
    assert "TEL" in faults[0].valid
    assert survey(bank.node) == []


def test_a_first_incremental_sync_is_a_full_one(request: pytest.FixtureRequest, tmp_path: Any, clock: Any) -> None:
    bank = open_bank("sqlite", tmp_path, request)
    bank.write([customer(1)])
    assert collect(bank.node, "customers", "incremental", clock).mode == "full"


def test_a_changed_mapping_makes_the_next_sync_a_full_one(
    request: pytest.FixtureRequest, tmp_path: Any, clock: Any
) -> None:
    bank = open_bank("sqlite", tmp_path, request)
    bank.write([customer(1)])
    collect(bank.node, "customers", "full", clock)
    changed = open_bank("sqlite", tmp_path, request, derived={"half": '"limit" / 2'})
    changed.write([customer(1)])
    assert collect(changed.node, "customers", "incremental", clock).mode == "full"
    assert rows_of(changed)[0]["half"] == 500.75


def test_an_incremental_sync_without_a_cursor_is_refused(
    request: pytest.FixtureRequest, tmp_path: Any, clock: Any
) -> None:
    bank = open_bank("sqlite", tmp_path, request, cursor=None)
    with pytest.raises(MappingError, match="customers: an incremental sync needs a cursor"):
        collect(bank.node, "customers", "incremental", clock)


def test_repeated_keys_among_changed_rows_are_counted_and_not_shown(
    request: pytest.FixtureRequest, tmp_path: Any, clock: Any
) -> None:
    bank = open_bank("sqlite", tmp_path, request)
    bank.write([customer(1)])
    collect(bank.node, "customers", "full", clock)
    twice = [customer(2, UPD="2024-06-01 00:00:00"), customer(2, UPD="2024-06-02 00:00:00")]
    bank.write([customer(1), *twice])
    with pytest.raises(MappingError, match=r"1 keys \(id_number\) appear more than once") as caught:
        collect(bank.node, "customers", "incremental", clock)
    assert "AB0002X" not in str(caught.value)
    assert rows_of(bank) == [landed(customer(1))]


def test_of_two_syncs_at_once_one_wins_and_the_other_says_so(
    request: pytest.FixtureRequest, tmp_path: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftl.collect.lock.LOCK_SECONDS", 0)
    bank = open_bank("sqlite", tmp_path, request)
    bank.write([customer(1, SCORE="?"), customer(2)])
    told: list[str] = []

    def second(progress: Any) -> None:
        if progress.step == "prepared":
            with pytest.raises(LakeConflict, match=r"Cannot collect bank.customers: another process is writing"):
                collect(bank.node, "customers", "full", clock)
            told.append(progress.step)

    collect(bank.node, "customers", "full", clock, second)
    assert told == ["prepared"]
    assert rows_of(bank) == [landed(customer(2))]
    assert len(refused_of(bank)) == 1


def test_a_commit_that_slipped_in_between_is_not_overwritten(
    request: pytest.FixtureRequest, tmp_path: Any, clock: Any
) -> None:
    bank = open_bank("sqlite", tmp_path, request)
    bank.write([customer(1)])
    collect(bank.node, "customers", "full", clock)
    lake = Lake(bank.node.landed("customers"))
    bank.write([customer(1), customer(2)])

    def intrude(progress: Any) -> None:
        if progress.step == "prepared":
            lake.append(lake.read())

    with pytest.raises(LakeConflict, match=r"Another process committed to .* first"):
        collect(bank.node, "customers", "full", clock, intrude)
    assert lake.count() == 2


def test_progress_tells_every_step_and_the_rows(request: pytest.FixtureRequest, tmp_path: Any, clock: Any) -> None:
    bank = open_bank("sqlite", tmp_path, request)
    bank.write([customer(number) for number in range(4)])
    steps: list[tuple[str, int]] = []
    collect(bank.node, "customers", "full", clock, lambda told: steps.append((told.step, told.rows)))
    assert steps == [("started", 0), ("mapped", 4), ("prepared", 4), ("committed", 4)]
