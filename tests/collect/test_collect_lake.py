"""The lake's own commits, beside what delta-rs and pyarrow make of the same files."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from ftl.collect import Lake
from ftl.collect.ahead import ahead
from ftl.collect.derive import sandbox
from ftl.collect.parts import Part, locate
from ftl.collect.vectors import encode
from ftl.errors import LakeConflict

SCHEMA = pa.schema([("k", pa.int64()), ("x", pa.string()), ("_sync", pa.int64())])


def rows(keys: Any, x: str, sync: int) -> pa.Table:
    keys = list(keys)
    return pa.table({"k": keys, "x": [x] * len(keys), "_sync": [sync] * len(keys)}, schema=SCHEMA)


def keys(found: Any) -> pa.Table:
    return rows(found, "", 0).select(["k"])


def without(lake: Lake, key: int) -> list[Part]:
    """The table's files with the row of this key among the dead ones."""
    with sandbox(part.path for part in lake.parts()) as connection:
        gone = locate(connection, lake.parts(), keys([key]))
    return [Part(p.path, p.rows, np.union1d(p.dead, gone.get(p.path, p.dead))) for p in lake.parts()]


def content(lake: Lake) -> dict[int, str]:
    found = lake.read(["k", "x"]).to_pylist()
    assert len({row["k"] for row in found}) == len(found) == lake.count()
    return {row["k"]: row["x"] for row in found}


def others(lake: Lake) -> list[dict[int, str]]:
    """The same table as delta-rs and as DuckDB read it."""
    table = QueryBuilder().register("t", DeltaTable(str(lake.path))).execute("SELECT k, x FROM t").read_all()
    with sandbox(part.path for part in lake.parts()) as connection:
        lake.create_view(connection, "t", "_t")
        found = [pa.table(table), connection.sql("SELECT k, x FROM t").to_arrow_table()]
    return [dict(zip(one.column("k").to_pylist(), one.column("x").to_pylist(), strict=True)) for one in found]


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.sets(st.integers(0, 60), max_size=30), st.sets(st.integers(0, 60), max_size=30)),
        min_size=1,
        max_size=5,
    )
)
def test_merges_leave_what_a_dictionary_would(steps: list[tuple[set[int], set[int]]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder) / "t[1]")
        lake.replace([rows(range(40), "a", 1)], SCHEMA, lambda: {"sync": 1})
        expected = dict.fromkeys(range(40), "a")
        for number, (changed, removed) in enumerate(steps, 2):
            lake.merge(rows(changed, str(number), number), ["k"], keys(removed - changed), {"sync": number, "full": 1})
            expected = {k: v for k, v in expected.items() if k not in removed - changed}
            expected |= dict.fromkeys(changed, str(number))
        assert content(lake) == expected
        assert others(lake) == [expected, expected]
        assert lake.marks("sync", "full") == (len(steps) + 1, 1)


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, 300_000), max_size=50), st.integers(0, 200_000), st.sampled_from([0, 4096, 4097, 70_000]))
def test_a_deletion_vector_says_what_was_put_into_it(some: set[int], start: int, run: int) -> None:
    places = np.array(sorted(some | set(range(start, start + run))), np.int64)
    assert decoded(encode(places)).tolist() == places.tolist()


def decoded(data: bytes) -> Any:
    """A reader of the portable Roaring layout, written from its specification."""
    magic, bitmaps, high = (int.from_bytes(data[a:b], "little") for a, b in ((0, 4), (4, 12), (12, 16)))
    assert (magic, bitmaps, high) == (1_681_511_377, 1, 0)
    bitmap = data[16:]
    cookie, containers = (int.from_bytes(bitmap[a : a + 4], "little") for a in (0, 4))
    assert cookie == 12_346
    header = np.frombuffer(bitmap, "<u2", 2 * containers, 8).reshape(-1, 2).astype(np.int64)
    places = np.frombuffer(bitmap, "<u4", containers, 8 + 4 * containers)
    found = [np.empty(0, np.int64)]
    for (key, less), place in zip(header, places, strict=True):
        if less + 1 <= 4096:
            low = np.frombuffer(bitmap, "<u2", less + 1, place).astype(np.int64)
        else:
            low = np.flatnonzero(np.unpackbits(np.frombuffer(bitmap, np.uint8, 8192, place), bitorder="little"))
        found.append(key * 65_536 + low)
    return np.concatenate(found)


