import functools
import http.server
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collect_bank import make_node
from xlsx_file import write_xlsx

from ftl.collect import Lake, collect, open_source
from ftl.consortium import Consortium, Node
from ftl.errors import SourceError, SourceUnavailable

COLUMNS = {"id_number": {"from": "ID", "type": "string"}, "x": {"from": "X", "type": "float64"}}


def node_of(root: Path, url: str, table: str = "*.csv", **source: Any) -> Node:
    settings = {"kind": "csv", "path": url} | source
    return make_node(root, settings, table=table, columns=COLUMNS, derived={}, cursor=None)


def rows_of(node: Node) -> dict[str, float]:
    rows = Lake(node.landed("customers")).read(["id_number", "x"]).to_pylist()
    return {row["id_number"]: row["x"] for row in rows}


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder behind a web server of our own."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_files_behind_a_web_server_land_and_then_only_new_ones(tmp_path: Path, clock: Any) -> None:
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "1.csv").write_text("ID,X\na,1\n")
    (folder / "2.csv").write_text("ID,X\nb,2\n")
    with served(folder) as url:
        node = node_of(tmp_path, url)
        assert open_source(node, "core").tables() == ("1.csv", "2.csv")
        assert collect(node, "customers", "full", clock).rows_landed == 2
        assert collect(node, "customers", "full", clock).skipped
        (folder / "3.csv").write_text("ID,X\nc,3\na,9\n")
        report = collect(node, "customers", "incremental", clock)
    assert (report.mode, report.rows_read, report.rows_landed) == ("incremental", 2, 2)
    assert rows_of(node) == {"a": 9.0, "b": 2.0, "c": 3.0}
    assert list((node.home / "staging").iterdir()) == []


@pytest.mark.parametrize("kind", ["csv", "parquet", "json_lines", "excel"])
def test_every_format_is_read_out_of_an_archive(tmp_path: Path, clock: Any, kind: str) -> None:
    name = f"in/people.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"ID": ["a", "b"], "X": [1.0, 2.0]}), tmp_path / "file")
    elif kind == "excel":
        write_xlsx(tmp_path / "file", S=[["ID", "X"], ["a", 1], ["b", 2]])
    else:
        csv = kind == "csv"
        (tmp_path / "file").write_text("ID,X\na,1\nb,2\n" if csv else '{"ID":"a","X":1}\n{"ID":"b","X":2}\n')
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "file", name)
    node = node_of(tmp_path, f"zip://in::file://{tmp_path}/all.zip", f"people.{kind}", kind=kind)
    collect(node, "customers", "full", clock)
    assert rows_of(node) == {"a": 1.0, "b": 2.0}


def test_a_store_with_options_and_a_changed_file_is_read_anew(tmp_path: Path, clock: Any) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.csv").write_text("ID,X\na,1\n")
    node = node_of(tmp_path, f"file://{tmp_path}/d", options={"auto_mkdir": False})
    collect(node, "customers", "full", clock)
    (tmp_path / "d" / "a.csv").write_text("ID,X\na,22\n")
    assert not collect(node, "customers", "full", clock).skipped
    assert rows_of(node) == {"a": 22.0}


def test_a_store_that_tells_nothing_of_a_files_state_is_asked_for_its_content(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/ftl-states/a.csv", b"ID,X\na,1\n")
    reader = open_source(node_of(tmp_path, "memory://ftl-states"), "core")
    first = reader.files("a.csv")  # type: ignore[attr-defined]
    assert reader.files("a.csv") == first  # type: ignore[attr-defined]
    memory.pipe("/ftl-states/a.csv", b"ID,X\na,2\n")
    assert reader.files("a.csv") != first  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        ("nowhere://x", SourceError, r"core\.path: nowhere://x cannot be read: Protocol not known"),
        ("http://127.0.0.1:9/", SourceUnavailable, r"core\.path: nothing is found at http://127\.0\.0\.1:9/"),
        ("file:///no/such/folder", SourceUnavailable, "nothing is found at file:///no/such/folder"),
    ],
)
def test_a_store_that_cannot_be_read_is_named(tmp_path: Path, url: str, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        open_source(node_of(tmp_path, url), "core").ping()


def test_a_missing_pattern_names_the_nearest_file_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("ID,X\n")
    reader = open_source(node_of(tmp_path, f"file://{tmp_path}"), "core")
    with pytest.raises(SourceError, match=r"matches 'peple\.csv'\. Did you mean 'people\.csv'\?"):
        reader.columns("peple.csv")


def test_a_secret_is_read_where_the_settings_say_and_shown_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_KEY", "hunter2-key")
    (tmp_path / "secret").write_text("hunter2-file\n")
    secrets = {"nokey": {"env": "STORE_KEY"}, "nofile": {"file": "secret"}}
    node = node_of(tmp_path, f"zip://::file://{tmp_path}/absent.zip", secrets=secrets)
    with pytest.raises(SourceError, match="absent") as caught:
        open_source(node, "core").ping()
    assert "hunter2" not in str(caught.value)
    monkeypatch.delenv("STORE_KEY")
    with pytest.raises(SourceError, match=r"core\.secrets\.nokey\.env: the environment variable STORE_KEY is not set"):
        open_source(node, "core")


def test_copies_of_a_process_that_was_killed_are_removed(tmp_path: Path, clock: Any) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.csv").write_text("ID,X\na,1\n")
    node = node_of(tmp_path, f"file://{tmp_path}/d")
    left = node.home / "staging" / "999999999-left"
    left.mkdir(parents=True)
    (left / "a.csv").write_text("personal")
    collect(node, "customers", "full", clock)
    assert not left.exists()


def test_a_secret_must_come_from_one_place_and_an_option_be_set_once(tmp_path: Path) -> None:
    from ftl import consortium

    node = node_of(tmp_path, "file:///x", options={"key": "a"}, secrets={"key": {"env": "A", "file": "b"}})
    values = node.consortium.model_dump(mode="json", by_alias=True, exclude_none=True)
    from ruamel.yaml import YAML

    Consortium.model_validate(values)
    YAML().dump(values, tmp_path / "consortium.yaml")
    found = [problem.path for problem in consortium.problems(tmp_path)]
    assert found.count("parties.bank.sources.core.secrets.key") == 2
