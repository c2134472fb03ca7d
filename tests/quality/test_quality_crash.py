"""Checks killed with SIGKILL before every step that writes, or ended by a full disk, and run again."""

import itertools
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from collect_bank import customer, landed, open_bank
from dying import die
from quality_checked import Checked, at_times
from ruamel.yaml import YAML
from small_disk import small_disk

from benchmarks.collect.killing import run
from ftl.collect import collect
from ftl.consortium import Node
from ftl.errors import LakeError
from ftl.quality import check, quarantined, read_validated

LATER = "2024-05-02 00:00:00"


def _check(node: Node, die_before: int) -> None:
    """In a process of its own: check, and die before the given one of the steps that change the lake."""
    import ftl.collect.lake
    from ftl.collect.lake import Lake
    from ftl.collect.writing import DataFile

    steps = (
        (Lake, "append"),
        (Lake, "delete"),
        (Lake, "_create"),
        (Lake, "_sweep"),
        (DataFile, "write"),
        (DataFile, "close"),
        (ftl.collect.lake, "write_vectors"),
        (ftl.collect.lake, "commit"),
        (Lake, "_committed"),
    )
    die(steps, die_before)
    check(node, "customers", at_times())


def _killed(node: Node, step: int) -> bool:
    code = run(_check, node, step)
    assert code in (0, -signal.SIGKILL)
    return code != 0


def _state(node: Node) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    rows = quarantined(node, "customers")
    refused = sorted(zip(rows.column("key").to_pylist(), rows.column("reason").to_pylist(), strict=True))
    try:
        return read_validated(node, "customers").to_pylist(), refused
    except LakeError:
        return [], refused


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_a_check_killed_before_any_step_publishes_and_refuses_no_row_twice(mode: str, checked: Checked) -> None:
    source = [customer(number) for number in range(20)]
    source[4] = customer(4, LIM=-1.0)
    published, refused = [landed(row) for row in source if row["LIM"] > 0], [("AB0004X", "limit: is a limit")]
    before: tuple[list[dict[str, Any]], list[tuple[str, str]]] = ([], [])
    if mode == "incremental":
        checked.load(source)
        before = (published, refused)
        source[4], source[5] = customer(4, UPD=LATER), customer(5, UPD=LATER, LIM=-1.0)
        published, refused = [landed(row) for row in source if row["LIM"] > 0], [("AB0005X", "limit: is a limit")]
    checked.bank.write(source)
    collect(checked.node, "customers", mode, checked.clock)
    home = checked.node.home
    shutil.copytree(home, home.with_name("before"))
    killed = 0
    for step in itertools.count(1):
        shutil.rmtree(home)
        shutil.copytree(home.with_name("before"), home)
        if not _killed(checked.node, step):
            break
        killed += 1
        assert _state(checked.node)[0] in (before[0], published)
        check(checked.node, "customers", checked.clock)
        assert _state(checked.node) == (published, refused)
    assert killed >= (3 if mode == "incremental" else 6)


def test_a_check_on_a_full_disk_says_so_and_publishes_once_there_is_room(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        bank = open_bank("sqlite", disk.folder, request)
        bank.write([customer(number) for number in range(20)])
        collect(bank.node, "customers", "full", at_times())
        with disk.leaving(0), pytest.raises(LakeError, match=r"the disk is full.*run the same command again"):
            check(bank.node, "customers", at_times())
        check(bank.node, "customers", at_times())
        assert read_validated(bank.node, "customers").num_rows == 20


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99])
def test_settings_of_great_expectations_that_a_killed_check_left_half_written_are_written_anew(
    share: float, checked: Checked
) -> None:
    source = [customer(number) for number in range(20)]
    checked.load(source)
    settings, docs = checked.node.home / "gx" / "great_expectations.yml", checked.node.docs
    whole = settings.read_text(encoding="utf-8")
    settings.write_text(whole[: int(share * len(whole))], encoding="utf-8")
    shutil.rmtree(docs)
    source[5] = customer(5, UPD=LATER, LIM=-1.0)
    checked.load(source)
    published, refused = _state(checked.node)
    assert published == [landed(row) for row in source if row["LIM"] > 0]
    assert refused == [("AB0005X", "limit: is a limit")]
    assert (docs / "index.html").exists()
    assert yaml(settings)["data_docs_sites"] == yaml(whole)["data_docs_sites"]


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("folder", ["expectations", "validation_definitions", "uncommitted/validations"])
def test_other_files_of_great_expectations_that_are_half_written_harm_no_check(
    folder: str, share: float, checked: Checked
) -> None:
    source = [customer(number) for number in range(20)]
    checked.load(source)
    damaged = list((checked.node.home / "gx" / folder).rglob("*.json"))
    assert damaged
    for path in damaged:
        whole = path.read_text(encoding="utf-8")
        path.write_text(whole[: int(share * len(whole))], encoding="utf-8")
    source[5] = customer(5, UPD=LATER, LIM=-1.0)
    checked.load(source)
    published, refused = _state(checked.node)
    assert published == [landed(row) for row in source if row["LIM"] > 0]
    assert refused == [("AB0005X", "limit: is a limit")]
    assert (checked.node.docs / "index.html").exists()


def yaml(settings: Path | str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(settings)
    return found
