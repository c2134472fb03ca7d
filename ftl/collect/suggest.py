"""A first mapping for a table, from its columns' names and types and from a sample: text that a person edits.

What it says is a guess and marked as one. It holds names of columns and settings, and no value of a row.
"""

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from ftl.collect.cast import as_text, cast, plain
from ftl.collect.normalise import BLANKS, normalised
from ftl.collect.personal import personal_sort
from ftl.collect.source import Source, open_source
from ftl.collect.trial import sample
from ftl.consortium import Node
from ftl.consortium.model import ColumnType, Normalise

SAMPLE_ROWS = 5_000
_UNKNOWN = ("NA", "N/A", "n/a", "NULL", "null", "None", "-", "--", "?", "\\N", "#N/A", "unknown", "未知", "无")
"""What people write where they know nothing."""
_MOST = 0.95
"""Share of the given cells that must be of a kind before the column is taken to be."""
_TYPES: tuple[ColumnType, ...] = ("int64", "float64", "date", "timestamp", "bool")
"""In this order: what fits an earlier one is of it."""
_CHANGED = r"updat|modif|chang|(^|_)upd(_|$)|last_|更新|修改"


@dataclass(frozen=True)
class Guess:
    """What a source column seems to be.

    Attributes:
        name: for the lake.
        source: column of the source.
        kind: lake type.
        normalise: spelling of a likely identifier.
        missing: texts in the sample that seem to mean *unknown*.
        unique: whether every sampled row has a value of its own.
        personal: which sort of personal data; empty where it seems to be none.
    """

    name: str
    source: str
    kind: ColumnType
    normalise: Normalise
    missing: tuple[str, ...]
    unique: bool
    personal: str

    @property
    def identifies(self) -> bool:
        """Whether it may tell one row from another."""
        return self.unique and self.kind in {"string", "int64"}


def suggest(node: Node, source: str, table: str) -> str:
    """A proposed entry of `tables` for `consortium.yaml`, as YAML with comments.

    Args:
        node: the party's node.
        source: one of its sources.
        table: table or file name at the source.

    Raises:
        SourceError: the source cannot be read.
    """
    reader = open_source(node, source)
    columns, key = tuple(reader.columns(table)), _declared_key(reader, table)
    rows = sample(node, source, table, columns, SAMPLE_ROWS)
    taken: set[str] = set()
    guesses, nested = [], []
    for name in columns:
        try:
            guesses.append(_guess(name, _lake_name(name, taken), plain(rows.column(name))))
        except TypeError:
            nested.append(name)
    return "\n".join(_written(source, table, guesses, nested, key, rows.num_rows))


def _declared_key(reader: Source, table: str) -> tuple[str, ...]:
    """The primary key, as the source itself declares it; nothing where it declares none."""
    ask = getattr(reader, "key", None)  # files and topics have none
    return () if ask is None else tuple(ask(table))


def _guess(source: str, name: str, values: pa.Array) -> Guess:
    text = as_text(values)
    missing = tuple(word for word in _UNKNOWN if pc.any(pc.equal(pc.utf8_trim(text, BLANKS), word)).as_py())
    known = pc.invert(pc.is_in(pc.utf8_trim(text, BLANKS), pa.array(missing, pa.string())))
    given, words = values.filter(known).drop_null(), text.filter(known).drop_null()
    spelling = _spelling(words)
    kind = "string" if spelling != "none" else _type(given, words)
    unique = 0 < len(values) == len(given) == pc.count_distinct(words).as_py()
    if spelling == "none" and kind == "string" and _outer_blanks(words):
        spelling = "trim"
    return Guess(name, source, kind, spelling, missing, unique, personal_sort(f"{name}\n{source}", spelling, words))


def _spelling(words: pa.Array) -> Normalise:
    choices: tuple[Normalise, ...] = ("resident_id", "mobile_cn")
    for how in choices:
        spelt = normalised(words, how)
        if len(words) and len(spelt.values.drop_null()) >= _MOST * len(words):
            return how
    abroad = pc.starts_with(words, "+")
    fits = len(words) and len(normalised(words.filter(abroad), "e164").values.drop_null()) >= _MOST * len(words)
    return "e164" if fits else "none"


