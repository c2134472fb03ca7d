"""Scenario `sme`, from raw files to enterprises that only the tax office knows.

Always on simulated files of the same format; where the environment variable FTL_SME_DATA names a folder with the real
ones, on those as well.
"""

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_enterprises import write_raw
from typer.testing import CliRunner

from ftl import consortium
from ftl.cli.common import app
from ftl.collect import Lake, collect, follows, watch, watchable
from ftl.consortium import Folder, Node
from ftl.consortium.scenarios.sme import folds
from ftl.errors import ConsortiumError
from ftl.features import build
from ftl.federation import MemoryEngine, Request, Result
from ftl.federation.parts import read_part
from ftl.protocols.combine import answer
from ftl.protocols.transfer_boost import RECIPE
from ftl.quality import check, read_validated, refusals

FOLDERS = ["made up", *filter(None, [os.environ.get("FTL_SME_DATA")])]
DAY = pd.Timestamp("2020-01-01")
WINDOWS = (30, 90, 365)
DIRECTIONS = {"sales": ("output", "buyer"), "purchases": ("input", "seller")}
KEY = ["enterprise_id", "invoice_no", "invoice_date", "other", "amount"]
FEW_ROUNDS = {"opinion_rounds": 2, "rounds": 3, "alone_rounds": 4, "folds": 2}


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module", params=FOLDERS)
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param != "made up":
        return Path(request.param)
    return write_raw(tmp_path_factory.mktemp("raw") / "sme")


@pytest.fixture(scope="module")
def raw(data: Path) -> dict[str, pd.DataFrame]:
    """Invoices of both groups by view child, as text; another reader than the product's."""
    read: dict[str, pd.DataFrame] = {}
    for child, (direction, other) in DIRECTIONS.items():
        parts = [
            pd.read_csv(data / f"{group}_{direction}_invoices.csv.xz", dtype=str, keep_default_na=False)
            for group in ("credit", "nocredit")
        ]
        read[child] = pd.concat(parts, ignore_index=True).rename(columns={f"{other}_id": "other"})
    return read


