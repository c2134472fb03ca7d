"""What is answered, by every door: REST, batch, the loaded model and MLflow's own server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pandas as pd
import pyarrow.csv
import pyarrow.parquet
import pytest
from conftest import PLUGIN, Site, expected, identifiers, listens, wait_for

from ftl import decision, registry
from ftl.errors import InvalidRequest
from ftl.federation.ports import claim
from ftl.serving import score_file


def test_a_person_both_parties_know_gets_the_number_computed_by_hand(site: Site) -> None:
    for number in range(20):
        said = site.score(identifiers(number)).json()
        assert said["probability_of_default"] == pytest.approx(expected(site, number), abs=1e-12)
        assert said["parties"] == {"bank": "known", "partner": "known"}
        assert (said["degraded"], said["why"]) == (False, None)


def test_the_score_is_the_scorecards_value_of_the_probability(site: Site) -> None:
    said = site.score(identifiers(3)).json()
    scale = site.folder.consortium.scorecard
    assert said["score"] == decision.score(pd.Series([expected(site, 3)]).to_numpy(), scale)[0]


def test_a_person_the_partner_does_not_know_gets_the_banks_own_score(site: Site) -> None:
    said = site.score(identifiers(250)).json()
    assert said["probability_of_default"] == pytest.approx(expected(site, 250), abs=1e-12)
    assert said["parties"] == {"bank": "known", "partner": "unknown"}
    assert said["degraded"] is False


def test_an_answer_names_model_trace_time_and_what_is_simulated(site: Site) -> None:
    first, second = (site.score(identifiers(1)).json() for _ in range(2))
    assert first["model"] == {"name": "credit_risk", "version": "1", "alias": "champion"}
    assert first["trace_id"] != second["trace_id"]
    assert 0 < first["milliseconds"] < 10_000
    assert first["notice"] == "All people are simulated."


def test_reasons_come_costliest_first_with_texts_and_never_name_a_protected_column(site: Site) -> None:
    seen = set()
    for number in range(60):
        reasons = site.score(identifiers(number)).json()["reasons"]
        points = [reason["points"] for reason in reasons]
        assert points == sorted(points, reverse=True)
        assert len(reasons) <= 4
        seen |= {(reason["code"], reason["text"]) for reason in reasons}
    assert seen == {
        ("B1", "The amount owed is high"),
        ("B2", "Much of the credit limit is used"),
        ("P1", "Payments were late"),
    }


def test_identifiers_are_normalised_as_the_mapping_does(site: Site) -> None:
    told = identifiers(7)
    written = {"id_number": f" {told['id_number'].lower()} ", "phone": f"+{told['phone'][:4]} {told['phone'][4:]}"}
    assert site.score(written).json()["score"] == site.score(told).json()["score"]


def test_a_field_of_the_request_replaces_the_stored_one_and_derived_columns_follow(site: Site) -> None:
    said = site.score({**identifiers(5), "fields": {"amount": 1999.5, "ceiling": 1000}}).json()
    assert said["probability_of_default"] == pytest.approx(expected(site, 5, amount=1999.5, ceiling=1000), abs=1e-12)
    assert said["probability_of_default"] != pytest.approx(expected(site, 5), abs=1e-3)


def test_a_field_that_no_feature_uses_changes_nothing(site: Site) -> None:
    said = site.score({**identifiers(5), "fields": {"since": "2020-02-29"}}).json()
    assert said["probability_of_default"] == pytest.approx(expected(site, 5), abs=1e-12)


def test_somebody_the_bank_does_not_know_is_a_404_without_the_id(site: Site) -> None:
    for number in (1001, 999_999):
        said = site.score(identifiers(number))
        assert said.status_code == 404
        assert said.headers["content-type"] == "application/problem+json"
        assert said.json()["code"] == "applicant_unknown"
        assert not any(text in said.text for text in identifiers(number).values())


def applicants(site: Site, path: Path, **columns: list[object]) -> Path:
    numbers = [*range(0, 300, 3), 1001]
    rows = pd.DataFrame([identifiers(n) for n in numbers]).assign(**columns)
    if path.suffix == ".csv":
        rows.to_csv(path, index=False)
    else:
        rows.to_parquet(path)
    return path


def rest(site: Site) -> list[float | None]:
    with httpx.Client(headers={"authorization": f"Bearer {site.token}"}, timeout=10) as client:
        said = [client.post(f"{site.url}/v1/scores", json=identifiers(n)) for n in [*range(0, 300, 3), 1001]]
    return [one.json().get("probability_of_default") for one in said]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_batch_gives_the_numbers_of_the_gateway(site: Site, tmp_path: Path, kind: str) -> None:
    out = tmp_path / f"scores.{kind}"
    report = score_file(site.folder, applicants(site, tmp_path / f"in.{kind}"), out)
    table = pyarrow.csv.read_csv(out) if kind == "csv" else pyarrow.parquet.read_table(out)
    assert table.column("probability_of_default").to_pylist() == rest(site)
    assert table.column("row").to_pylist() == list(range(1, 102))
    assert (report.rows, report.scored, report.unknown, report.degraded) == (101, 100, 1, 0)
    assert table.column_names == ["row", "probability_of_default", "score", "reasons", "degraded", "why"]
    assert table.column("why").to_pylist()[-1] == "bank does not know the applicant."


def test_a_batch_takes_fields_as_columns_where_they_are_not_empty(site: Site, tmp_path: Path) -> None:
    amounts = [1999.5 if row == 1 else None for row in range(101)]
    path = applicants(
        site, tmp_path / "in.csv", amount=amounts, ceiling=[1000 if row == 1 else None for row in range(101)]
    )
    score_file(site.folder, path, tmp_path / "out.parquet")
    found = pyarrow.parquet.read_table(tmp_path / "out.parquet").column("probability_of_default").to_pylist()
    assert found[0] == pytest.approx(expected(site, 0), abs=1e-12)
    assert found[1] == pytest.approx(expected(site, 3, amount=1999.5, ceiling=1000), abs=1e-12)


def test_a_batch_without_an_identifier_column_says_which(site: Site, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id_number,fone\nA,1\n")
    with pytest.raises(InvalidRequest, match=r"no column 'phone'; it has id_number, fone"):
        score_file(site.folder, tmp_path / "in.csv", tmp_path / "out.csv")


def test_the_loaded_model_gives_the_numbers_of_the_gateway(site: Site) -> None:
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(registry.tracking_uri(site.folder))
    try:
        model = mlflow.pyfunc.load_model("models:/credit_risk/1")
    finally:
        mlflow.set_tracking_uri(before)
    said = model.predict(pd.DataFrame([identifiers(n) for n in [*range(0, 300, 3), 1001]]))
    found = [None if value is None or pd.isna(value) else value for value in said["probability_of_default"]]
    assert found == rest(site)
    changed = model.predict(pd.DataFrame([{**identifiers(5), "fields": {"amount": 1999.5, "ceiling": 1000}}]))
    assert changed["probability_of_default"][0] == pytest.approx(
        expected(site, 5, amount=1999.5, ceiling=1000), abs=1e-12
    )


@pytest.mark.slow
def test_mlflow_models_serve_gives_the_numbers_of_the_gateway(site: Site, tmp_path: Path) -> None:
    port = claim(site.folder, ["mlflow"])["mlflow"]
    uri = registry.tracking_uri(site.folder)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # MLflow looks for uvicorn there
    own = {"MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(PLUGIN), "MLFLOW_DISABLE_TELEMETRY": "1", "PATH": path}
    model = ["models", "serve", "-m", "models:/credit_risk@champion", "--env-manager", "local", "--port", str(port)]
    log = (tmp_path / "serve.log").open("wb")
    command = [sys.executable, "-m", "mlflow", *model]
    server = subprocess.Popen(command, env={**os.environ, **own}, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: listens(port), "mlflow models serve", 120)
        people = [identifiers(n) for n in [*range(0, 300, 3), 1001]]
        body = json.dumps({"dataframe_records": people})
        headers = {"content-type": "application/json"}
        said = httpx.post(f"http://127.0.0.1:{port}/invocations", content=body, headers=headers, timeout=60)
        assert said.status_code == 200, said.text
        assert [row["probability_of_default"] for row in said.json()["predictions"]] == rest(site)
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)
