"""One commit to a Delta table's log, for what delta-rs cannot write itself: deletion vectors.

A commit is a file of the log that must not exist yet (Delta protocol, "Delta Log Entries"), so of two writers of one
version exactly one succeeds.
"""

import json
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from ftl.collect.parts import Part
from ftl.collect.vectors import Descriptor
from ftl.errors import LakeConflict, LakeError

_FEATURE = "deletionVectors"
_IMPLIED = ("appendOnly", "invariants")
"""Features of writer version 2, named once the version names features."""
_COMMITS_PER_CHECKPOINT = 20

Action = dict[str, Any]


def commit(folder: Path, table: Any, operation: str, actions: Iterable[Action], marks: Mapping[str, int]) -> int:
    """Write the version after the one that `table` shows.

    Args:
        folder: of the table.
        table: a `deltalake.DeltaTable` at its newest version.
        operation: for the history.
        actions: `add` and `remove` entries, and `metaData` where the schema changes.
        marks: name to number, kept as app transactions.

    Returns:
        the new version.

    Raises:
        LakeConflict: somebody else committed meanwhile.
    """
    version: int = table.version() + 1
    log, given = folder / "_delta_log", [*actions]
    draft = log / f"_commit_{uuid.uuid4()}.json.tmp"
    try:
        with draft.open("w", encoding="utf-8") as file:
            now = int(os.fstat(file.fileno()).st_mtime * 1000)  # the file system's clock, as delta-rs has it
            transactions = [{"txn": {"appId": f"ftl.{name}", "version": value}} for name, value in marks.items()]
            info = {"commitInfo": {"timestamp": now, "operation": operation, "engineInfo": "ftl"}}
            upgrade = _upgrade(table, given)
            dated = [_dated(action, now) for action in given]
            file.writelines(json.dumps(line) + "\n" for line in [info, *upgrade, *transactions, *dated])
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, log / f"{version:020d}.json")
    except FileExistsError as exc:
        raise LakeConflict(
            f"Another process committed to {folder} first.", cure="Try again: nothing of this attempt was kept."
        ) from exc
    finally:
        draft.unlink(missing_ok=True)
    if version % _COMMITS_PER_CHECKPOINT == 0:
        table.update_incremental()
        table.create_checkpoint()
    return version


def add(part: Part, vectors: Mapping[str, Descriptor], *, changes: bool = True) -> Action:
    """The entry of a data file and its deletion vector, if it has one among `vectors`.

    Args:
        part: the file.
        vectors: data file to descriptor.
        changes: whether the commit changes any row; a compaction does not.
    """
    stat, name = part.path.stat(), part.path.name
    entry = {
        "path": name,
        "partitionValues": {},
        "size": stat.st_size,
        "modificationTime": stat.st_mtime_ns // 1_000_000,
        "dataChange": changes,
        "stats": json.dumps({"numRecords": part.rows}),
    }
    return {"add": entry | ({"deletionVector": vectors[name]} if name in vectors else {})}


def remove(path: Path, vectors: Mapping[str, Descriptor], *, changes: bool = True) -> Action:
    """The entry that takes a data file with this deletion vector, if it has one, out of the table; see :func:`add`."""
    size = path.stat().st_size
    entry = {"path": path.name, "dataChange": changes, "extendedFileMetadata": True}
    entry |= {"partitionValues": {}, "size": size}
    return {"remove": entry | ({"deletionVector": vectors[path.name]} if path.name in vectors else {})}


def metadata(table: Any, schema: str, configuration: Mapping[str, str]) -> Action:
    """The action that gives the table another schema or configuration.

    Args:
        table: a `deltalake.DeltaTable`.
        schema: Delta's JSON of it.
        configuration: table properties to add.
    """
    known = table.metadata()
    return {
        "metaData": {
            "id": known.id,
            "name": known.name,
            "description": known.description,
            "format": {"provider": "parquet", "options": {}},
            "schemaString": schema,
            "partitionColumns": list(known.partition_columns),
            "createdTime": known.created_time,
            "configuration": known.configuration | dict(configuration),
        }
    }


def descriptors(folder: Path, version: int) -> dict[str, Descriptor]:
    """Data file to the descriptor of its deletion vector, as the log has it; files without one are not named.

    Args:
        folder: of the table.
        version: the newest one.

    Raises:
        LakeError: the log has a checkpoint of another kind than ours.
    """
    log, first = folder / "_delta_log", 0
    found: dict[str, Descriptor | None] = {}
    pointer = log / "_last_checkpoint"
    if pointer.exists():
        last = int(json.loads(pointer.read_text(encoding="utf-8"))["version"])
        found |= checkpointed(log, last)
        first = last + 1
    for number in range(first, version + 1):
        for action in actions_of(log, number):
            if "add" in action:
                found[action["add"]["path"]] = action["add"].get("deletionVector")
    return {path: descriptor for path, descriptor in found.items() if descriptor is not None}


def actions_of(log: Path, version: int) -> list[Action]:
    """What one commit did, in its order."""
    return [json.loads(line) for line in (log / f"{version:020d}.json").read_text(encoding="utf-8").splitlines()]


def checkpointed(log: Path, version: int) -> dict[str, Descriptor | None]:
    """Data file to the descriptor of its deletion vector, None where it has none, of the table as a checkpoint has it.

    Raises:
        LakeError: there is no such checkpoint.
    """
    path = log / f"{version:020d}.checkpoint.parquet"
    if not path.exists():
        raise LakeError(f"The checkpoint {path} is missing.", cure="Restore it, or remove `_last_checkpoint`.")
    adds = pq.read_table(path, columns=["add"]).column("add").combine_chunks()
    adds = adds.filter(pc.is_valid(adds))
    return {add["path"]: _descriptor(add.get("deletionVector")) for add in adds.to_pylist()}


def _descriptor(found: Mapping[str, Any] | None) -> Descriptor | None:
    return None if found is None or found["storageType"] is None else dict(found)


def _upgrade(table: Any, actions: Sequence[Action]) -> list[Action]:
    """What tells readers that there are deletion vectors; nothing where there are none, or where they know."""
    protocol = table.protocol()
    readers, writers = protocol.reader_features or [], protocol.writer_features or list(_IMPLIED)
    if _FEATURE in readers or not any("deletionVector" in action.get("add", {}) for action in actions):
        return []
    declared = {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": [*readers, _FEATURE],
        "writerFeatures": [*writers, _FEATURE],
    }
    described = [action for action in actions if "metaData" in action] or [
        metadata(table, table.schema().to_json(), {})
    ]
    described[0]["metaData"]["configuration"]["delta.enableDeletionVectors"] = "true"
    return [{"protocol": declared}, *([] if any("metaData" in action for action in actions) else described)]


def _dated(action: Action, now: int) -> Action:
    if "remove" in action:
        return {"remove": action["remove"] | {"deletionTimestamp": now}}
    return action
