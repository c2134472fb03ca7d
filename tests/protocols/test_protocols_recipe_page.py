"""The page about writing recipes: its example is installed as a package of its own and trained through an engine."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ftl.errors import ConsortiumError
from ftl.federation import MemoryEngine, Request, Result, read_part
from ftl.federation.recipes import find_recipe
from ftl.protocols.combine import answer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "recipes.md").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found


def people() -> ModuleType:
    """How the engine's tests make a consortium."""
    spec = importlib.util.spec_from_file_location("recipe_page_people", ROOT / "tests" / "federation" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    info = site / "second_opinion-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "second_opinion.py").write_text(block("python"))
    group, line = block("toml").strip().splitlines()
    assert group == '[project.entry-points."ftl.recipes"]'
    name, value = re.fullmatch(r'(\w+) = "(.+)"', line).groups()
    (info / "entry_points.txt").write_text(f"[ftl.recipes]\n{name} = {value}\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: second-opinion\nVersion: 1.0\n")
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    monkeypatch.delitem(sys.modules, "second_opinion", raising=False)


@pytest.fixture
def trained(installed: None, tmp_path: Path) -> tuple[object, object, Result]:
    maker = people()
    everybody = maker.simulate(("bank", "partner"))
    folder = maker.make_consortium(tmp_path / "consortium", everybody)
    engine = MemoryEngine(folder)
    engine.submit(Request("r1", "second_opinion", 0, {"column": "x0"}, None, 60.0))
    list(engine.watch("r1"))
    return everybody, folder, engine.result("r1")


def test_the_example_on_the_page_trains_and_helps(trained: tuple[object, object, Result]) -> None:
    _, _, result = trained
    assert result.aligned == {"train": 300, "test": 100}
    assert result.metrics["federated"].auc > result.metrics["active_only"].auc + 0.03
    assert result.combiner.parties == ["bank", "partner"]


def test_its_parts_answer_for_one_and_for_many_and_without_the_partner(trained: tuple[object, object, Result]) -> None:
    everybody, folder, result = trained
    recipe = find_recipe("second_opinion")
    scores = {
        party: recipe.load(read_part(folder.node(party), "r1").part, {}).sub_scores(block)
        for party, block in everybody.columns.items()
    }
    joint, alone = answer(result.combiner, "bank", scores), answer(result.combiner, "bank", {"bank": scores["bank"]})
    assert np.abs(joint - alone).max() > 0.05
    np.testing.assert_allclose(alone, 1 / (1 + np.exp(-scores["bank"].log_odds)))
    part = recipe.load(read_part(folder.node("partner"), "r1").part, {})
    assert part.sub_scores(everybody.columns["partner"][[5]]).hidden[0] == scores["partner"].hidden[5]


@pytest.mark.usefixtures("installed")
def test_it_is_found_by_its_entry_point_and_names_a_wrong_setting() -> None:
    with pytest.raises(ConsortiumError, match=r"second_opinion has no setting 'colum'\. Did you mean 'column'"):
        find_recipe("second_opinion").settings({"colum": "x0"})


def test_the_page_is_a_page() -> None:
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    assert len(prose.split()) < 600
    assert len(block("python").splitlines()) < 110