@pytest.fixture(scope="module")
def folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Everything brought and checked; must not be changed."""
    root = tmp_path_factory.mktemp("sme")
    consortium.new(root, "sme", data=data)
    made = consortium.load(root)
    for party in made.consortium.parties:
        bring(made.node(party))
    return made


def bring(node: Node, *tables: str) -> None:
    for table in tables or node.party.tables:
        collect(node, table, "incremental" if follows(node, table) else "full", now)
        check(node, table, now)


def sound(rows: pd.DataFrame) -> pd.DataFrame:
    """What must be published: each invoice once, of those with a number as amount and a known status."""
    rows = rows.assign(amount=pd.to_numeric(rows["amount"], errors="coerce"))
    rows = rows[rows["amount"].notna()].drop_duplicates(KEY, keep="last")
    return rows[rows["status"].isin(["valid", "void"])].assign(day=lambda frame: pd.to_datetime(frame["invoice_date"]))


def expected(raw: dict[str, pd.DataFrame], enterprises: list[str], until: pd.Timestamp = DAY) -> pd.DataFrame:
    """The features at the day, of invoices dated before `until`, one enterprise and window at a time by pandas."""
    columns: dict[str, pd.Series[Any]] = {}
    for child, (_, other) in DIRECTIONS.items():
        rows = sound(raw[child])
        rows = rows[rows["day"] < min(until, DAY)]
        for days in WINDOWS:
            recent = rows[rows["day"] >= DAY - pd.Timedelta(days=days)]
            valid = recent[recent["status"] == "valid"]
            group, all_of = valid.groupby("enterprise_id"), recent.groupby("enterprise_id")["status"]
            columns[f"{child}_count_{days}"] = group.size().reindex(enterprises, fill_value=0)
            columns[f"{child}_amount_{days}"] = group["amount"].sum().reindex(enterprises, fill_value=0.0)
            returned = valid[valid["amount"] < 0].groupby("enterprise_id")["amount"].sum()
            columns[f"{child}_returned_{days}"] = returned.reindex(enterprises, fill_value=0.0)
            columns[f"{child}_{other}s_{days}"] = group["other"].nunique().reindex(enterprises, fill_value=0)
            columns[f"{child}_void_{days}"] = all_of.agg(lambda one: (one == "void").mean()).reindex(enterprises)
        last = rows[rows["status"] == "valid"].groupby("enterprise_id")["day"].max()
        columns[f"{child}_last"] = (DAY - last).dt.days.reindex(enterprises)
    return pd.DataFrame(columns).astype("float64")


def features(node: Node) -> pd.DataFrame:
    found: pd.DataFrame = read_validated(node, "behaviour").to_pandas().set_index("enterprise").astype("float64")
    return found.drop(columns=["sales_trend", "margin_365"])


def assert_same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found[wanted.columns], wanted.loc[found.index], rtol=1e-9, check_names=False)


def test_the_folder_is_sound_and_nothing_that_leaks_the_label_is_a_feature(folder: Folder) -> None:
    assert consortium.problems(folder.root, touch=True) == []
    bank = folder.consortium.parties["bank"]
    rows = read_validated(folder.node("bank"), "customers").to_pandas()
    assert ((rows["rating"] == "D") <= (rows["defaulted"] == 1)).all(), "the rating was given after the fact"
    assert bank.features.columns == ("legal_form", "trade")
    assert set(rows["legal_form"]) >= {"branch", "company"}
    assert rows.groupby("fold")["defaulted"].sum().agg(lambda sums: sums.max() - sums.min()) <= 1


def test_every_sound_invoice_is_published_once_and_all_others_are_in_quarantine(
    folder: Folder, raw: dict[str, pd.DataFrame]
) -> None:
    node = folder.node("tax_office")
    for child, (direction, _) in DIRECTIONS.items():
        rows, table = raw[child], f"{direction}_invoices"
        published = read_validated(node, table, ["enterprise", "amount"])
        wanted = sound(rows)
        assert published.num_rows == len(wanted) < len(rows), "some are recorded twice"
        assert np.isclose(sum(published.column("amount").to_pylist()), wanted["amount"].sum(), rtol=1e-9)
        refused = pd.to_numeric(rows["amount"], errors="coerce").isna() | ~rows["status"].isin(["valid", "void"])
        assert sum(one.rows for one in refusals(node, table)) == refused.sum()


def test_features_are_what_pandas_finds_in_the_raw_files(folder: Folder, raw: dict[str, pd.DataFrame]) -> None:
    found = features(folder.node("tax_office"))
    later = sum((sound(rows)["day"] >= DAY).sum() for rows in raw.values())
    assert later > 0, "there are invoices that must not count"
    assert_same(found, expected(raw, list(found.index)))


@pytest.fixture(scope="module")
def trained(folder: Folder) -> Result:
    engine = MemoryEngine(folder)
    engine.submit(Request("few", "transfer_boost", 0, FEW_ROUNDS))
    assert [progress for progress in engine.watch("few") if progress.step.phase == "train"]
    return engine.result("few")


def test_a_handful_of_enterprises_is_enough_to_align_and_train(folder: Folder, trained: Result) -> None:
    rows = read_validated(folder.node("bank"), "customers").to_pandas()
    held = int((rows["fold"] == 0).sum())
    assert trained.aligned == {"train": len(rows) - held, "test": held}
    federated = trained.metrics["federated"]
    low, high = federated.intervals["auc"]
    assert high - low > 0.1, "few people give a wide interval"
    assert federated.people == held


def test_the_tax_office_alone_scores_enterprises_that_the_bank_does_not_know(folder: Folder, trained: Result) -> None:
    combiner, node = trained.combiner, folder.node("tax_office")
    assert combiner is not None
    frame, bank = build(node, 0)[0], build(folder.node("bank"), 0)[0]
    strangers = np.array([one not in set(bank.ids) for one in frame.ids])
    part = RECIPE.load(read_part(node, "few").part, {})
    chance = answer(combiner, "bank", {"tax_office": part.sub_scores(frame.values[strangers])})
    assert len(chance) == len(frame.ids) - len(bank.ids) > 0
    assert ((chance > 0) & (chance < 1)).all()
    assert np.std(chance) > 0.01


def test_invoices_arrive_by_date_and_move_the_features_until_the_day_they_stand_at(
    data: Path, raw: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    consortium.new(tmp_path, "sme", {"later": "8"}, data=data)
    node = consortium.load(tmp_path).node("tax_office")
    bring(node)
    enterprises = list(features(node).index)
    stops = [pd.Timestamp(stop) for stop in ("2019-12-24", "2020-01-01", "2020-01-10")]
    assert_same(features(node), expected(raw, enterprises, stops[0]))
    moved, waits = [features(node)], list[float]()

    def pause(seconds: float) -> None:
        """After each date; when all that came before a stop has landed, the features are made anew."""
        waits.append(seconds)
        coming = sorted(path.stem[-10:] for path in (tmp_path / "data/later/tax_office").iterdir())
        if stops[1:] and (not coming or pd.Timestamp(coming[0]) >= stops[1]):
            del stops[0]
            until(lambda: landed(node) == came(raw, coming[0] if coming else "9999"))
            bring_checked(node)
            moved.append(features(node))
            assert_same(moved[-1], expected(raw, enterprises, stops[0]))

    stop = threading.Event()
    following = threading.Thread(target=watch, args=(node, watchable(node), now, stop, None, 0.2))
    following.start()
    try:
        arrived = consortium.advance(tmp_path, per_second=4, sleep=pause)
    finally:
        stop.set()
        following.join(60)
    dates = {day for rows in raw.values() for day in rows["invoice_date"] if day >= "2019-12-24"}
    assert waits == [0.25] * len(dates)
    assert arrived == {"tax_office": sum((rows["invoice_date"] >= "2019-12-24").sum() for rows in raw.values())}
    assert consortium.advance(tmp_path) == {"tax_office": 0}
    assert not moved[0].equals(moved[1])
    assert_same(moved[2], moved[1])


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.2)


def landed(node: Node) -> int:
    return sum(
        Lake(node.landed(f"{direction}_invoices")).read(["amount"]).num_rows for direction, _ in DIRECTIONS.values()
    )


def came(raw: dict[str, pd.DataFrame], before: str) -> int:
    """Different invoices, with a number as amount, dated before a day."""
    numbers = (rows.assign(amount=pd.to_numeric(rows["amount"], errors="coerce")) for rows in raw.values())
    return sum(len(r[r["amount"].notna() & (r["invoice_date"] < before)].drop_duplicates(KEY)) for r in numbers)


def bring_checked(node: Node) -> None:
    """Publish what the watch has landed, then make the features anew."""
    check(node, "input_invoices", now)
    check(node, "output_invoices", now)
    bring(node, "behaviour")


def test_the_command_takes_the_folder_and_the_bank_has_no_invoice(data: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["new", str(tmp_path / "mine"), "--scenario", "sme", "--data", str(data)])
    assert told.exit_code == 0, told.output
    with closing(sqlite3.connect(tmp_path / "mine/data/bank.db")) as database:
        (tables,) = database.execute("SELECT group_concat(name) FROM sqlite_master WHERE type = 'table'").fetchone()
    assert tables == "SME_CUSTOMERS"
    assert not consortium.redraw(tmp_path / "mine", 7), "nothing of this scenario is drawn"


def test_a_folder_that_lacks_something_is_refused_with_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(ConsortiumError, match=r"made from files that you have.*--data.*docs/sme\.md"):
        consortium.new(tmp_path / "mine", "sme")
    with pytest.raises(ConsortiumError, match=r"'german' has data of its own.*Leave `--data` away"):
        consortium.new(tmp_path / "mine", "german", data=tmp_path)
    with pytest.raises(ConsortiumError, match=r"There is no folder .*nowhere"):
        consortium.new(tmp_path / "mine", "sme", data=tmp_path / "nowhere")
    raw = write_raw(tmp_path / "raw")
    with pytest.raises(ConsortiumError, match="day=20190231 is not a day"):
        consortium.new(tmp_path / "mine", "sme", {"day": "20190231"}, data=raw)
    (raw / "nocredit_output_invoices.csv.xz").unlink()
    with pytest.raises(ConsortiumError, match=r"holds no nocredit_output_invoices\.csv\.xz"):
        consortium.new(tmp_path / "mine", "sme", data=raw)
    shutil.copy(raw / "nocredit_input_invoices.csv.xz", raw / "nocredit_output_invoices.csv.xz")
    with pytest.raises(ConsortiumError, match=r"has the columns .*seller_id.*Expected .*buyer_id"):
        consortium.new(tmp_path / "mine", "sme", data=raw)
    (raw / "credit_enterprises.csv.xz").write_bytes(b"no xz")
    with pytest.raises(ConsortiumError, match=r"credit_enterprises\.csv\.xz cannot be read as CSV \(LZMAError\)"):
        consortium.new(tmp_path / "mine", "sme", data=raw)
    (raw / "credit_enterprises.csv.xz").unlink()
    (raw / "credit_enterprises.csv").write_text("enterprise_id,name,rating,default\nE1,x,A,0\nE61,y,D,1\n")
    with pytest.raises(ConsortiumError, match="1 enterprises come twice"):
        consortium.new(tmp_path / "mine", "sme", data=raw)
    assert not any((tmp_path / "mine").rglob("*"))


def test_folds_share_the_defaults_evenly() -> None:
    drawn = folds(["1"] * 7 + ["0"] * 12)
    assert np.bincount(drawn[:7]).tolist() == [2, 2, 1, 1, 1]
    assert np.bincount(drawn[7:]).tolist() == [3, 3, 2, 2, 2]
    assert (drawn == folds(["1"] * 7 + ["0"] * 12)).all()
