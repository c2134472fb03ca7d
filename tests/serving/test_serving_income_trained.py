"""A model of income trained by the parties themselves, and served beside the one of default: real parts throughout."""

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from conftest import Site, consortium_text, identifiers, ready, register, result, wait_for
from typer.testing import CliRunner

from ftl.cli import app
from ftl.consortium import load
from ftl.serving import provision_scoring

PEOPLE = 240


def truth() -> dict[str, np.ndarray]:
    """Income follows from a column of each party, but for noise of 200."""
    generator = np.random.default_rng(5)
    amount, late = generator.uniform(0, 2000, PEOPLE), generator.integers(0, 5, PEOPLE)
    income = 40_000 + 10 * amount - 3_000 * late + generator.normal(0, 200, PEOPLE)
    age = generator.integers(20, 70, PEOPLE)
    return {"amount": amount.round(2), "late": late, "income": income.round(2), "age": age}


def sources(root: Path, known: dict[str, np.ndarray]) -> None:
    (root / "data").mkdir(parents=True)
    bank, partner = (root / "data" / f"{name}.csv" for name in ("bank", "partner"))
    with bank.open("w", newline="") as left, partner.open("w", newline="") as right:
        own, others = csv.writer(left), csv.writer(right)
        own.writerow(["id", "phone", "amount", "ceiling", "since", "bad", "income"])
        others.writerow(["id", "phone", "late", "age"])
        for n in range(PEOPLE):
            names = identifiers(n).values()
            own.writerow([*names, known["amount"][n], 1500, "2020-01-01", int(n % 4 == 0), known["income"][n]])
            others.writerow([*names, known["late"][n], known["age"][n]])


def texts() -> tuple[dict[str, Any], dict[str, Any]]:
    """The consortium of default, and that of income in a folder inside: same parties, homes and identifiers."""
    main, other = consortium_text(), consortium_text()
    for text in (main, other):
        text["parties"]["bank"]["tables"]["people"]["columns"]["income"] = {"from": "income", "type": "float64"}
        del text["simulation"]
    main["income"] = {"model": "income", "base": 40_000}
    other["name"], other["training"] = "serving_test", {"model_name": "income", "recipe": "hetero_linear"}
    other["coordinator"] = {"home": "../var/coordinator"}
    other["parties"]["bank"]["label"] = {"column": "income", "kind": "number"}
    for name, party in other["parties"].items():
        party["home"] = f"../var/nodes/{name}"
        party["sources"]["file"]["path"] = "../data"
    return main, other


@pytest.fixture(scope="module")
def known() -> dict[str, np.ndarray]:
    return truth()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, known: dict[str, np.ndarray]) -> Iterator[Site]:
    """Both parties trained a model of income; score servers and gateway run in the folder of the model of default."""
    root = tmp_path_factory.mktemp("trained")
    sources(root, known)
    for place, text in zip((root, root / "income"), texts(), strict=True):
        place.mkdir(exist_ok=True)
        (place / "consortium.yaml").write_bytes(msgspec.json.encode(text))
    trained = CliRunner().invoke(
        app,
        ["run", str(root / "income"), "--in-process", "--json", "--set", "standard_errors=false"],
        catch_exceptions=False,
    )
    assert trained.exit_code == 0, trained.output
    folder = load(root)
    provision_scoring(folder, datetime.now(UTC))
    site = Site(folder, None, None)  # type: ignore[arg-type]
    register(folder, result(folder, "run-1"))
    try:
        site.start("bank", "partner", "gateway")
        wait_for(lambda: ready(site), "the gateway")
        yield site
    finally:
        for name in list(site.processes):
            site.stop(name)


def test_the_trained_model_of_income_serves_the_income_score(served: Site, known: dict[str, np.ndarray]) -> None:
    headers = {"authorization": f"Bearer {served.token}"}

    def decided(number: int) -> dict[str, Any]:
        body = {**identifiers(number), "application": {"amount": 30000, "term": 12}}
        return httpx.post(f"{served.url}/v1/decisions", json=body, headers=headers, timeout=10).json()["decision"]

    wait_for(lambda: decided(0)["scores"]["income"] is not None, "the model of income")
    people = range(0, 60, 3)
    made = [decided(number)["scores"] for number in people]
    found = np.array([one["basis"]["income"]["estimate"] for one in made])
    assert {one["basis"]["income"]["model"] for one in made} == {"income/1"}
    assert np.abs(found - known["income"][list(people)]).max() < 1500
    assert np.corrcoef(found, known["income"][list(people)])[0, 1] > 0.995
