import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from collect_bank import make_node

from ftl.collect import Lake, collect, open_source, suggest, survey
from ftl.consortium import Node
from ftl.errors import SourceError, SourceUnavailable

CODE = """
import dlt
import pyarrow as pa

ROWS = [{"id": n, "name": f"p{n}", "at": f"2024-05-01 10:00:{n:02d}", "more": {"x": [n]}} for n in range(5)]
ASKED = []


@dlt.source
def crm(token, pages=2, since=None):
    @dlt.resource(primary_key="id", columns={"id": {"data_type": "bigint"}, "late": {"data_type": "text"}})
    def people():
        assert token == "hunter2"
        ASKED.append(since)
        for page in range(pages):
            after = "" if since is None else since[:19].replace("T", " ")
            rows = [row for row in ROWS if row["id"] % pages == page and row["at"] >= after]
            yield [{**row, "asked": since} for row in rows]

    @dlt.resource
    def arrow():
        yield pa.table({"id": [1, 2], "name": ["a", "b"]})
        yield pa.RecordBatch.from_pylist([{"id": 3}])

    @dlt.resource
    def wrong():
        yield 7

    @dlt.resource
    def failing():
        yield {"id": 1}
        raise ValueError("row of 110105194912310021")

    @dlt.resource
    def away():
        raise ConnectionResetError("https://api/?token=hunter2")
        yield

    return people, arrow, wrong, failing, away


@dlt.resource
def alone():
    yield {"id": 1}


def number():
    return 7
"""
COLUMNS = {
    "id_number": {"from": "id", "type": "string"},
    "name": {"from": "name", "type": "string"},
    "at": {"from": "at", "type": "timestamp"},
    "more": {"from": "more", "type": "string"},
    "asked": {"from": "asked", "type": "string"},
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "crm.py").write_text(CODE)
    monkeypatch.setenv("CRM_TOKEN", "hunter2")
    return tmp_path


def node_of(root: Path, table: str = "people", columns: dict[str, Any] = COLUMNS, **changes: Any) -> Node:
    source = {
        "kind": "dlt",
        "module": "sources/crm.py",
        "function": "crm",
        "arguments": {"pages": 3},
        "secrets": {"token": {"env": "CRM_TOKEN"}},
    }
    settings = {"cursor": None, "derived": {}} | {key: changes.pop(key) for key in ("cursor",) if key in changes}
    return make_node(root, source | changes, table=table, columns=columns, **settings)


def landed(node: Node) -> list[dict[str, Any]]:
    rows = Lake(node.landed("customers")).read(list(node.party.tables["customers"].columns))
    return rows.sort_by("id_number").to_pylist()


def test_the_items_of_a_resource_land_with_nested_values_as_json(root: Path, clock: Any) -> None:
    node = node_of(root)
    assert collect(node, "customers", "full", clock).rows_landed == 5
    rows = landed(node)
    assert [(row["id_number"], row["name"], row["more"]) for row in rows] == [
        (str(n), f"p{n}", f'{{"x": [{n}]}}') for n in range(5)
    ]


def test_an_incremental_sync_passes_its_watermark_to_the_function(root: Path, clock: Any) -> None:
    node = node_of(root, since="since", cursor="at")
    collect(node, "customers", "full", clock)
    code = root / "sources" / "crm.py"
    code.write_text(code.read_text().replace("range(5)", "range(7)"))
    report = collect(node, "customers", "incremental", clock)
    assert (report.rows_read, report.rows_landed) == (3, 3)
    assert [row["asked"] for row in landed(node)[3:]] == [None, *["2024-05-01T10:00:04+00:00"] * 3]


def test_arrow_tables_and_batches_are_items_as_well(root: Path, clock: Any) -> None:
    node = node_of(root, "arrow", {k: COLUMNS[k] for k in ("id_number", "name")})
    collect(node, "customers", "full", clock)
    assert [tuple(row.values()) for row in landed(node)] == [("1", "a"), ("2", "b"), ("3", None)]


def test_columns_and_key_come_from_what_the_resource_declares_and_gives(root: Path) -> None:
    source = open_source(node_of(root), "core")
    assert source.tables() == ("people", "arrow", "wrong", "failing", "away")
    assert source.columns("people") == {
        "id": "int64",
        "late": "text",
        "name": "string",
        "at": "string",
        "more": "string",
        "asked": "null",
    }
    assert "key: [id]  # the source's primary key" in suggest(node_of(root), "core", "people")


def test_a_mapped_column_that_no_item_has_is_named_with_the_nearest(root: Path, clock: Any) -> None:
    node = node_of(root, columns=COLUMNS | {"name": {"from": "nane", "type": "string"}})
    with pytest.raises(SourceError, match=r"table 'people' has no column 'nane'\. Did you mean 'name'\?"):
        collect(node, "customers", "full", clock)


@pytest.mark.parametrize(
    ("table", "kind", "message"),
    [
        ("wrong", SourceError, r"core: resource 'wrong' yields items that are no rows"),
        ("failing", SourceError, r"core: failing fails with ValueError\. Run crm of sources/crm\.py by itself"),
        ("away", SourceUnavailable, r"core: away fails with ConnectionResetError"),
        ("peple", SourceError, r"core: there is no resource 'peple'\. Did you mean 'people'\?"),
    ],
)
def test_a_resource_that_cannot_be_read_is_named_without_what_its_error_says(
    root: Path, clock: Any, table: str, kind: type[SourceError], message: str
) -> None:
    node = node_of(root, table, {"id_number": COLUMNS["id_number"]})
    with pytest.raises(kind, match=message) as caught:
        collect(node, "customers", "full", clock)
    assert type(caught.value) is kind
    assert not any(word in str(caught.value) for word in ("hunter2", "110105194912310021"))
    assert Lake(node.landed("customers")).count() == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"module": "sources/crn.py"}, r"core\.module: there is no file .*crn\.py\. Did you mean 'crm\.py'\?"),
        ({"function": "cmr"}, r"core\.function: .* has no function 'cmr'\. Did you mean 'crm'\?"),
        ({"function": "number", "arguments": {}, "secrets": {}}, r"core\.function: number\(\) returns a int\."),
        ({"arguments": {"pagse": 1}}, r"core: crm\(\) fails with TypeError"),
    ],
)
def test_what_is_wrong_with_the_function_is_said_by_check(root: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(node_of(root, **changes), "core").ping()
    assert any(fault.path == "parties.bank.sources.core" for fault in survey(node_of(root, **changes)))


def test_a_function_may_be_a_resource_itself(root: Path) -> None:
    node = node_of(root, "alone", function="alone", arguments={}, secrets={})
    assert open_source(node, "core").tables() == ("alone",)
    assert open_source(node, "core").columns("alone") == {"id": "int64"}


def test_without_the_library_the_error_names_the_extra(root: Path) -> None:
    program = f"""
        import sys
        sys.modules["dlt"] = None
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        from pathlib import Path
        from test_collect_dlt import node_of
        from ftl.collect import open_source
        try:
            open_source(node_of(Path({str(root)!r})), "core").ping()
        except Exception as error:
            print(type(error).__name__, error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True, timeout=120
    )
    assert "SourceError" in done.stdout
    assert "pip install 'ftl[dlt]'" in done.stdout
