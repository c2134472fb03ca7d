"""What was done when: one JSON line per finished step, at the coordinator.

Holds counts, versions and seconds only. Reports are put together from it, so that a run conducted by Airflow and one by
`ftl run` are told alike.
"""

import os
from collections.abc import Callable
from datetime import datetime

import msgspec

from ftl.consortium import Folder

Clock = Callable[[], datetime]


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One finished step.

    Attributes:
        step: ``collect``, ``stream``, ``quality``, ``train`` or ``promote``.
        at: when it ended, UTC.
        seconds: how long it took.
        party, table: whose, where it belongs to one.
        counts: rows read, landed, quarantined …
        run_id: of a training run.
        detail: a word more: the sync mode, the model version.
    """

    step: str
    at: datetime
    seconds: float
    party: str = ""
    table: str = ""
    counts: dict[str, int] = {}
    run_id: str = ""
    detail: str = ""


def append(folder: Folder, entry: Entry) -> None:
    """Add one line; several processes may do so at once (a line is one write to a file opened for appending)."""
    path = folder.coordinator / "journal.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    line = msgspec.json.encode(entry) + b"\n"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)


def entries(folder: Folder) -> list[Entry]:
    """All lines, oldest first."""
    path = folder.coordinator / "journal.jsonl"
    if not path.exists():
        return []
    decode = msgspec.json.Decoder(Entry).decode
    return [decode(line) for line in path.read_bytes().splitlines()]


def since_last_training(folder: Folder, run_id: str) -> list[Entry]:
    """The steps that led to `run_id`: what was journalled after the training before it, up to its own entry."""
    led: list[Entry] = []
    for entry in entries(folder):
        led.append(entry)
        if entry.step == "train":
            if entry.run_id == run_id:
                return led
            led = []
    return led
