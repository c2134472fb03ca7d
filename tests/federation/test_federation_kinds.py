"""Labels that are numbers or classes, parties that answer alone, recipes without a model, people only counted."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from conftest import make_consortium, simulate, write_validated
from deltalake import DeltaTable
from sklearn.metrics import (
    accuracy_score,
    log_loss,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from ftl.consortium import load
from ftl.errors import FederationError
from ftl.features import Frame
from ftl.federation import METRICS, ClassEvaluation, MemoryEngine, NumberEvaluation, Request, assess

TEST = np.arange(300)


def run(folder, recipe="clear_rounds", result=None, **settings):
    engine = MemoryEngine(folder)
    engine.submit(Request("r1", recipe, 0, settings, None, 20.0, result=result))
    list(engine.watch("r1"))
    return engine.result("r1")


def declared(folder, **changes):
    """The folder with other settings at the top of its consortium.yaml, or in its label."""
    path = folder.root / "consortium.yaml"
    text = json.loads(path.read_text())
    text["parties"]["bank"]["label"] |= changes.pop("label", {})
    for party in text["parties"].values():
        party["tables"]["people"]["columns"] |= changes.get("columns", {})
    path.write_text(json.dumps(text | {key: value for key, value in changes.items() if key != "columns"}))
    return load(folder.root)


def rewritten(folder, party, **columns):
    table = DeltaTable(str(folder.node(party).validated("people"))).to_pyarrow_table()
    for name, values in columns.items():
        if name in table.column_names:
            table = table.drop_columns(name)
        table = table.append_column(name, pa.array(values))
    write_validated(folder, party, table)


@pytest.fixture
def people():
    return simulate(("bank", "partner"), 200)


def frame(kind, label, classes=()):
    empty = np.zeros((len(label), 0))
    ids = tuple(str(number) for number in range(len(label)))
    return Frame("bank", (), empty, {}, ids, label, np.ones(len(label), bool), kind, classes)


def numbers(seed=0):
    generator = np.random.default_rng(seed)
    label = generator.normal(50.0, 10.0, len(TEST))
    return label, label + generator.normal(0, 8.0, len(TEST)), label + generator.normal(0, 3.0, len(TEST))


def test_figures_of_numbers_are_those_of_scikit_learn_and_the_gain_is_paired():
    label, weak, good = numbers()
    found, gain = assess(frame("number", label), TEST, {"active_only": weak, "federated": good}, 1)
    one = found["federated"]
    assert isinstance(one, NumberEvaluation)
    assert one.rmse == pytest.approx(root_mean_squared_error(label, good))
    assert one.mae == pytest.approx(mean_absolute_error(label, good))
    assert one.r2 == pytest.approx(r2_score(label, good))
    assert [count for _, _, count in one.calibration] == [30] * 10
    for metric in METRICS["number"]:
        low, high = one.intervals[metric]
        assert low < one.figures[metric] < high
        difference, lowest, highest = gain[metric]
        assert difference == one.figures[metric] - found["active_only"].figures[metric]
        assert lowest < difference < highest
    assert gain["rmse"][2] < 0 < gain["r2"][1]


def test_a_group_of_the_calibration_hides_every_person():
    label, _, good = numbers()
    few, _ = assess(frame("number", label), TEST[:45], {"federated": good[:45]}, 1)
    assert [count for _, _, count in few["federated"].calibration] == [23, 22]


def test_figures_of_classes_are_those_of_scikit_learn():
    generator = np.random.default_rng(3)
    label = generator.choice(3, size=len(TEST), p=[0.6, 0.3, 0.1]).astype(float)
    raw = np.exp(generator.normal(size=(len(TEST), 3)) + 1.5 * np.eye(3)[label.astype(int)])
    answer = np.round(raw / raw.sum(axis=1, keepdims=True), 2)
    answer[:, 0] = 1 - answer[:, 1] - answer[:, 2]
    found, gain = assess(frame("classes", label, ("a", "b", "c")), TEST, {"federated": answer}, 1)
    one = found["federated"]
    assert isinstance(one, ClassEvaluation)
    assert one.accuracy == accuracy_score(label, answer.argmax(axis=1))
    assert one.log_loss == pytest.approx(log_loss(label, np.clip(answer, 1e-9, 1)))
    assert one.auc == pytest.approx(roc_auc_score(label, answer, multi_class="ovr", average="macro"))
    assert one.classes == {name: int((label == number).sum()) for number, name in enumerate("abc")}
    assert all(low < one.figures[name] < high for name, (low, high) in one.intervals.items())
    assert gain == {}


@pytest.mark.parametrize(
    ("kind", "answer", "message"),
    [
        ("number", np.zeros((300, 1)), r"answers of federated have shape \(300, 1\), expected \(300,\)"),
        ("number", np.full(300, np.nan), "of finite numbers"),
        ("classes", np.full((300, 2), 0.4), "no probabilities that sum to 1"),
    ],
)
def test_answers_that_cannot_be_evaluated_are_refused(kind, answer, message):
    label = np.arange(300) % 2.0
    with pytest.raises(FederationError, match=message):
        assess(frame(kind, label, ("a", "b")), TEST, {"federated": answer}, 0)


def test_a_run_on_a_number_logs_the_figures_of_numbers(tmp_path, people):
    folder = declared(make_consortium(tmp_path, people), label={"kind": "number"})
    income = people.columns["bank"][:, 0] + 2 * people.columns["partner"][:, 0]
    rewritten(folder, "bank", bad=income)
    result = run(folder)
    assert set(result.metrics) == {"federated", "active_only", "alone:partner"}
    assert result.metrics["federated"].r2 > 0.9 > result.metrics["alone:partner"].r2 > result.metrics["active_only"].r2
    assert result.gain["rmse"][2] < 0


def test_a_run_on_classes_logs_the_figures_of_classes(tmp_path, people):
    folder = declared(make_consortium(tmp_path, people), label={"kind": "classes"})
    rewritten(folder, "bank", bad=np.arange(200) % 3)
    result = run(folder)
    assert result.metrics["federated"].classes == {"0": 17, "1": 17, "2": 16}
    assert result.metrics["federated"].log_loss == pytest.approx(np.log(3))
    assert result.gain["accuracy"] == (0.0, 0.0, 0.0)


def test_without_a_baseline_there_are_figures_and_no_gain(tmp_path, people):
    result = run(make_consortium(tmp_path, people), without_baseline=True)
    assert set(result.metrics) == {"federated", "alone:partner"}
    assert result.metrics["alone:partner"].auc > 0.5
    assert result.gain == {}


def test_a_recipe_without_a_model_leaves_its_report_and_every_partys_private_files(tmp_path, people):
    folder = make_consortium(tmp_path, people)
    result = run(folder, "clear_report")
    assert result.combiner is None
    assert (result.metrics, result.gain) == ({}, {})
    assert result.report == {"columns": 3, "found": {"x0": 1.5}}
    for party in ("bank", "partner"):
        file = folder.node(party).model("r1") / "private" / "columns.txt"
        assert file.read_text() == "x0 x1 x2"
        assert file.stat().st_mode & 0o777 == 0o600
    assert "x0 x1" not in "".join(path.read_text() for path in folder.run("r1").iterdir())


def test_a_private_file_cannot_leave_its_folder(tmp_path, people):
    with pytest.raises(FederationError, match=r"'\.\./part\.json' cannot name a file of a recipe"):
        run(make_consortium(tmp_path, people), "clear_report", file="../part.json")


def test_people_may_only_be_counted_and_then_nothing_is_trained(tmp_path, people):
    folder = make_consortium(tmp_path, people, {"partner": np.arange(0, 120)})
    result = run(folder, result="one")
    assert result.report["shared_people"] == 120
    assert result.aligned == {"train": 90, "test": 30}
    assert (result.combiner, result.parts, result.metrics) == (None, [], {})
    assert not folder.node("partner").model("r1").exists()


def test_people_without_the_first_identifier_are_found_by_the_second(tmp_path, people):
    both = make_consortium(tmp_path, replace(people, ids=[f"S{number:03d}" for number in range(200)]))
    phone = {"phone": {"from": "phone", "type": "string"}}
    folder = declared(both, columns=phone, alignment={"otherwise": [["phone"]], "pad": "power_of_two"})
    for party, lacking in (("bank", 3), ("partner", 5)):
        names = [None if number % lacking == 0 else f"S{number:03d}" for number in range(200)]
        phones = [None if number % 7 == 0 else f"{number:04d}" for number in range(200)]
        for number, name in enumerate(names):
            phones[number] = phones[number] or (f"{party}-{number}" if name is None else None)
        rewritten(folder, party, person=names, phone=phones)
    result = run(folder)
    by_name = {number for number in range(200) if number % 3 and number % 5}
    by_phone = {number for number in range(200) if number % 7 and number not in by_name}
    assert sum(result.aligned.values()) == len(by_name | by_phone)
    assert result.metrics["federated"].auc > 0.7
