"""The gateway's page in a real browser, by keyboard alone."""

import re
import shutil
from collections.abc import Iterator

import pytest
from conftest import Site, expected, identifiers
from playwright.sync_api import Page, expect, sync_playwright

BROWSER = shutil.which("chromium")


@pytest.fixture(scope="module")
def page(site: Site) -> Iterator[Page]:
    assert BROWSER, "the page is tested in Debian's chromium: run 'make system'"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.set_default_timeout(20_000)
        yield opened
        browser.close()


@pytest.fixture
def asked(page: Page, site: Site) -> tuple[list[str], list[str]]:
    """The page, freshly loaded; what it asked for from elsewhere, and what the browser complained about."""
    elsewhere: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda one: None if one.url.startswith(site.url) else elsewhere.append(one.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{site.url}/docs")
    page.get_by_role("button", name="Score").wait_for()
    return elsewhere, complaints


def fill(page: Page, site: Site, person: dict[str, str]) -> None:
    """From the top of the page to the last identifier, with Tab and letters."""
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the form"
    for name, text in {"token": site.token.strip(), **person}.items():
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.name") == name
        page.keyboard.insert_text(text)


def test_a_form_filled_by_keyboard_shows_score_reasons_parties_and_timings(
    page: Page, site: Site, asked: tuple[list[str], list[str]]
) -> None:
    said = site.score(identifiers(4)).json()
    fill(page, site, identifiers(4))
    page.keyboard.press("Enter")
    expect(page.locator("#answer .score")).to_have_text(str(said["score"]))
    answer = page.locator("#answer")
    expect(answer).to_contain_text(f"Probability of default {expected(site, 4) * 100:.2f} %")
    shown = page.get_by_role("table", name="Why the score is not higher").locator("tbody tr")
    assert [row.split("\t")[:2] for row in shown.all_inner_texts()] == [[r["code"], r["text"]] for r in said["reasons"]]
    parties = page.get_by_role("table", name="What each party said").locator("tbody tr").all_inner_texts()
    assert [re.sub(r"[\d.]+ ms", "… ms", row).split("\t") for row in parties] == [
        ["bank", "knows the applicant", "… ms"],
        ["partner", "knows the applicant", "… ms"],
        ["gateway", "all of it", "… ms"],
    ]
    assert asked == ([], [])


def test_a_field_that_is_wrong_is_named_marked_and_has_the_focus(
    page: Page, site: Site, asked: tuple[list[str], list[str]]
) -> None:
    fill(page, site, {**identifiers(4), "phone": "1|2"})
    page.keyboard.press("Enter")
    expect(page.locator("#answer .notice")).to_contain_text("Invalid field: phone is blank or holds '|'.")
    wrong = page.locator("[name=phone]")
    expect(wrong).to_be_focused()
    expect(wrong).to_have_attribute("aria-invalid", "true")
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(identifiers(4)["phone"])
    page.keyboard.press("Enter")
    page.locator("#answer .score").wait_for()
    assert page.locator("[aria-invalid]").count() == 0
    assert asked == ([], [])


def test_a_field_of_the_application_is_reached_by_keyboard_and_changes_the_answer(
    page: Page, site: Site, asked: tuple[list[str], list[str]]
) -> None:
    fill(page, site, identifiers(4))
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # opens the optional fields
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "fields.amount"
    page.keyboard.insert_text("1900")
    page.keyboard.press("Enter")
    chance = expected(site, 4, amount=1900.0)
    expect(page.locator("#answer")).to_contain_text(f"Probability of default {chance * 100:.2f} %")
    assert asked == ([], [])
