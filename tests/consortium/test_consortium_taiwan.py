"""Scenario `taiwan` is the published table, cut by columns, with the overlap and the lapses that were asked for."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from ftl import consortium
from ftl.consortium.scenarios.people import check_character

New = Callable[..., Path]
TABLES = {"bank": "SIM_CARD_ACCT", "partner": "sim_members"}
PAY = ["PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> New:
    """Folders drawn with given settings; each is written once and must not be changed."""
    made: dict[tuple[int, int], Path] = {}

    def new(shared: int = 1000, seed: int = 0) -> Path:
        if (shared, seed) not in made:
            made[shared, seed] = tmp_path_factory.mktemp(f"taiwan_{shared}_{seed}")
            consortium.new(made[shared, seed], "taiwan", {"shared": str(shared)}, seed)
        return made[shared, seed]

    return new


def source(folder: Path, party: str) -> pd.DataFrame:
    with closing(sqlite3.connect(folder / "data" / f"{party}.db")) as database:
        return pd.read_sql(f"SELECT * FROM {TABLES[party]}", database)


def links(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "data" / "truth" / "links.parquet")


def truth(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "data" / "truth" / "table.parquet")


def damaged(folder: Path, party: str) -> list[dict[str, Any]]:
    rows = json.loads((folder / "data" / "damaged.json").read_text())["rows"]
    return [row for row in rows if row["party"] == party]


def mapped(folder: Path, party: str) -> pd.DataFrame:
    """The source's rows but the damaged, renamed and recoded as `consortium.yaml` says."""
    rows = source(folder, party)
    rows = rows[~rows.iloc[:, 0].isin([row["key"] for row in damaged(folder, party)])].reset_index(drop=True)
    table = next(iter(consortium.load(folder).consortium.parties[party].tables.values()))
    result = {}
    for name, column in table.columns.items():
        values = rows[column.source].where(~rows[column.source].isin(list(column.missing)), None)
        values = values.map(lambda value, recode=column.recode: recode.get(value, value) if value is not None else None)
        if column.normalise == "upper":
            values = values.str.upper()
        if column.normalise == "digits":
            values = values.str.replace(r"\D", "", regex=True)
        result[name] = values.astype("float64") if column.type in ("int64", "float64") else values
    return pd.DataFrame(result).assign(id=lambda frame: frame["id_number"] + "|" + frame["phone"])


def test_the_folder_is_sound_and_all_its_files_are_there(drawn: New) -> None:
    assert consortium.problems(drawn(), touch=True) == []
    loaded = consortium.load(drawn()).consortium
    assert (loaded.active, loaded.passive) == ("bank", ("partner",))
    assert loaded.parties["partner"].features.protected == ("sex", "marriage", "age")
    assert loaded.simulation is not None
    assert loaded.simulation.notice.startswith("Simulated consortium")


def test_the_split_is_the_fixed_one_whatever_the_seed(drawn: New) -> None:
    bad = truth(drawn())["default.payment.next.month"]
    _, test = train_test_split(np.arange(30_000), test_size=0.2, random_state=0, stratify=bad)
    for seed in (0, 1):
        linked = links(drawn(seed=seed))
        assert sorted(linked.index[linked["sample"] == "test"]) == sorted(test)
        assert int((linked["sample"] == "train").sum()) == 24_000


@pytest.mark.parametrize("shared", [0, 1000, 24_000])
def test_both_know_the_test_people_and_so_many_training_people_and_nobody_else(shared: int, drawn: New) -> None:
    linked = links(drawn(shared))
    at_bank, at_partner = set(linked["bank"]), set(linked["partner"])
    both = linked[linked["bank"] == linked["partner"]]
    assert both["sample"].value_counts().reindex(["train", "test"], fill_value=0).tolist() == [shared, 6000]
    assert len(at_bank) == len(at_partner) == 30_000
    assert at_bank & at_partner == set(both["bank"]), "a stranger at the partner is nobody the bank knows"
    assert (linked["shared"] == (linked.index.isin(both.index) & (linked["sample"] == "train"))).all()
    assert (linked["at_all"] == linked.index.isin(both.index)).all()


@pytest.mark.parametrize("party", ["bank", "partner"])
def test_damaged_rows_are_24_of_eight_kinds_among_people_who_are_not_shared(party: str, drawn: New) -> None:
    listed, rows = damaged(drawn(), party), source(drawn(), party)
    rows = rows.set_index(rows.columns[0])
    assert (len(listed), len({row["key"] for row in listed}), len({row["reason"] for row in listed})) == (24, 24, 8)
    for row in listed:
        found = rows.loc[row["key"], row["column"]]
        assert found == row["value"] or (row["value"] is None and pd.isna(found))
    good = mapped(drawn(), party)
    shared = links(drawn()).query("at_all")[party]
    assert set(shared) <= set(good["id"]), "everyone whom both know has a sound row at both"


