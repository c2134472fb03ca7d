"""A tiny consortium with validated tables on disk, and the test recipe as an installed package."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from ftl.consortium import Folder, load

PLUGIN = Path(__file__).parent / "plugin"


@dataclass(frozen=True)
class People:
    """Simulated people: identifiers, a label and one block of columns per party."""

    ids: list[str]
    label: np.ndarray
    columns: dict[str, np.ndarray]
    holdout: np.ndarray


@pytest.fixture(autouse=True)
def recipe_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """`clear_logistic` is found like any other package's recipe, here and in processes that a test starts."""
    monkeypatch.setattr(sys, "path", [str(PLUGIN), *sys.path])
    paths = [str(PLUGIN), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def simulate(parties: tuple[str, ...], count: int = 400, seed: int = 7) -> People:
    generator = np.random.default_rng(seed)
    columns = {party: generator.normal(size=(count, 3)) for party in parties}
    signal = sum(block[:, 0] for block in columns.values())
    label = (generator.random(count) < 1 / (1 + np.exp(1 - signal))).astype(int)
    ids = [f"S{number:06d}" for number in range(count)]
    return People(ids, label, columns, np.arange(count) % 4 == 0)


def make_consortium(root: Path, people: People, rows: dict[str, np.ndarray] | None = None) -> Folder:
    """Write `consortium.yaml` and every party's validated table.

    Args:
        root: the folder.
        people: the first party of `columns` is the active one.
        rows: party to the people it knows; everyone when absent.
    """
    root.mkdir(parents=True, exist_ok=True)
    active = next(iter(people.columns))
    parties = {party: describe(party, active) for party in people.columns}
    text = {"version": 1, "name": "tiny", "identifiers": ["person"], "parties": parties}
    text["training"] = {"recipe": "clear_logistic", "holdout": {"column": "part", "value": "test"}}
    (root / "consortium.yaml").write_text(json.dumps(text))
    folder = load(root)
    for party, block in people.columns.items():
        known = np.arange(len(people.ids)) if rows is None or party not in rows else rows[party]
        data = {"person": [people.ids[row] for row in known]}
        data |= {f"x{number}": block[known, number] for number in range(block.shape[1])}
        if party == active:
            data["bad"] = people.label[known]
            data["part"] = ["test" if people.holdout[row] else "train" for row in known]
        write_validated(folder, party, pa.table(data))
    return folder


def describe(party: str, active: str) -> dict[str, object]:
    columns = {name: {"from": name, "type": "float64"} for name in ("x0", "x1", "x2")}
    columns |= {"person": {"from": "person", "type": "string"}}
    description: dict[str, object] = {
        "role": "active" if party == active else "passive",
        "sources": {"file": {"kind": "csv", "path": "data"}},
        "features": {"table": "people", "columns": ["x0", "x1", "x2"]},
    }
    if party == active:
        columns |= {"bad": {"from": "bad", "type": "int64"}, "part": {"from": "part", "type": "string"}}
        description["label"] = {"column": "bad"}
    description["tables"] = {"people": {"source": "file", "table": f"{party}.csv", "columns": columns}}
    return description


def write_validated(folder: Folder, party: str, table: pa.Table) -> None:
    path = folder.node(party).validated("people")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_deltalake(str(path), table, mode="overwrite", schema_mode="overwrite")
