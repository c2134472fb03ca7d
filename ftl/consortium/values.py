"""Reading a file's plain values, which may be of any kind, and saying what is not among what may stand there.

The checks read plain values, not the typed model, so that they still run, on what can be understood, when some setting
is misspelt; a user then sees all problems in one go. Whatever is of the wrong kind is reported elsewhere and read as
empty here.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ftl.consortium.problem import Finding, Path, nearest


def mapping(values: Any, *path: str) -> Mapping[str, Any]:
    """The mapping at `path`, or an empty one where there is none."""
    for step in path:
        values = values.get(step) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else {}


def names(values: Any, key: str) -> list[str]:
    """The texts in the list at `key`."""
    listed = mapping(values).get(key)
    return [item for item in listed if isinstance(item, str)] if isinstance(listed, list) else []


def identifying(values: Any) -> list[str]:
    """All columns by which people are found: the identifiers, then those of ``alignment.otherwise``, each once."""
    otherwise = mapping(values, "alignment").get("otherwise")
    lists = otherwise if isinstance(otherwise, list) else []
    further = (name for some in lists for name in names({"some": some}, "some"))
    return list(dict.fromkeys([*names(values, "identifiers"), *further]))


def columns(table: Any) -> dict[str, str]:
    """Columns of a lake table with their declared types; a derived column's type is not declared and empty here."""
    declared = {name: str(mapping(column).get("type", "")) for name, column in mapping(table, "columns").items()}
    return declared | dict.fromkeys(mapping(table, "derived"), "")


def table_of(party: Any) -> tuple[str, Any] | None:
    """Name and settings of the table that a party's features come from, if it has it."""
    name = mapping(party, "features").get("table")
    if not isinstance(name, str) or name not in mapping(party, "tables"):
        return None
    return name, mapping(party, "tables")[name]


def unknown(path: Path, name: str, valid: Iterable[str], said: str, *, at_key: bool = False) -> Finding:
    """A name that is not among the valid ones, with the nearest of them."""
    known = list(valid)
    expected = "one of " + ", ".join(known) if known else ""
    return Finding(path, f"{name!r} {said}", expected, nearest(name, known), at_key=at_key)


def each_known(path: Path, listed: list[str], valid: Iterable[str], said: str) -> Iterator[Finding]:
    """Names in a list that are not valid, or are there more than once."""
    known = list(valid)
    for place, name in enumerate(listed):
        if name not in known:
            yield unknown((*path, place), name, known, said)
    yield from repeated(path, listed)


def repeated(path: Path, listed: list[str]) -> Iterator[Finding]:
    """Names that are in a list more than once, at their last place."""
    for name, times in Counter(listed).items():
        if times > 1:
            place = max(place for place, item in enumerate(listed) if item == name)
            yield Finding((*path, place), f"{name!r} is listed {times} times", "each name once")