def test_advancing_brings_the_truth_and_a_second_time_nothing(drawn: New, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(drawn(), folder)
    newest = {party: source(folder, party).iloc[:, -1].max() for party in TABLES}
    assert [len(source(folder, party)) for party in TABLES] == [29_700, 29_700]
    assert consortium.advance(folder) == {"bank": 500, "partner": 500}
    after = {party: source(folder, party) for party in TABLES}
    assert [len(rows) for rows in after.values()] == [30_000, 30_000]
    assert [int((rows.iloc[:, -1] > newest[party]).sum()) for party, rows in after.items()] == [500, 500]
    assert consortium.advance(folder) == {"bank": 0, "partner": 0}
    for party, rows in after.items():
        pd.testing.assert_frame_equal(source(folder, party), rows)
    assert_equal_to_truth(folder)


def assert_equal_to_truth(folder: Path) -> None:
    raw, linked = truth(folder), links(folder)
    bank, partner = mapped(folder, "bank").set_index("id"), mapped(folder, "partner").set_index("id")
    assert (len(bank), len(partner)) == (29_976, 29_976)
    raw_bank = raw.set_index(linked["bank"]).loc[bank.index]
    expected = {"credit_limit": "LIMIT_BAL", "default_next_month": "default.payment.next.month"}
    expected |= {f"bill_{month}": f"BILL_AMT{month}" for month in range(1, 7)}
    expected |= {f"paid_{month}": f"PAY_AMT{month}" for month in range(1, 7)}
    for name, column in expected.items():
        assert (bank[name] == raw_bank[column]).all(), name
    assert (bank["sample"] == linked.set_index("bank").loc[bank.index, "sample"]).all()
    raw_partner = raw.set_index(linked["partner"]).loc[partner.index]
    expected = {"age": "AGE"} | {f"pay_status_{month}": column for month, column in enumerate(PAY, start=1)}
    for name, column in expected.items():
        assert (partner[name] == raw_partner[column]).all(), name
    assert (partner["education"].fillna(0) == raw_partner["EDUCATION"]).all()
    assert (partner["sex"] == raw_partner["SEX"].map({1: "male", 2: "female"})).all()
    words = raw_partner["MARRIAGE"].map({0: "unknown", 1: "married", 2: "single", 3: "other"})
    assert (partner["marriage"].fillna("unknown") == words).all()


def test_at_first_200_rows_of_each_party_are_a_month_behind(drawn: New) -> None:
    raw, linked = truth(drawn()), links(drawn())
    bank = mapped(drawn(), "bank").set_index("id")
    raw = raw.set_index(linked["bank"]).loc[bank.index]
    behind = bank["credit_limit"] != raw["LIMIT_BAL"]
    assert int(behind.sum()) == 200
    assert not linked.set_index("bank").loc[bank.index[behind], "at_all"].any()


def test_the_partners_rows_do_not_stand_in_the_banks_order(drawn: New) -> None:
    person = links(drawn()).set_index("partner")["person"]
    order = person.loc[mapped(drawn(), "partner")["id"]].to_numpy()
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.02


def test_the_same_seed_draws_the_same_and_another_seed_other_shared_people(drawn: New, tmp_path: Path) -> None:
    consortium.new(tmp_path / "again", "taiwan", {"shared": "1000"}, 0)
    for party in TABLES:
        pd.testing.assert_frame_equal(source(tmp_path / "again", party), source(drawn(), party))
    pd.testing.assert_frame_equal(links(tmp_path / "again"), links(drawn()))
    other, ours = links(drawn(seed=1)), links(drawn())
    assert (other["bank"] == ours["bank"]).all(), "people keep their identifiers"
    assert int((other["shared"] & ours["shared"]).sum()) < 100


def test_drawing_anew_equals_a_new_folder_of_that_seed_and_empties_the_lakes(drawn: New, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(drawn(), folder)
    node = consortium.load(folder).node("bank")
    node.landed("accounts").mkdir(parents=True)
    node.model("r1").mkdir(parents=True)
    text = (folder / "consortium.yaml").read_text()
    assert consortium.redraw(folder, 0) is False
    assert node.landed("accounts").exists()
    assert consortium.redraw(folder, 1) is True
    assert (node.landed("accounts").exists(), node.model("r1").exists()) == (False, True)
    assert (folder / "consortium.yaml").read_text() == text
    pd.testing.assert_frame_equal(links(folder), links(drawn(seed=1)))
    pd.testing.assert_frame_equal(source(folder, "partner"), source(drawn(seed=1), "partner"))
    assert consortium.redraw(folder, 1) is False


def test_identity_numbers_have_a_right_check_character_and_belong_to_no_region(drawn: New) -> None:
    numbers = pd.concat([links(drawn())[party].str.split("|", expand=True) for party in TABLES])
    assert set(numbers[0].str.len()) == {18}
    assert set(numbers[0].str[:2]) == {"99"}
    assert all(check_character(number[:17]) == number[17] for number in numbers[0])
    assert set(numbers[1].str[:3]) == {"100"}
    assert check_character("11010519491231002") == "X", "the example of GB 11643"


def test_an_identity_number_says_nothing_about_age_or_sex(drawn: New) -> None:
    number, raw = links(drawn())["bank"], truth(drawn())
    assert abs(np.corrcoef(number.str[6:10].astype(int), raw["AGE"])[0, 1]) < 0.02
    assert abs(np.corrcoef(number.str[16].astype(int) % 2, raw["SEX"])[0, 1]) < 0.02
