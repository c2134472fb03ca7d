"""The gateway's REST interface: what is refused, and what it says of itself."""

import json
import re
from pathlib import Path

import httpx
import jsonschema
import pytest
from conftest import Site, identifiers

GOOD = identifiers(4)


def post(site: Site, content: bytes, token: str | None = None) -> httpx.Response:
    headers = {"authorization": f"Bearer {site.token if token is None else token}"}
    return httpx.post(f"{site.url}/v1/scores", content=content, headers=headers, timeout=10)


BAD = {
    "an identifier is missing": ({"id_number": "A1"}, "phone", "phone is missing."),
    "an identifier is a number": ({**GOOD, "phone": 777}, "phone", "phone: Expected `str`, got `int`."),
    "an identifier is empty": ({**GOOD, "phone": ""}, "phone", "phone: Expected `str` of length >= 1."),
    "an identifier is blank": ({**GOOD, "phone": "  "}, "phone", "phone is blank or holds '|'."),
    "an identifier holds the separator": ({**GOOD, "phone": "1|2"}, "phone", "phone is blank or holds '|'."),
    "an identifier is too long": ({**GOOD, "phone": "7" * 200}, "phone", "phone: Expected `str` of length <= 128."),
    "a field is unknown": (
        {**GOOD, "fields": {"amout": 1}},
        "fields.amout",
        "fields holds a field that does not exist.",
    ),
    "a member is unknown": ({**GOOD, "fild": {}}, "fild", "The body holds a field that does not exist."),
    "a number is a text": ({**GOOD, "fields": {"amount": "1"}}, "fields.amount", "fields.amount: Expected `float"),
    "a whole number has a fraction": ({**GOOD, "fields": {"ceiling": 1.5}}, "fields.ceiling", "fields.ceiling: Exp"),
    "a date is none": ({**GOOD, "fields": {"since": "29.2.2020"}}, "fields.since", "fields.since: Expected"),
    "a date does not exist": ({**GOOD, "fields": {"since": "2021-02-29"}}, "fields.since", "fields.since is no date."),
    "fields are a list": ({**GOOD, "fields": []}, "fields", "fields: Expected `object | null`, got `array`."),
    "the outcome is brought along": ({**GOOD, "fields": {"bad": 0}}, "fields.bad", "fields holds a field that"),
    "the body is a list": ([], "", "The body: Expected `object`, got `array`."),
}


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.replace(" ", "-"))
def test_a_bad_request_is_a_422_that_names_the_field_and_not_the_value(site: Site, case: str) -> None:
    body, field, detail = BAD[case]
    said = post(site, json.dumps(body).encode())
    problem = said.json()
    assert said.status_code == 422
    assert said.headers["content-type"] == "application/problem+json"
    assert problem["code"] == "invalid_request"
    assert problem.get("field", "") == field
    assert problem["detail"].startswith(detail)
    assert problem["cure"]
    assert GOOD["id_number"] not in said.text


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b'{"id_number": "\xff"}', b"[" * 50_000, b"null", b'{"id_number": "A"'], ids=str
)
def test_what_is_no_json_object_is_a_422(site: Site, content: bytes) -> None:
    assert post(site, content).status_code == 422


def test_a_near_miss_is_told_the_right_name(site: Site) -> None:
    assert post(site, json.dumps({**GOOD, "fields": {"amout": 1}}).encode()).json()["cure"] == "Did you mean amount?"


def test_a_body_of_more_than_a_megabyte_is_refused(site: Site) -> None:
    said = post(site, b'"' + b"x" * 1_100_000 + b'"')
    assert (said.status_code, said.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", "Basic {token}", "Bearer {token}x"])
def test_without_the_client_token_nothing_is_answered(site: Site, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header.format(token=site.token)}
    for said in (
        httpx.post(f"{site.url}/v1/scores", json=GOOD, headers=headers),
        httpx.get(f"{site.url}/v1/models", headers=headers),
    ):
        assert said.status_code == 401
        assert said.headers["www-authenticate"] == "Bearer"
        assert said.json()["code"] == "unauthorised"


def test_the_token_file_is_readable_by_its_owner_only(site: Site) -> None:
    from ftl.serving import client_token_file

    assert client_token_file(site.folder).stat().st_mode & 0o777 == 0o600


def test_a_wrong_method_is_told_the_right_one_and_a_wrong_path_the_known_ones(site: Site) -> None:
    wrong = httpx.get(f"{site.url}/v1/scores")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    nowhere = httpx.get(f"{site.url}/v1/score")
    assert nowhere.status_code == 404
    assert "/v1/scores" in nowhere.json()["cure"]


def test_models_says_which_version_answers_and_whose_parts_it_needs(site: Site) -> None:
    said = httpx.get(f"{site.url}/v1/models", headers={"authorization": f"Bearer {site.token}"}).json()
    assert said["models"] == [
        {
            "name": "credit_risk",
            "version": "1",
            "alias": "champion",
            "run_id": "run-1",
            "recipe": "stumps",
            "parties": ["bank", "partner"],
            "registry": "ok",
        }
    ]


def description(site: Site) -> dict[str, dict[str, dict[str, object]]]:
    return dict(httpx.get(f"{site.url}/openapi.json").json())


def schema_of(site: Site, name: str) -> dict[str, object]:
    """A component as a schema that stands alone."""
    text = json.dumps(description(site)["components"]["schemas"]).replace("#/components/schemas/", "#/$defs/")
    return {"$ref": f"#/$defs/{name}", "$defs": json.loads(text)}


def test_every_schema_of_the_openapi_description_is_one_and_every_reference_leads_somewhere(site: Site) -> None:
    said = description(site)
    assert said["openapi"] == "3.1.0"
    for name in said["components"]["schemas"]:
        jsonschema.Draft202012Validator.check_schema(schema_of(site, name))
    for reference in re.findall(r'"\$ref": ?"#/components/schemas/(\w+)"', json.dumps(said)):
        assert reference in said["components"]["schemas"]
    assert set(said["paths"]) == {
        "/v1/scores",
        "/v1/scores:batch",
        "/v1/decisions",
        "/v1/outcomes",
        "/oauth/token",
        "/v1/models",
        "/healthz",
        "/readyz",
    }
    operations = [one for path in said["paths"].values() for one in path.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)  # type: ignore[index]


def test_requests_and_answers_fit_the_openapi_description(site: Site) -> None:
    token = {"authorization": f"Bearer {site.token}"}
    for name, document in (
        ("ScoreRequest", {**GOOD, "fields": {"amount": 1.5, "since": "2020-02-29"}}),
        ("ScoreResponse", site.score(GOOD).json()),
        ("Problem", post(site, b"{}").json()),
        ("Models", httpx.get(f"{site.url}/v1/models", headers=token).json()),
        ("Health", httpx.get(f"{site.url}/readyz").json()),
    ):
        jsonschema.Draft202012Validator(schema_of(site, name)).validate(document)
    with pytest.raises(jsonschema.ValidationError, match="'phone' is a required property"):
        jsonschema.Draft202012Validator(schema_of(site, "ScoreRequest")).validate({"id_number": "A"})


def test_the_api_page_needs_nothing_from_elsewhere(site: Site) -> None:
    said = httpx.get(f"{site.url}/docs")
    assert said.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in said.headers["content-security-policy"]
    assert not re.findall(r"https?://|src=|@import|//cdn", said.text)
    assert '<html lang="en">' in said.text
    assert "aria-live" in said.text


def test_the_page_is_part_of_the_package() -> None:
    import ftl.serving

    assert (Path(ftl.serving.__file__).parent / "page.html").is_file()
