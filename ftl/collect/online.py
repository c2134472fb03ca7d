"""The newest landed row of each key, found in microseconds: an embedded LMDB beside the lake.

The lake is the truth and this a copy of it, so it is written after the lake's commit and carries the number of that
commit. A copy that fell behind (the process died between the two, or a batch sync came in between) is brought up to
date from the lake itself.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ftl.collect.cast import LAKE_TYPES, cast
from ftl.collect.derive import sandbox
from ftl.collect.disk import disk_full, disk_is_full, has_no_room
from ftl.collect.identity import identities
from ftl.collect.lake import Lake
from ftl.collect.mapping import Mapping
from ftl.consortium import Node
from ftl.errors import LakeError

_MAP_BYTES = 1 << 38
"""Most that the file may grow to; address space, not memory or disk."""
_NUMBER = b"\0number"
"""Where the number of the last commit stands."""
_LONGEST_KEY = 480
"""Bytes; LMDB takes 511. A longer key is found by its hash."""
_ROWS_AT_ONCE = 65_536
_TYPES = {kind: name for name, kind in LAKE_TYPES.items()}


class OnlineStore:
    """Newest rows of one table by key; one writer, any number of readers, also of other processes.

    Args:
        path: folder of the store; None keeps none, and nothing is written.
        mapping: of the table.
    """

    def __init__(self, path: Path | None, mapping: Mapping) -> None:
        self._path, self._mapping = path, mapping
        self._env: Any = None
        self._json: Any = None
        self._closing = ExitStack()

    @classmethod
    def of(cls, node: Node, table: str, mapping: Mapping) -> "OnlineStore":
        """The store of a party's table, where `online` asks for one."""
        return cls(node.home / "online" / table if mapping.settings.online else None, mapping)

    def latest(self, keys: Sequence[tuple[Any, ...]]) -> pa.Table:
        """The newest rows with these keys, in their order; unknown keys are left out.

        Args:
            keys: values of the key columns, in the order of `key`, after mapping.

        Raises:
            LakeError: the table keeps no online store, or nothing has been written to it.
        """
        if self._path is not None and not self._path.exists():
            raise LakeError(f"{self._mapping.label}: the online store is empty.", cure="Collect the table first.")
        schema, names = self._mapping.schema, self._mapping.key
        asked = [pa.array([key[place] for key in keys], schema.field(name).type) for place, name in enumerate(names)]
        with self._opened().begin() as reading:
            found = [reading.get(key) for key in _keys(pa.table(asked, names=list(names)), names)]
        rows = [msgspec.json.decode(value) for value in found if value is not None]
        arrays = [_column([row[name] for row in rows], schema.field(name).type) for name in schema.names]
        return pa.Table.from_arrays(arrays, schema=schema)

    @property
    def number(self) -> int:
        """Of the last sync or batch that is in the store; 0 when there is none."""
        if self._path is None:
            return 0
        with self._opened().begin() as reading:
            return int(reading.get(_NUMBER, b"0"))

    def apply(self, number: int, rows: pa.Table, removed: pa.Table) -> None:
        """Take over what a commit changed.

        Args:
            number: of the commit.
            rows: new states, lake columns.
            removed: key columns of rows that are gone.
        """
        if self._path is None:
            return
        with self._changing() as writing:
            for key in _keys(removed, self._mapping.key):
                writing.delete(key)
            self._put(writing, rows)
            writing.put(_NUMBER, str(number).encode())

    def refresh(self, lake: Lake) -> None:
        """Bring the store up to the lake's newest version; cheap when it is.

        Args:
            lake: the landed table.
        """
        if self._path is None or lake.version is None:
            return
        sync, full = (mark or 0 for mark in lake.marks("sync", "full"))
        number = self.number
        if number == sync:
            return
        since = None if number < full else number
        self._rewrite(lake, lake.read(self._mapping.schema.names, since=since), sync, everything=since is None)

    def close(self) -> None:
        """Let go of the file."""
        self._closing.close()
        self._json = None
        if self._env is not None:
            self._env.close()
            self._env = None

    def _rewrite(self, lake: Lake, rows: pa.Table, number: int, *, everything: bool) -> None:
        with self._changing() as writing:
            if everything:
                writing.drop(self._opened().open_db(txn=writing), delete=False)
            self._put(writing, rows)
            if writing.stat()["entries"] - (writing.get(_NUMBER) is not None) != lake.count():
                known = set(_keys(lake.read(list(self._mapping.key)), self._mapping.key)) | {_NUMBER}
                for key in [key for key in writing.cursor().iternext(values=False) if key not in known]:
                    writing.delete(key)
            writing.put(_NUMBER, str(number).encode())

    @contextmanager
    def _changing(self) -> Iterator[Any]:
        """A transaction that is kept as a whole or not at all.

        Raises:
            LakeError: the disk is full.
        """
        import lmdb

        try:
            with self._opened().begin(write=True) as writing:
                yield writing
        except lmdb.Error as exc:
            if self._path is not None and (disk_is_full(exc) or has_no_room(self._path)):
                raise disk_full("write the online store", self._path) from exc
            raise

    def _put(self, writing: Any, rows: pa.Table) -> None:
        for first in range(0, rows.num_rows, _ROWS_AT_ONCE):
            part = rows.slice(first, _ROWS_AT_ONCE)
            with writing.cursor() as cursor:
                cursor.putmulti(zip(_keys(part, self._mapping.key), self._values(part), strict=True))

    def _values(self, rows: pa.Table) -> list[bytes]:
        """JSON objects; times as text in UTC."""
        if self._json is None:
            self._json = self._closing.enter_context(sandbox())
        plain = pa.timestamp("us")
        columns = [c.cast(plain) if pa.types.is_timestamp(c.type) else c for c in rows.columns]
        self._json.register("rows", pa.table(columns, names=rows.column_names))
        texts = self._json.sql("SELECT to_json(rows) FROM rows").to_arrow_table().column(0)
        self._json.unregister("rows")
        values: list[bytes] = texts.cast(pa.binary()).to_pylist()
        return values

    def _opened(self) -> Any:
        import lmdb

        if self._path is None:
            raise LakeError(f"{self._mapping.label} has no online store.", cure="Set `online: true`.")
        if self._env is None:
            self._path.mkdir(parents=True, exist_ok=True)
            # After a crash of the machine the copy may be older than the lake; `refresh` sees that.
            try:
                self._env = lmdb.open(str(self._path), map_size=_MAP_BYTES, metasync=False, max_readers=512)
            except lmdb.Error as exc:
                raise LakeError(
                    f"The online store {self._path} cannot be opened: {exc}.",
                    cure="A process may open it once: share one OnlineStore. Else remove the folder; the next sync "
                    "writes it anew.",
                ) from exc
            self._require_whole(self._path / "data.mdb")
        return self._env

    def _require_whole(self, file: Path) -> None:
        """Reading beyond the end of a file that was cut off would end the process."""
        pages = self._env.info()["last_pgno"] + 1
        if file.stat().st_size < pages * self._env.stat()["psize"]:
            self.close()
            cure = "Remove its folder; the next sync writes it anew."
            raise LakeError(f"The online store {self._path} is damaged: data.mdb was cut off.", cure=cure)


def _keys(rows: pa.Table, key: Sequence[str]) -> list[bytes]:
    texts = identities(rows.select(list(key)), key).cast(pa.binary())
    keys: list[bytes] = pc.binary_join_element_wise(b"\1", texts, b"").to_pylist()
    if (pc.max(pc.binary_length(texts)).as_py() or 0) <= _LONGEST_KEY:
        return keys
    return [key if len(key) <= _LONGEST_KEY else b"\2" + hashlib.sha256(key).digest() for key in keys]


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_temporal(kind):
        return cast(pa.array(values, pa.string()), _TYPES[kind]).values
    return pa.array(values, kind)
