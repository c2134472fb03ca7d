"""Expectations answered from the files give the verdicts and the refused rows that a data frame gives."""

import math
from pathlib import Path
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import numpy as np
import pyarrow as pa
import pytest
from collect_bank import customer
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from quality_checked import Checked

from ftl.collect import SYNC, Lake, Part
from ftl.quality import quarantined
from ftl.quality.pushed import answers
from ftl.quality.rows import Rows

FORMAT = {"result_format": "SUMMARY", "partial_unexpected_count": 0}
EXAMPLES = {"partial_unexpected_list", "partial_unexpected_counts", "partial_unexpected_index_list"}
SCHEMA = pa.schema([("n", pa.int64()), ("x", pa.float64()), ("t", pa.string()), ("u", pa.string()), (SYNC, pa.int64())])
NUMBERS = st.integers(-3, 3)
TEXTS = st.sampled_from(["", "a", "ab", "AB1", "A1", "é", "日本", "🦆b", "a\nb", "a b"])
ROW = st.tuples(
    st.none() | NUMBERS, st.none() | NUMBERS.map(lambda n: n / 2), st.none() | TEXTS, st.none() | TEXTS, st.just(1)
)
TABLES = st.lists(ROW, min_size=3, max_size=30)


def expectations() -> list[Any]:
    """One of each kind that is asked of the files, and of some several."""
    bounds = [{"min_value": -1, "max_value": 2}, {"min_value": 0, "strict_min": True}, {"max_value": 1.5}]
    found = [gxe.ExpectColumnValuesToBeBetween(column=name, **some) for name in ("n", "x") for some in bounds]
    found += [gxe.ExpectColumnValuesToNotBeNull(column=name, mostly=some) for name in "nxt" for some in (1, 0.5)]
    found += [gxe.ExpectColumnValuesToBeNull(column="t"), gxe.ExpectColumnValuesToBeUnique(column="n")]
    found += [gxe.ExpectColumnValuesToBeUnique(column="t"), gxe.ExpectCompoundColumnsToBeUnique(column_list=["n", "t"])]
    for kind in (gxe.ExpectColumnValuesToBeInSet, gxe.ExpectColumnValuesToNotBeInSet):
        found += [kind(column="n", value_set=[0, 1, 2.0]), kind(column="x", value_set=[0.5, 1])]
        found += [kind(column="t", value_set=["a", "ab", "日本"])]
    found += [gxe.ExpectColumnValueLengthsToEqual(column="t", value=2)]
    found += [gxe.ExpectColumnValueLengthsToBeBetween(column="t", min_value=1, max_value=2, strict_max=True)]
    for pattern in ("^[A-Z]{1,2}[0-9]$", "a", "b$", r"^\d", "^a|AB1$"):
        found += [gxe.ExpectColumnValuesToMatchRegex(column="t", regex=pattern)]
        found += [gxe.ExpectColumnValuesToNotMatchRegex(column="t", regex=pattern, mostly=0.6)]
    for kind in (gxe.ExpectColumnMeanToBeBetween, gxe.ExpectColumnMedianToBeBetween):
        found += [kind(column="x", min_value=-0.25, max_value=0.75), kind(column="n", min_value=0)]
    for kind in (gxe.ExpectColumnMinToBeBetween, gxe.ExpectColumnMaxToBeBetween):
        found += [kind(column="x", min_value=-1, max_value=1), kind(column="n", max_value=2, strict_max=True)]
    found += [gxe.ExpectTableRowCountToBeBetween(min_value=3), gxe.ExpectTableRowCountToEqual(value=4)]
    found += [gxe.ExpectTableColumnsToMatchSet(column_set=["n", "x", "t", "u"])]
    return found


EXPECTATIONS = expectations()


@pytest.fixture(scope="module")
def asset() -> Any:
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context.data_sources.add_pandas("lake").add_dataframe_asset("rows")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pushed")


def stored(lake: Lake, tables: list[list[Any]], dead: frozenset[int]) -> Rows:
    """Each table a file of its own; of all rows together those whose places are `dead` are no longer there."""
    parts, first = list[Part](), 0
    for rows in tables:
        columns = zip(*rows, strict=True)
        table = pa.table([pa.array(cells, kind) for cells, kind in zip(columns, SCHEMA.types, strict=True)], SCHEMA)
        lake.replace([table], SCHEMA, dict)
        (part,) = lake.parts()
        gone = np.array(sorted(place - first for place in dead if first <= place < first + len(rows)), np.int64)
        parts.append(Part(part.path, part.rows, gone))
        first += len(rows)
    return Rows.of(lake, parts)


