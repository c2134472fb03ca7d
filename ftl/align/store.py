"""What a party keeps of a run to resume it: arrays and small records, in its memory or in files.

The folder holds the run's secrets and a secret order of the party's rows, but no identifier. It is readable by its
owner alone and emptied when the run has succeeded.
"""

import shutil
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Store:
    """A place for the state of a run.

    Args:
        folder: where; None to keep it in memory, which ends with this object.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._arrays: dict[str, NDArray[Any]] = {}
        self._records: dict[str, bytes] = {}
        self._parts: dict[str, Store] = {}

    def part(self, name: str) -> "Store":
        """A store of its own for a part of the run."""
        if name not in self._parts:
            self._parts[name] = Store(None if self._folder is None else self._folder / name)
        return self._parts[name]

    def array(self, name: str, shape: tuple[int, ...], dtype: type[Any]) -> NDArray[Any]:
        """The array of that name as it was left, or zeros; what is written to it is kept with the next record."""
        if name not in self._arrays:
            self._arrays[name] = self._opened(name, shape, dtype)
        return self._arrays[name]

    def keep(self, name: str, record: msgspec.Struct) -> None:
        """Keep a record, and before it what was written to the arrays."""
        self._records[name] = msgspec.msgpack.encode(record)
        if self._folder is None:
            return
        for array in self._arrays.values():
            if isinstance(array, np.memmap):
                array.flush()
        fresh = _made(self._folder) / f"{name}.new"
        fresh.touch(mode=0o600)
        fresh.write_bytes(self._records[name])
        fresh.replace(self._folder / f"{name}.record")

    def kept(self, name: str, kind: type[T]) -> T | None:
        """The record of that name; None when there is none, or none that can be read."""
        path = None if self._folder is None else self._folder / f"{name}.record"
        if name not in self._records and path is not None and path.is_file():
            self._records[name] = path.read_bytes()
        try:
            return msgspec.msgpack.decode(self._records[name], type=kind) if name in self._records else None
        except msgspec.MsgspecError:
            return None

    def clear(self) -> None:
        """Forget everything."""
        for kept in (self._arrays, self._records, self._parts):
            kept.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _opened(self, name: str, shape: tuple[int, ...], dtype: type[Any]) -> NDArray[Any]:
        if self._folder is None or 0 in shape:
            return np.zeros(shape, dtype=dtype)
        path = _made(self._folder) / f"{name}.array"
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if not path.exists() or path.stat().st_size != size:
            path.unlink(missing_ok=True)
            path.touch(mode=0o600)
            return np.memmap(path, dtype=dtype, mode="w+", shape=shape)
        return np.memmap(path, dtype=dtype, mode="r+", shape=shape)


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
