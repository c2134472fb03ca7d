from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

from ftl.consortium import Consortium, Folder
from ftl.pipeline.journal import Entry, append, entries, since_last_training

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def folder(root: Path) -> Folder:
    column = {"from": "ID", "type": "string"}
    party = {
        "sources": {"files": {"kind": "csv", "path": "data"}},
        "tables": {"people": {"source": "files", "table": "people.csv", "columns": {"id": column}}},
        "features": {"table": "people", "columns": ["id"]},
    }
    parties = {
        "bank": {**party, "role": "active", "label": {"column": "id"}},
        "shop": {**party, "role": "passive"},
    }
    document = {"version": 1, "name": "test", "identifiers": ["id"], "parties": parties}
    return Folder(root, Consortium.model_validate(document))


def write_lines(root: Path, party: str) -> None:
    for number in range(200):
        append(folder(root), Entry("collect", NOON, float(number), party))


def test_two_processes_that_write_at_once_lose_and_tear_no_line(tmp_path: Path) -> None:
    context = get_context("spawn")
    writers = [context.Process(target=write_lines, args=(tmp_path, party)) for party in ("bank", "shop")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    written = entries(folder(tmp_path))
    for party in ("bank", "shop"):
        assert [entry.seconds for entry in written if entry.party == party] == [float(n) for n in range(200)]


def test_a_run_is_told_by_the_steps_since_the_training_before_it(tmp_path: Path) -> None:
    here = folder(tmp_path)
    for step, run_id in (
        ("collect", ""),
        ("train", "a"),
        ("collect", ""),
        ("quality", ""),
        ("train", "b"),
        ("collect", ""),
    ):
        append(here, Entry(step, NOON, 1.0, run_id=run_id))
    assert [entry.step for entry in since_last_training(here, "b")] == ["collect", "quality", "train"]


def test_a_folder_without_a_journal_has_no_entries(tmp_path: Path) -> None:
    assert entries(folder(tmp_path)) == []
