import gzip
import json
import resource
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from collect_bank import make_node

from ftl.collect import Lake, collect, open_source
from ftl.consortium import Node
from ftl.errors import SourceError

COLUMNS = {"id_number": {"from": "ID", "type": "string"}, "x": {"from": "X", "type": "float64"}}


def node_of(root: Path, table: str, columns: dict[str, Any] = COLUMNS, **source: Any) -> Node:
    settings = {"kind": "csv", "path": "."} | source
    return make_node(root, settings, table=table, columns=columns, derived={}, cursor=None)


def landed(node: Node, clock: Any) -> list[tuple[Any, ...]]:
    collect(node, "customers", "full", clock)
    rows = Lake(node.landed("customers")).read(list(node.party.tables["customers"].columns)).to_pylist()
    return [tuple(row.values()) for row in rows]


def compressed(path: Path, content: bytes) -> None:
    """Write as the ending of the name says."""
    if path.suffix == ".zst":
        with pa.CompressedOutputStream(path, "zstd") as stream:
            stream.write(content)
    else:
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_a_csv_of_a_declared_dialect_lands_the_same_compressed_or_not(tmp_path: Path, clock: Any, ending: str) -> None:
    compressed(tmp_path / f"a.csv{ending}", "ID|X\n'甲|1'|1.5\n'it''s'|\n".encode("gb18030"))
    node = node_of(tmp_path, f"a.csv{ending}", delimiter="|", quote="'", encoding="gb18030")
    assert landed(node, clock) == [("甲|1", 1.5), ("it's", None)]


def test_declared_column_names_make_the_first_line_a_row(tmp_path: Path, clock: Any) -> None:
    (tmp_path / "1.csv").write_text("a,1\nb,2\n")
    (tmp_path / "2.csv").write_text("")
    (tmp_path / "3.csv").write_text("c,3\n")
    assert landed(node_of(tmp_path, "*.csv", column_names=["ID", "X"]), clock) == [("a", 1), ("b", 2), ("c", 3)]


def test_a_quote_in_a_file_without_quoting_is_a_letter(tmp_path: Path, clock: Any) -> None:
    (tmp_path / "a.csv").write_text('ID,X\n5" pipe,1\n"b,2\n')
    assert landed(node_of(tmp_path, "a.csv", quote=""), clock) == [('5" pipe', 1), ('"b', 2)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'ID,X\n"two\nlines",1\nsecret,1,2\n', r"a\.csv, line 4: expected 2 fields, found 3"),
        (b"ID,X\na,1\nsecret\n", r"a\.csv, line 3: expected 2 fields, found 1"),
        (b"ID,X\nsecret,1\nb,\xff\n", r"a\.csv, line 3, column 'X': expected utf-8 text"),
    ],
)
def test_a_damaged_csv_is_told_by_file_line_and_expectation(
    tmp_path: Path, clock: Any, content: bytes, message: str
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    node = node_of(tmp_path, "a.csv")
    with pytest.raises(SourceError, match=message) as caught:
        collect(node, "customers", "full", clock)
    assert "secret" not in str(caught.value)
    assert Lake(node.landed("customers")).count() == 0


@pytest.mark.parametrize(("kind", "name"), [("csv", "a.csv.gz"), ("json_lines", "a.jsonl.gz")])
def test_a_compressed_file_that_is_cut_off_lands_nothing(tmp_path: Path, clock: Any, kind: str, name: str) -> None:
    rows = "".join(json.dumps({"ID": f"{n * 7919 % 10007:x}", "X": n}) + "\n" for n in range(20_000))
    text = rows if kind == "json_lines" else "ID,X\n" + "".join(f"{n * 7919 % 10007:x},{n}\n" for n in range(20_000))
    whole = gzip.compress(text.encode())
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    node = node_of(tmp_path, name, kind=kind)
    with pytest.raises(SourceError, match=rf"{name}"):
        collect(node, "customers", "full", clock)
    assert Lake(node.landed("customers")).count() == 0


def test_an_unknown_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("ID,X\n")
    with pytest.raises(SourceError, match=r"core\.encoding: there is no encoding 'gb18031'"):
        open_source(node_of(tmp_path, "a.csv", encoding="gb18031"), "core").columns("a.csv")


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_json_values_keep_their_text_whatever_their_type_in_a_line(tmp_path: Path, clock: Any, ending: str) -> None:
    lines = [
        {"ID": "007", "X": 1.5, "N": {"p": [1]}},
        {"ID": 12345678901234567890, "X": "2"},
        {"ID": "c", "X": None, "N": True},
    ]
    compressed(tmp_path / f"a[1].jsonl{ending}", "\n".join(map(json.dumps, lines)).encode())
    columns = COLUMNS | {"n": {"from": "N", "type": "string"}}
    node = node_of(tmp_path, f"a[1].jsonl{ending}", columns, kind="json_lines")
    assert landed(node, clock) == [
        ("007", 1.5, '{"p":[1]}'),
        ("12345678901234567890", 2.0, None),
        ("c", None, "true"),
    ]


def test_a_json_key_that_only_the_last_of_many_lines_has_is_found(tmp_path: Path, clock: Any) -> None:
    lines = [json.dumps({"ID": str(number)}) for number in range(30_000)] + ['{"ID": "last", "X": 7}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    node = node_of(tmp_path, "a.jsonl", kind="json_lines")
    rows = landed(node, clock)
    assert (len(rows), rows[0], rows[-1]) == (30_001, ("0", None), ("last", 7.0))
    missing = node_of(tmp_path, "a.jsonl", {"id_number": {"from": "IDD", "type": "string"}}, kind="json_lines")
    with pytest.raises(SourceError, match=r"has no column 'IDD'. Did you mean 'ID'\?"):
        collect(missing, "customers", "full", clock)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (b'{"ID": secret}', r"line 2, column 8: expected JSON \(Expecting value\)"),
        (b'["secret", 2]', r"line 2: expected an object"),
        (b'{"ID": "\xff"}', r"line 2, byte 9: expected UTF-8 text"),
        (b'{"ID": "secret", "ID": 2}', r"line 2: the key 'ID' is there twice"),
    ],
)
def test_a_damaged_json_line_is_told_by_file_line_and_expectation(
    tmp_path: Path, clock: Any, second: bytes, message: str
) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"ID": "a", "X": 1}\n' + second + b'\n{"ID": "b", "X": 2}\n')
    node = node_of(tmp_path, "a.jsonl", kind="json_lines")
    with pytest.raises(SourceError, match=rf"core: a\.jsonl, {message}") as caught:
        collect(node, "customers", "full", clock)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("kind", "name"), [("csv", "a.csv.gz"), ("json_lines", "a.jsonl.gz")])
def test_a_compressed_file_is_streamed(tmp_path: Path, kind: str, name: str) -> None:
    wide = "x" * 200
    row = f'{{"ID": "{wide}", "X": 1}}\n' if kind == "json_lines" else f"{wide},1\n"
    with gzip.open(tmp_path / name, "wb", compresslevel=1) as file:
        file.write(b"" if kind == "json_lines" else b"ID,X\n")
        for _ in range(100):
            file.write(row.encode() * 10_000)
    source = open_source(node_of(tmp_path, name, kind=kind), "core")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with source.snapshot(name, ["ID"]) as snapshot:
        rows = sum(batch.num_rows for batch in snapshot.batches)
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert rows == 1_000_000  # 200 MB of text
    assert grown_mb < 190
