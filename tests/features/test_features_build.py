"""Frames from validated tables on disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import CommitProperties, Transaction, write_deltalake

from ftl.consortium import Node, load
from ftl.consortium.model import Label
from ftl.errors import FeatureError
from ftl.features import build

ROWS = 40


def rows(**changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(1)
    made = {
        "person": [f"S{number:03d}" for number in range(ROWS)][::-1],
        "phone": ["1"] * ROWS,
        "income": random.normal(size=ROWS).tolist(),
        "region": random.choice(["north", "south"], ROWS).tolist(),
        "outcome": ["bad" if number % 4 == 0 else "good" for number in range(ROWS)],
        "part": ["test" if number % 5 == 0 else "train" for number in range(ROWS)],
    }
    return {**made, **changes}


def node(root: Path, data: dict[str, Any], label: dict[str, Any] | None = None, **training: Any) -> Node:
    kinds = {name: "float64" if name == "income" else "string" for name in data}
    columns = {name: {"from": name, "type": kind} for name, kind in kinds.items()}

    def party(role: str) -> dict[str, Any]:
        return {
            "role": role,
            "sources": {"files": {"kind": "csv", "path": "data"}},
            "tables": {"people": {"source": "files", "table": "people.csv", "columns": columns}},
            "features": {"table": "people", "columns": ["income", "region"]},
        }

    parties = {"bank": {**party("active"), "label": label or {"column": "outcome", "positive": "bad"}}}
    parties["shop"] = party("passive")
    text = {"version": 1, "name": "tiny", "identifiers": ["person", "phone"], "parties": parties, "training": training}
    (root / "consortium.yaml").write_text(json.dumps(text))
    made = load(root).node("bank")
    write_deltalake(str(made.validated("people")), pa.table(data), mode="overwrite")
    return made


def test_a_frame_holds_encoded_columns_labels_and_joined_identifiers_in_their_order(tmp_path: Path) -> None:
    data = rows()
    frame, encoder = build(node(tmp_path, data, holdout={"column": "part", "value": "test"}), 0)
    assert frame.columns == ("income", "region")
    assert frame.categories == {"region": ("north", "south")} == encoder.categories
    assert frame.ids == tuple(f"S{number:03d}|1" for number in range(ROWS))
    back = np.arange(ROWS)[::-1]
    np.testing.assert_array_equal(frame.values[:, 0], np.array(data["income"])[back])
    np.testing.assert_array_equal(frame.label, np.array([v == "bad" for v in data["outcome"]])[back])
    np.testing.assert_array_equal(frame.holdout, np.array([v == "test" for v in data["part"]])[back])


def test_the_drawn_holdout_is_stratified_and_follows_the_seed(tmp_path: Path) -> None:
    made = node(tmp_path, rows(), holdout={"fraction": 0.3})
    first, again, other = (build(made, seed)[0] for seed in (1, 1, 2))
    assert [int((first.label[first.holdout] == value).sum()) for value in (0, 1)] == [9, 3]
    np.testing.assert_array_equal(first.holdout, again.holdout)
    assert not np.array_equal(first.holdout, other.holdout)


def test_an_unknown_label_is_neither_class_nor_holdout(tmp_path: Path) -> None:
    data = rows()
    data["outcome"][3] = None
    frame, _ = build(node(tmp_path, data), 0)
    assert np.isnan(frame.label).nonzero()[0].tolist() == [ROWS - 1 - 3]
    assert not frame.holdout[ROWS - 1 - 3]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"outcome": ["good"] * ROWS}, r"label 'outcome' has one class; found good, of which 'bad' is bad"),
        ({"outcome": pa.array([None] * ROWS, pa.string())}, r"no row has a label \('outcome'\)"),
        ({"person": ["S1"] * 4 + [f"T{n}" for n in range(ROWS - 4)]}, r"is not unique, 3 rows repeat one"),
        ({"person": [None, *(f"T{n}" for n in range(ROWS - 1))]}, r"1 rows have no value in an identifier column"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(FeatureError, match=match):
        build(node(tmp_path, rows(**changes)), 0)


def test_a_feature_column_that_is_not_there_is_named_with_the_nearest(tmp_path: Path) -> None:
    data = rows()
    made = node(tmp_path, data)
    data["incomes"] = data.pop("income")
    write_deltalake(str(made.validated("people")), pa.table(data), mode="overwrite", schema_mode="overwrite")
    with pytest.raises(FeatureError, match=r"no column 'income'\. Did you mean 'incomes'"):
        build(made, 0)


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    made = node(tmp_path, rows())
    checked = CommitProperties(app_transactions=[Transaction("ftl.checked", 1)])  # a publication of no rows
    write_deltalake(
        str(made.validated("people")), pa.table(rows()).slice(0, 0), mode="overwrite", commit_properties=checked
    )
    with pytest.raises(FeatureError, match="party 'bank', table 'people' has no validated rows"):
        build(made, 0)


def labelled(root: Path, outcome: Any, **label: Any) -> Any:
    made = node(root, rows(outcome=outcome), holdout={"fraction": 0.25})
    return build(with_label(made, column="outcome", **label), 3)


def with_label(made: Node, **label: Any) -> Node:
    """The node after its label was declared otherwise, whatever the mapping says of its columns."""
    party = made.party.model_copy(update={"label": Label(**label)})
    return Node(made.root, made.name, party, made.consortium)


def test_a_number_is_taken_as_it_is_and_its_holdout_is_drawn_from_the_known_ones(tmp_path: Path) -> None:
    given = [None, float("inf"), *(100.0 + number for number in range(ROWS - 2))]
    frame, _ = labelled(tmp_path, given, kind="number")
    assert (frame.kind, frame.classes) == ("number", ())
    np.testing.assert_array_equal(frame.label[::-1], [np.nan, np.nan, *given[2:]])
    assert int(frame.holdout.sum()) == round((ROWS - 2) * 0.25)
    assert not frame.holdout[np.isnan(frame.label)].any()


def test_classes_are_numbered_in_their_order_and_each_keeps_its_share_of_the_holdout(tmp_path: Path) -> None:
    given = [10 if number < 8 else 9 if number < 24 else 2 for number in range(ROWS)]
    found, _ = labelled(tmp_path, given, kind="classes")
    assert (found.kind, found.classes) == ("classes", ("2", "9", "10"))
    np.testing.assert_array_equal(found.label[::-1], [2.0] * 8 + [1.0] * 16 + [0.0] * 16)
    assert [int((found.label[found.holdout] == number).sum()) for number in range(3)] == [4, 4, 2]
    declared, _ = labelled(tmp_path, given, kind="classes", classes=[9, 2, 10])
    assert declared.classes == ("9", "2", "10")
    assert set(declared.label[found.label == 1.0]) == {0.0}


def test_weights_count_labelled_rows_and_directions_follow_the_columns(tmp_path: Path) -> None:
    data = rows(outcome=["bad", None, *["good"] * (ROWS - 2)], part=[float(n) - 1 for n in range(ROWS)])
    data["part"][:3] = [5.0, -1.0, 1.0]
    made = with_label(node(tmp_path, data), column="outcome", positive="bad", weight="part")
    made.party.features.monotone["income"] = "falling"
    frame, _ = build(made, 0)
    np.testing.assert_array_equal(frame.weight[::-1], [5.0, 1.0, 1.0, *range(2, ROWS - 1)])
    assert frame.monotone.tolist() == [-1, 0]
    assert frame.monotone.dtype == np.int8


def test_categories_can_neither_rise_nor_fall(tmp_path: Path) -> None:
    made = node(tmp_path, rows())
    made.party.features.monotone["region"] = "rising"
    with pytest.raises(FeatureError, match="'region' holds categories, in which the answer can neither rise nor fall"):
        build(made, 0)


@pytest.mark.parametrize(
    ("outcome", "label", "match"),
    [
        (["1"] * ROWS, {"kind": "number"}, r"label 'outcome' is of type string, not a number"),
        ([7.0] * ROWS, {"kind": "number"}, r"is the same number in all 40 labelled rows"),
        (["a"] * ROWS, {"kind": "classes"}, r"has 1 classes; 2 to 64 classes can be told apart"),
        (["a", "b"] * 20, {"kind": "classes", "classes": ["a", "c"]}, r"1 values that are not declared classes: b"),
        (["a", "b"] * 20, {"kind": "classes", "classes": ["a", "b", "c"]}, r"has no row of class 'c'"),
        (["bad", "good"] * 20, {"positive": "bad", "weight": "income"}, r"\d+ labelled rows have no weight above 0"),
        (["bad", "good"] * 20, {"positive": "bad", "weight": "wait"}, r"no column 'wait'"),
    ],
)
def test_labels_that_are_not_what_they_are_declared_are_refused(
    tmp_path: Path, outcome: Any, label: dict[str, Any], match: str
) -> None:
    with pytest.raises(FeatureError, match=match):
        labelled(tmp_path, outcome, **label)


def test_a_person_without_the_first_identifier_is_found_by_a_further_one(tmp_path: Path) -> None:
    data = rows(phone=[f"0{number:02d}" for number in range(ROWS)])
    data["person"][5] = None
    data["phone"][6] = None
    made = node(tmp_path, data)
    text = json.loads((tmp_path / "consortium.yaml").read_text())
    text |= {"identifiers": ["person"], "alignment": {"otherwise": [["phone"]]}}
    (tmp_path / "consortium.yaml").write_text(json.dumps(text))
    made = load(tmp_path).node("bank")
    frame, _ = build(made, 0)
    assert frame.ids == ("2:005", *sorted(name for name in data["person"] if name))
    assert frame.lists[0][0] is None
    assert frame.lists[1][0] == "005"
    assert frame.lists[1][frame.ids.index(data["person"][6])] is None
    data["person"][6] = None
    write_deltalake(str(made.validated("people")), pa.table(data), mode="overwrite")
    with pytest.raises(FeatureError, match=r"1 rows have no value in an identifier column \(person or phone\)"):
        build(made, 0)
    data["person"][6], data["phone"][6] = "S900", "005"
    write_deltalake(str(made.validated("people")), pa.table(data), mode="overwrite")
    with pytest.raises(FeatureError, match=r"the identifier \(phone\) is not unique, 1 rows repeat one"):
        build(made, 0)
