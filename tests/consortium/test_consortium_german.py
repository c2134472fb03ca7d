"""Scenario `german` is a small consortium of files, with texts, string ids and missing values."""

from pathlib import Path

import pandas as pd
import pytest

from ftl import consortium


def links(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "data" / "truth" / "links.parquet")


@pytest.mark.parametrize(("parties", "passive"), [(2, ("partner",)), (3, ("savings", "registry"))])
def test_the_parties_have_the_published_rows_between_them(
    parties: int, passive: tuple[str, ...], tmp_path: Path
) -> None:
    consortium.new(tmp_path, "german", {"parties": str(parties)}, seed=3)
    assert consortium.problems(tmp_path, touch=True) == []
    assert consortium.load(tmp_path).consortium.passive == passive
    raw, linked = pd.read_parquet(tmp_path / "data" / "truth" / "table.parquet"), links(tmp_path)
    files = sorted((tmp_path / "data" / "bank").glob("loans_*.csv"))
    bank = pd.concat([pd.read_csv(file, sep=";", keep_default_na=False) for file in files])
    assert (len(files), len(bank), (bank["creditability"] == "bad").sum()) == (2, 1000, 300)
    bank = bank.set_index(bank["KUNDE"].str.upper()).loc[linked["bank"]]
    assert (bank["purpose"].to_numpy() == raw["purpose"].to_numpy()).all()
    assert (bank["duration_in_month"] == "").sum() == 15
    columns = set(bank.columns) - {"KUNDE"}
    for name in passive:
        rows = pd.read_parquet(tmp_path / "data" / name / f"{name}.parquet").set_index("CustomerNo").loc[linked[name]]
        for column in rows:
            there = rows[column].notna().to_numpy()
            assert (rows[column][there].to_numpy() == raw[column][there].to_numpy()).all()
        columns |= set(rows.columns)
    assert columns == set(raw.columns)


def test_every_party_knows_the_shared_people_and_strangers_are_strangers_to_all_others(tmp_path: Path) -> None:
    consortium.new(tmp_path, "german", {"parties": "3", "shared": "400"})
    linked = links(tmp_path)
    known = linked[linked["at_all"]]
    assert len(known) == 400
    assert (known["bank"] == known["savings"]).all()
    assert (known["bank"] == known["registry"]).all()
    apart = linked[~linked["at_all"]]
    assert len(set(apart["bank"]) | set(apart["savings"]) | set(apart["registry"])) == 3 * 600


def test_the_seed_draws_the_shared_people(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        consortium.new(tmp_path / name, "german", seed=seed)
    assert links(tmp_path / "a").equals(links(tmp_path / "b"))
    assert not links(tmp_path / "a").equals(links(tmp_path / "c"))
    assert consortium.advance(tmp_path / "a") == {}