def _type(given: pa.Array, words: pa.Array) -> ColumnType:
    if not len(given):
        return "string"
    textual = pa.types.is_string(given.type) or pa.types.is_large_string(given.type)
    if textual and pc.any(pc.match_substring_regex(words, "^0[0-9]")).as_py():
        return "string"  # a code: as a number it would lose its zero
    if pa.types.is_boolean(given.type):
        return "bool"
    if pa.types.is_temporal(given.type):
        return "date" if pa.types.is_date(given.type) else "timestamp"
    numeric: tuple[ColumnType, ...] = ("int64", "float64")
    for kind in _TYPES if textual else numeric:
        if cast(given, kind).failed.sum() <= (1 - _MOST) * len(given):
            return kind
    return "string"


def _outer_blanks(words: pa.Array) -> bool:
    return bool(pc.any(pc.not_equal(pc.utf8_trim(words, BLANKS), words)).as_py())


def _lake_name(source: str, taken: set[str]) -> str:
    """`source` as a lake column's name: ``CustomerID`` becomes ``customer_id``, and 编号 ``column``."""
    plainly = unicodedata.normalize("NFKD", source).encode("ascii", "ignore").decode()
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", plainly)
    base = re.sub(r"[^a-z0-9]+", "_", apart.lower()).strip("_").lstrip("0123456789_")[:56] or "column"
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    taken.add(name)
    return name


def _written(
    source: str, table: str, guesses: list[Guess], nested: list[str], key: tuple[str, ...], rows: int
) -> Iterable[str]:
    yield f"# Proposed from the columns of {_quoted(table)} and {rows} of its rows: a guess for a person to correct."
    yield f"{_lake_name(table.rsplit('/', 1)[-1].split('.', maxsplit=1)[0], set())}:"
    yield f"  source: {source}"
    yield f"  table: {_quoted(table)}"
    yield _key(guesses, key)
    yield from _cursor(guesses)
    yield "  columns:"
    yield from map(_column, guesses)
    yield from (f"  # {_quoted(name)} is nested: read it through a view that gives plain values" for name in nested)
    yield ""


def _key(guesses: list[Guess], declared: tuple[str, ...]) -> str:
    """What the source declares wins over what is unique in a sample."""
    named = {guess.source: guess.name for guess in guesses}
    if declared and all(column in named for column in declared):
        return f"  key: [{', '.join(named[column] for column in declared)}]  # the source's primary key"
    unique = [guess.name for guess in guesses if guess.identifies]
    if unique:
        return f"  key: [{unique[0]}]  # unique in the sample" + (
            f"; so is: {', '.join(unique[1:])}" if unique[1:] else ""
        )
    return "  # key: no column is unique in the sample; name those that identify a row together"


def _cursor(guesses: list[Guess]) -> Iterable[str]:
    times = [guess for guess in guesses if guess.kind in {"timestamp", "date"} and not guess.personal]
    changed = [guess.name for guess in times if re.search(_CHANGED, f"{guess.name}\n{guess.source}", re.MULTILINE)]
    if changed:
        yield f"  cursor: {changed[0]}  # only if every change of a row moves it"
    elif times:
        yield f"  # cursor: perhaps {', '.join(guess.name for guess in times)}, if every change of a row moves it"


def _column(guess: Guess) -> str:
    settings = [f"from: {_quoted(guess.source)}", f"type: {guess.kind}"]
    if guess.missing:
        settings.append(f"missing: [{', '.join(map(_quoted, guess.missing))}]")
    if guess.normalise != "none":
        settings.append(f"normalise: {guess.normalise}")
    said = f"  # personal data? {guess.personal}" if guess.personal else ""
    return f"    {guess.name}: {{{', '.join(settings)}}}{said}"


def _quoted(text: str) -> str:
    """As JSON writes it, which is YAML as well."""
    return json.dumps(text, ensure_ascii=False)