def test_a_merge_writes_only_the_new_rows(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "t")
    lake.replace([rows(range(10_000), "a", 1)], SCHEMA, dict)
    (before,) = lake.parts()
    lake.merge(rows([5, 20_000], "b", 2), ["k"], keys([6]), {})
    kept, added = sorted(lake.parts(), key=lambda part: -part.rows)
    assert (kept.path, kept.rows, kept.dead.tolist()) == (before.path, 10_000, [5, 6])
    assert added.rows == 2
    assert lake.count() == 10_000
    assert Lake(lake.path, version=1).count() == 10_000
    assert content(Lake(lake.path, version=1))[5] == "a"


def test_many_merges_keep_the_files_few_and_the_rows_right(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "t")
    lake.replace([rows(range(100), "a", 1)], SCHEMA, dict)
    for number in range(45):
        lake.merge(rows([number, 1000 + number], "b", 2), ["k"], keys([]), {"sync": number})
    expected = {k: "b" if k < 45 or k >= 1000 else "a" for k in [*range(100), *range(1000, 1045)]}
    assert content(lake) == expected
    assert len(lake.parts()) <= 33
    assert lake.marks("sync") == (44,)
    assert (lake.path / "_delta_log" / "_last_checkpoint").exists()


def test_rows_read_since_a_sync_are_those_it_wrote(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "t")
    lake.replace([rows(range(10), "a", 1)], SCHEMA, dict)
    lake.merge(rows([1, 2], "b", 2), ["k"], keys([]), {})
    lake.merge(rows([2, 3], "c", 3), ["k"], keys([]), {})
    assert sorted(lake.read(["k"], since=1).column("k").to_pylist()) == [1, 2, 3]
    assert sorted(lake.read(["k"], since=2).column("k").to_pylist()) == [2, 3]


def test_of_two_merges_from_one_version_the_second_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ftl.collect.lake

    lake = Lake(tmp_path / "t")
    lake.replace([rows(range(10), "a", 1)], SCHEMA, dict)
    write = ftl.collect.lake.write_vectors

    def interrupted(*arguments: Any) -> Any:
        monkeypatch.setattr(ftl.collect.lake, "write_vectors", write)
        lake.merge(rows([1], "first", 2), ["k"], keys([]), {})
        return write(*arguments)

    monkeypatch.setattr(ftl.collect.lake, "write_vectors", interrupted)
    with pytest.raises(LakeConflict, match=r"Another process committed to .* first"):
        lake.merge(rows([1], "second", 2), ["k"], keys([]), {})
    assert content(lake)[1] == "first"


def test_an_adopted_table_shares_the_files_and_outlives_the_other(tmp_path: Path) -> None:
    landed, validated = Lake(tmp_path / "landed"), Lake(tmp_path / "validated")
    landed.replace([rows(range(10), "a", 1)], SCHEMA, dict)
    landed.merge(rows([1], "b", 2), ["k"], keys([2]), {})
    validated.adopt(landed, without(landed, 3), {"checked": 2})
    expected = {k: "b" if k == 1 else "a" for k in range(10) if k not in (2, 3)}
    assert content(validated) == expected
    assert validated.marks("checked") == (2,)
    for file in landed.path.glob("*.parquet"):
        file.unlink()
    assert content(validated) == expected
    validated.merge(rows([3], "c", 3), ["k"], keys([0]), {"checked": 3})
    assert content(validated) == {k: v for k, v in (expected | {3: "c"}).items() if k != 0}


def test_what_a_source_raises_while_reading_ahead_is_raised_in_its_place() -> None:
    def broken() -> Any:
        yield from range(5)
        raise ValueError("the sixth")

    seen: list[int] = []
    with pytest.raises(ValueError, match="the sixth"), ahead(broken()) as items:
        seen.extend(items)
    assert seen == [0, 1, 2, 3, 4]


def test_reading_ahead_ends_when_nobody_listens() -> None:
    drawn: list[int] = []
    with ahead(drawn.append(n) or n for n in range(10**9)) as items:  # type: ignore[func-returns-value]
        assert next(items) == 0
    assert len(drawn) < 10
