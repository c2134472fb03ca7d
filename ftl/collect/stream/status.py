"""How far a stream is, for people and for monitoring: one small file per table, replaced whole."""

import os
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from ftl.collect.disk import disk_full, disk_is_full
from ftl.consortium import Node

State = Literal["loading", "streaming", "waiting", "stopped", "failed"]


class StreamStatus(msgspec.Struct, frozen=True):
    """Where the stream of a table is.

    Attributes:
        party, table: what is followed.
        state: ``loading`` reads the whole table first, ``waiting`` tries an absent source again.
        rows: changes taken from the source since the stream was started.
        landed, removed, refused: rows that they left in the lake, took out of it, or in quarantine.
        batches: commits.
        version: Delta version of the landed table; None before the first commit.
        lag_seconds: from the source's commit of the newest change to the moment it could be read in the lake.
        behind: how much more the source has, in its own unit; None where it does not say.
        at: when this was written; a stream that is alive writes at least every few seconds.
        error: why it waits or failed.
    """

    party: str
    table: str
    state: State
    rows: int
    landed: int
    removed: int
    refused: int
    batches: int
    version: int | None
    lag_seconds: float | None
    behind: int | None
    at: datetime
    error: str | None = None


def status_of(node: Node, table: str) -> StreamStatus | None:
    """The last word of a table's stream; None where there never was one."""
    path = _path(node, table)
    return msgspec.json.decode(path.read_bytes(), type=StreamStatus) if path.exists() else None


def write_status(node: Node, status: StreamStatus) -> None:
    """Replace the file; readers see the old one or the new one.

    Raises:
        LakeError: the disk is full.
    """
    path = _path(node, status.table)
    draft = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(msgspec.json.encode(status))
        os.replace(draft, path)  # noqa: PTH105 - one name for what it does
    except OSError as exc:
        if disk_is_full(exc):
            raise disk_full("write", path) from exc
        raise


def _path(node: Node, table: str) -> Path:
    return node.home / "streams" / f"{table}.json"
