"""The page of an experiment: complete, self-contained, and readable without seeing it."""

from html.parser import HTMLParser

import msgspec
import pytest
from test_registry_competition import NOW, Folder, experiment, observed

from ftl.errors import RegistryError
from ftl.registry.competition import Limits, end, experiment_page, judge


class Elements(HTMLParser):
    """Every start tag with its attributes, and all the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> str:
    folder = Folder(tmp_path_factory.mktemp("page"))
    observed(folder, experiment(limits=Limits(degraded=0.01)), (1.5, 0.3), degraded=["2"])
    judge(folder, "e", NOW)
    judge(folder, "e", NOW)
    return experiment_page(folder, "e")


def test_the_page_shows_split_verdict_guardrails_and_both_models_curves(text):
    shown = Elements(text)
    for words in ("70%", "30%", "Continue.", "100.0% of its scores lack a party", "Under way since 2026-03-01."):
        assert words in shown.text
    curves = [attributes["class"] for tag, attributes in shown.tags if tag == "polyline"]
    assert curves == ["champion", "challenger", "challenger"]
    assert shown.text.count("2026-03-01 00:00") == 2


def test_the_page_loads_nothing_and_runs_nothing(text):
    shown = Elements(text)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in shown.tags}
    assert not any({"src", "href", "style"} & attributes.keys() for _, attributes in shown.tags)
    assert "url(" not in text
    assert "@import" not in text


def test_a_screen_reader_and_a_keyboard_reach_every_figure(text):
    shown = Elements(text)
    identifiers = [attributes["id"] for _, attributes in shown.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers)) == 4
    for tag, attributes in shown.tags:
        if tag == "svg":
            assert set(str(attributes["aria-labelledby"]).split()) <= set(identifiers)
        if tag == "th":
            assert attributes["scope"] in {"col", "row"}
        if attributes.get("class") == "wide":
            assert (attributes["tabindex"], attributes["role"]) == ("0", "region")
    assert ("html", {"lang": "en"}) in shown.tags


def test_no_subject_and_no_single_probability_is_on_the_page(text):
    assert "s17" not in Elements(text).text
    assert experiment().key not in text


def test_what_people_wrote_cannot_become_markup(tmp_path):
    folder = Folder(tmp_path)
    observed(folder, experiment(), (1.5, 0.3), count=10)
    end(folder, "e", NOW, "<script>alert(1)</script>")
    assert "<script>" not in experiment_page(folder, "e")
    assert "Nobody has looked yet." in experiment_page(folder, "e")


def test_an_experiment_that_does_not_exist_is_said_so(tmp_path):
    with pytest.raises(RegistryError, match="There is no experiment 'none'"):
        experiment_page(Folder(tmp_path), "none")


def test_two_challengers_have_curves_of_their_own(tmp_path):
    folder = Folder(tmp_path)
    observed(folder, experiment(challengers={"2": 0.3, "3": 0.2}), (1.5, 0.3))
    verdicts = judge(folder, "e", NOW)
    assert [one.challenger for one in verdicts] == ["2", "3"]
    assert msgspec.json.encode(verdicts[1].comparison) == b"null"
    assert experiment_page(folder, "e").count("<section>") == 2