def on_frame(asset: Any, rows: Rows) -> list[Any]:
    """What Great Expectations says of a data frame, of each expectation."""
    known = asset.batch_definitions
    definition = known[0] if known else asset.add_batch_definition_whole_dataframe("all")
    frame = definition.get_batch(batch_parameters={"dataframe": rows.frame(rows.schema.names)})
    copies = [one.copy(update={"id": None, "meta": {"place": place}}) for place, one in enumerate(EXPECTATIONS)]
    result_format = {"result_format": "COMPLETE", "return_unexpected_index_query": False}
    results = frame.validate(gx.ExpectationSuite("all", expectations=copies), result_format=result_format).results
    return sorted(results, key=lambda one: one.expectation_config.meta["place"])


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and isinstance(theirs, (int, float)):
        return math.isclose(ours, theirs, abs_tol=1e-9)
    return bool(ours == theirs)


@settings(max_examples=5, deadline=None, phases=[Phase.generate])
@given(tables=st.lists(TABLES, min_size=1, max_size=3), data=st.data())
def test_the_files_answer_what_a_data_frame_answers(
    asset: Any, folder: Path, tables: list[list[Any]], data: st.DataObject
) -> None:
    total = sum(map(len, tables))
    dead = data.draw(st.frozensets(st.integers(0, total - 1), max_size=total // 3))
    rows = stored(Lake(folder / "t"), tables, dead)
    assert rows.count == total - len(dead)
    found = answers(rows, EXPECTATIONS, FORMAT)
    assert sorted(found) == list(range(len(EXPECTATIONS)))
    for place, theirs in enumerate(on_frame(asset, rows)):
        ours, one = found[place], EXPECTATIONS[place]
        name = f"{one.expectation_type} {one.configuration.kwargs}"
        assert ours.result.success == theirs.success, name
        for key in ours.result.result.keys() & theirs.result.keys() - EXAMPLES:
            assert same(ours.result.result[key], theirs.result[key]), f"{name}: {key}"
        if ours.rows is not None:
            at_fault = np.unique(np.asarray(theirs.result.get("unexpected_index_list") or [], np.int64))
            assert ours.rows.tolist() == rows.places[at_fault].tolist(), name


@pytest.mark.parametrize(
    ("keys", "dead", "places"),
    [
        ([[1, 2, 3], [4, 5, 6]], [], []),
        ([[1, 2, 3], [3, 4, 5]], [], [2, 3]),
        ([[1, 2, 3], [3, 4, 5]], [3], []),
        ([[1, 2, 2], [3, 4, 5]], [], [1, 2]),
        ([[4, 5, 6], [1, 5, 7]], [], [1, 4]),
        ([[4, 5, 6], [1, 2, 3]], [], []),
    ],
)
def test_a_repeated_key_is_found_in_ascending_order_or_not(
    folder: Path, keys: list[list[int]], dead: list[int], places: list[int]
) -> None:
    tables = [[(key, 0.5, "a", "b", 1) for key in some] for some in keys]
    rows = stored(Lake(folder / "keys"), tables, frozenset(dead))
    found = answers(rows, [gxe.ExpectColumnValuesToBeUnique(column="n")], FORMAT)[0]
    assert found.rows is not None
    assert found.rows.tolist() == places
    assert found.result.success == (not places)


class ExpectColumnValuesToBeBetween(gxe.ExpectColumnValuesToBeBetween):
    """A party's own, of the same name."""


@pytest.mark.parametrize(
    "expectation",
    [
        gxe.ExpectColumnValuesToBeBetween(column="t", min_value=0),
        gxe.ExpectColumnValuesToBeBetween(column="missing", min_value=0),
        gxe.ExpectColumnValuesToBeBetween(column="n", min_value=0, row_condition="x>0", condition_parser="pandas"),
        gxe.ExpectColumnValuesToBeInSet(column="n", value_set=["1"]),
        gxe.ExpectColumnValuesToMatchRegex(column="t", regex=r"a.b"),
        gxe.ExpectColumnValuesToMatchRegex(column="t", regex=r"(?i)a"),
        ExpectColumnValuesToBeBetween(column="n", min_value=0),
    ],
)
def test_what_means_something_else_in_sql_is_left_to_the_data_frame(tmp_path: Path, expectation: Any) -> None:
    rows = stored(Lake(tmp_path / "t"), [[(1, 1.0, "a", "b", 1)]], frozenset())
    assert answers(rows, [expectation], FORMAT) == {}


LEFT = """
import great_expectations.expectations as gxe


def build(suite):
    for column, pattern, says in (
        ("sex", ".*male", "is a sex"), ("id_number", "^AB.*X$", "is an id number"), ("sex", "^fe.*", "is female")
    ):
        suite.add_expectation(gxe.ExpectColumnValuesToMatchRegex(
            column=column, regex=pattern, severity="warning", description=says))
"""


def test_what_is_left_to_the_data_frame_refuses_each_row_for_its_own_reason(checked: Checked) -> None:
    (checked.node.root / "expectations" / "customers.py").write_text(LEFT)
    report = checked.load([customer(1), customer(2), customer(3, KNR="nonsense")])
    rows = quarantined(checked.node, "customers")
    refused = dict(zip(rows.column("key").to_pylist(), rows.column("reason").to_pylist(), strict=True))
    assert refused == {"AB0002X": "sex: is female", "NONSENSE": "id_number: is an id number"}
    assert report.passed == 1
