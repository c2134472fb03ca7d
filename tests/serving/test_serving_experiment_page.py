"""Pages of experiments at the gateway: who may see them, what a browser may load, and what it shows."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
from conftest import Site, register, result
from playwright.sync_api import expect, sync_playwright

from ftl.registry import competition

NAME = "page-of-an-experiment"
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def experiment(site: Site) -> Iterator[str]:
    version = register(site.folder, result(site.folder, "run-of-a-page")).version
    competition.start(site.folder, NAME, {version: 0.4}, NOW)
    yield version
    competition.end(site.folder, NAME, NOW, "the test is over")


def shown(site: Site, path: str, **how: object) -> httpx.Response:
    return httpx.get(f"{site.url}{path}", **how)


def test_a_browser_asks_for_id_and_secret_then_lists_and_styles_the_page(site: Site, experiment: str) -> None:
    browser = shutil.which("chromium")
    assert browser, "the page is tested in Debian's chromium: run 'make system'"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = opened.new_page(http_credentials={"username": "default", "password": site.token.strip()})
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
        page.goto(f"{site.url}/experiments")
        page.get_by_role("link", name=NAME).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Experiment {NAME}")
        expect(page.get_by_role("status")).to_have_text("Under way since 2026-03-01.")
        assert page.evaluate("getComputedStyle(document.querySelector('table')).borderCollapse") == "collapse"
        row = page.get_by_role("table").get_by_role("row", name=f"version {experiment}")
        expect(row).to_contain_text("40%")
        assert complaints == []
        opened.close()


def test_nobody_without_a_token_or_a_secret_sees_a_page(site: Site, experiment: str) -> None:
    for how in ({}, {"auth": ("default", "wrong")}, {"headers": {"authorization": "Basic ?"}}):
        for path in ("/experiments", f"/experiments/{NAME}"):
            said = shown(site, path, **how)
            assert said.status_code == 401
            assert said.headers["www-authenticate"].startswith("Basic ")
            assert NAME not in said.text
    bearer = {"authorization": f"Bearer {site.token}"}
    assert shown(site, f"/experiments/{NAME}", headers=bearer).status_code == 200


def test_an_unknown_name_or_a_path_out_of_the_folder_is_a_problem_of_404(site: Site, experiment: str) -> None:
    for name in ("none", "..%2Fkeys", "%2e%2e", "", f"{NAME}/experiment.json"):
        said = shown(site, f"/experiments/{name}", auth=("default", site.token.strip()))
        assert said.status_code == 404, name
        assert said.headers["content-type"] == "application/problem+json"
        assert said.json()["cure"]


def test_the_page_may_load_nothing_and_only_its_own_style_counts(site: Site, experiment: str) -> None:
    policy = shown(site, f"/experiments/{NAME}", auth=("default", site.token.strip())).headers[
        "content-security-policy"
    ]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert "script-src" not in policy
