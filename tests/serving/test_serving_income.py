"""A consortium with a second registered model, of income: its estimate stands beside the probability of default."""

import math
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from conftest import (
    COMBINER,
    Site,
    consortium_text,
    expected,
    identifiers,
    make_site,
    ready,
    register,
    result,
    wait_for,
)

from ftl.consortium import Consortium, Folder, load

BASE = 2.0


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Both score servers and a gateway, with `credit_risk` and `income` registered."""
    site = make_site(tmp_path_factory.mktemp("income"))
    plain = consortium_text() | {"income": {"model": "income", "base": BASE}}
    (site.folder.root / "consortium.yaml").write_bytes(msgspec.json.encode(plain))
    site.folder = load(site.folder.root)
    register(site.folder, result(site.folder, "run-1"))
    of_income = Consortium.model_validate({**plain, "training": {"model_name": "income"}})
    numbers = msgspec.structs.replace(COMBINER, link="identity")
    register(Folder(site.folder.root, of_income), result(site.folder, "run-2", numbers))
    try:
        site.start("bank", "partner", "gateway")
        wait_for(lambda: ready(site), "the gateway")
        yield site
    finally:
        for name in list(site.processes):
            site.stop(name)


def decided(site: Site, number: int) -> dict[str, Any]:
    body = {**identifiers(number), "application": {"amount": 30000, "term": 12}}
    headers = {"authorization": f"Bearer {site.token}"}
    return httpx.post(f"{site.url}/v1/decisions", json=body, headers=headers, timeout=10).json()


def test_a_decision_tells_all_four_scores_and_the_version_behind_each(rich: Site) -> None:
    def scores() -> dict[str, Any]:
        return decided(rich, 41)["decision"]["scores"]

    wait_for(lambda: scores()["income"] is not None, "the model of income")
    found = scores()
    probability = expected(rich, 41)
    basis = found["basis"]
    assert basis["credit"]["probability"] == pytest.approx(probability)
    assert basis["income"]["estimate"] == pytest.approx(math.log(probability / (1 - probability)))
    assert [basis[name]["model"] for name in ("credit", "income")] == ["credit_risk/1", "income/1"]
    assert all(300 <= found[name] <= 850 for name in ("credit", "income", "fraud", "standard"))


def test_a_decision_is_made_without_the_income_of_somebody_unknown(rich: Site) -> None:
    made = decided(rich, 777_777)["decision"]
    assert (made["decision"], made["scores"]["income"]) == ("refer", None)


def test_where_the_reasons_come_from_a_file_without_chinese_there_is_no_empty_text(rich: Site) -> None:
    reasons = decided(rich, 41)["reasons"]
    assert reasons
    assert all(sorted(one) == ["code", "points", "text"] for one in reasons)
