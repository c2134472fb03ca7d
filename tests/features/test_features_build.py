"""Frames from validated tables on disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import CommitProperties, Transaction, write_deltalake

from ftl.consortium import Node, load
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
