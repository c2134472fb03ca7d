"""What a full sync that was cut off has finished: files of the lake that no version names yet, for the next attempt.

A note beside them says of which pieces of the source they hold the rows. It counts for as long as the table stands at
the version that the attempt was to replace and its mapping is the same; which pieces the source still holds unchanged
is for the source to say.
"""

import logging
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ftl.collect.commit import actions_of
from ftl.collect.parts import Part
from ftl.collect.pieces import WHOLE, Earlier, Totals
from ftl.collect.watermark import NOTHING

NOTE = "_unfinished.json"
"""In the folder of the landed table; Delta's own tools leave names that begin with an underscore alone."""

_log = logging.getLogger(__name__)


@dataclass
class Seen:
    """What went by so far.

    Attributes:
        scanned: rows that the source gave.
        bytes: of Arrow data in them.
        read: those of them that the sync asked for (a source may give more).
        landed, refused, deleted: where they went.
        newest: mark of the greatest cursor among them.
        totals: control totals of the source's key columns.
    """

    scanned: int = 0
    bytes: int = 0
    read: int = 0
    landed: int = 0
    refused: int = 0
    deleted: int = 0
    newest: int = NOTHING
    totals: Totals = field(default_factory=dict)

    def add(self, other: "Seen") -> None:
        """Count what another has seen as well."""
        for name in ("scanned", "bytes", "read", "landed", "refused", "deleted"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.newest = max(self.newest, other.newest)
        self.count(other.totals)

    def count(self, totals: Totals) -> None:
        """Add the control totals of further rows."""
        for name, total in totals.items():
            known = self.totals.get(name, 0)
            self.totals[name] = None if known is None or total is None else (known + total) % WHOLE


class Chapter(msgspec.Struct, frozen=True):
    """Some files that are whole, and what is in them.

    Attributes:
        files: name to number of rows.
        refused: names of files with the rows that were refused meanwhile.
        pieces: name of each piece of the source to its number of rows.
        seen: in these pieces.
    """

    files: dict[str, int]
    refused: list[str]
    pieces: dict[str, int]
    seen: Seen


class _Note(msgspec.Struct):
    base: int
    terms: int
    state: str
    chapters: list[Chapter]


class Unfinished:
    """The note of one landed table; the caller holds its lock.

    Args:
        folder: of the table.
        base: Delta version that is to be replaced.
        terms: changes with everything that decides how a source row lands.
    """

    def __init__(self, folder: Path, base: int, terms: int) -> None:
        self._folder = folder
        self._note = _Note(base, terms, "", [])
        path = folder / NOTE
        if path.exists():
            try:
                found = msgspec.json.decode(path.read_bytes(), type=_Note)
            except msgspec.DecodeError:
                return
            if (found.base, found.terms) == (base, terms):
                self._note = found
                self._note.chapters = [chapter for chapter in found.chapters if self._is_whole(chapter)]
            elif found.base < base:
                self._remove(found)

    @property
    def chapters(self) -> list[Chapter]:
        """All that is finished."""
        return self._note.chapters

    @property
    def earlier(self) -> Earlier:
        """What the source is to be asked about."""
        return Earlier(self._note.state, [chapter.pieces for chapter in self.chapters])

    @property
    def names(self) -> set[str]:
        """Files that are needed."""
        return {name for chapter in self.chapters for name in (*chapter.files, *chapter.refused)}

    @property
    def parts(self) -> list[Part]:
        """The data files."""
        return [Part.whole(self._folder / name, rows) for some in self.chapters for name, rows in some.files.items()]

    @property
    def refused(self) -> list[Path]:
        """Files with refused rows."""
        return [self._folder / name for chapter in self.chapters for name in chapter.refused]

    def keep(self, held: Collection[str], state: str) -> None:
        """Go on with the chapters whose pieces the source still holds."""
        chapters = [chapter for chapter in self.chapters if set(chapter.pieces) <= set(held)]
        self._note = _Note(self._note.base, self._note.terms, state, chapters)
        if chapters:
            rows = sum(chapter.seen.scanned for chapter in chapters)
            _log.info("collect.resumed", extra={"table": self._folder.name, "rows": rows})

    def add(self, chapter: Chapter) -> None:
        """Note that these files are whole."""
        self._note.chapters.append(chapter)
        draft = self._folder / f"{NOTE}.part"
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(self._note))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._folder / NOTE)

    def forget(self) -> None:
        """Nothing is finished any more, or all is."""
        self._note.chapters = []
        (self._folder / NOTE).unlink(missing_ok=True)

    def _remove(self, note: _Note) -> None:
        """Files of an attempt after which something else was committed; if it was that attempt itself, they stay."""
        log = self._folder / "_delta_log"
        try:
            committed = {action["add"]["path"] for action in actions_of(log, note.base + 1) if "add" in action}
        except FileNotFoundError:
            return  # so long ago that the table has been tidied up since
        for chapter in note.chapters:
            for name in {*chapter.files, *chapter.refused} - committed:
                (self._folder / name).unlink(missing_ok=True)

    def _is_whole(self, chapter: Chapter) -> bool:
        try:
            rows = {name: pq.read_metadata(self._folder / name).num_rows for name in (*chapter.files, *chapter.refused)}
        except (OSError, pa.ArrowException):
            return False
        return all(rows[name] == had for name, had in chapter.files.items())
