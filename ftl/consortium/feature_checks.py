"""What a party's features, label and holdout must have to do with its table."""

from collections.abc import Iterator, Mapping
from typing import Any

from ftl.consortium.problem import Finding, Path, nearest
from ftl.consortium.values import columns, each_known, mapping, names, table_of, unknown

_NO_FEATURE = "is not among this party's feature columns"
_NO_COLUMN = "is not a column of this table"
_KINDS = ("binary", "number", "classes")


def contradictory_features(path: Path, party: Any, identifiers: list[str]) -> Iterator[Finding]:
    """What does not go together in one party's features and label.

    Args:
        path: the party's.
        party: its settings.
        identifiers: the consortium's.
    """
    features, tables = mapping(party, "features"), mapping(party, "tables")
    name, here = features.get("table"), (*path, "features")
    if isinstance(name, str) and name not in tables:
        yield unknown((*here, "table"), name, tables, "is not a table of this party")
    yield from _annotations(here, features)
    yield from _label(path, party)
    table = table_of(party)
    if table:
        yield from _monotone(here, features, columns(table[1]))
        yield from _learnable(here, names(features, "columns"), table[1], _refused(party, table[1], identifiers))
        yield from _identifiers((*path, "tables", table[0], "columns"), table[1], identifiers)


def contradictory_holdout(values: Any) -> Iterator[Finding]:
    """A holdout column that the active party lacks, or learns from."""
    column, path = mapping(values, "training", "holdout").get("column"), ("training", "holdout", "column")
    for name, party in mapping(values, "parties").items():
        table = table_of(party)
        if mapping(party).get("role") != "active" or not isinstance(column, str) or not table:
            continue
        if column not in columns(table[1]):
            yield unknown(path, column, columns(table[1]), f"is not a column of {name}'s table {table[0]!r}")
        elif column == mapping(party, "label").get("weight"):
            yield Finding(path, f"{column!r} is also the weight of the label", "another column")
        elif column in names(mapping(party, "features"), "columns"):
            yield Finding(path, f"{column!r} is also a feature of {name!r}", "a column that is not learned from")


def _annotations(path: Path, features: Mapping[str, Any]) -> Iterator[Finding]:
    """`categorical`, `protected`, `proxies`, `monotone` and `reasons` are about feature columns only."""
    used = names(features, "columns")
    if features.get("columns") == []:
        yield Finding((*path, "columns"), "the list is empty", "at least one column")
    for key in ("categorical", "protected", "proxies"):
        yield from each_known((*path, key), names(features, key), used, _NO_FEATURE)
    for name in mapping(features, "monotone"):
        if name not in used:
            yield unknown((*path, "monotone", name), name, used, _NO_FEATURE, at_key=True)
    texts: dict[str, str] = {}
    for name, reason in mapping(features, "reasons").items():
        if name not in used:
            yield unknown((*path, "reasons", name), name, used, _NO_FEATURE, at_key=True)
        code, text = mapping(reason).get("code"), mapping(reason).get("text")
        if isinstance(code, str) and isinstance(text, str) and texts.setdefault(code, text) != text:
            said = f"reason {code!r} has another text above: {texts[code]!r}"
            yield Finding((*path, "reasons", name, "text"), said, "one text per code")


def _monotone(path: Path, features: Mapping[str, Any], declared: Mapping[str, str]) -> Iterator[Finding]:
    """Categories have no order in which the answer could rise."""
    coded = names(features, "categorical")
    for name in mapping(features, "monotone"):
        if name in coded or declared.get(name) in ("string", "bool"):
            yield Finding((*path, "monotone", name), f"{name!r} holds categories, which have no order", "a number")


def _identifiers(path: Path, table: Any, identifiers: list[str]) -> Iterator[Finding]:
    declared = columns(table)
    for identifier in identifiers:
        if identifier not in declared:
            near = nearest(identifier, declared)
            expected = f"a column of that name{f'; is it {near!r}, by another name' if near else ''}"
            said = f"{identifier!r} is an identifier of the consortium and not a column of this table"
            yield Finding((*path, identifier), said, expected, at_key=True)


def _learnable(path: Path, used: list[str], table: Any, refused: Mapping[str, str]) -> Iterator[Finding]:
    declared = columns(table)
    yield from each_known((*path, "columns"), used, declared, _NO_COLUMN)
    for place, name in enumerate(used):
        if name in refused:
            yield Finding((*path, "columns", place), f"{name!r} is {refused[name]}", "a column to predict from")
        elif declared.get(name) in ("date", "timestamp"):
            said = f"{name!r} is a {declared[name]}, which no recipe can use"
            yield Finding((*path, "columns", place), said, "a derived number, such as the days since then")


def _refused(party: Any, table: Any, identifiers: list[str]) -> dict[str, str]:
    """Columns that must not be learned from, with the reason."""
    refused = dict.fromkeys(identifiers, "an identifier")
    label = mapping(party, "label")
    taken = ((mapping(table).get("cursor"), "the cursor"), (label.get("weight"), "the weight of the label"))
    refused |= {name: said for name, said in (*taken, (label.get("column"), "the label")) if isinstance(name, str)}
    return refused


def _label(path: Path, party: Any) -> Iterator[Finding]:
    role, label, table = mapping(party).get("role"), mapping(party).get("label"), table_of(party)
    if role == "active" and label is None:
        yield Finding((*path, "label"), "the active party has no label", "`label: {column: NAME}`", at_key=True)
    if role == "passive" and label is not None:
        yield Finding((*path, "label"), "a passive party has a label", "it at the active party only", at_key=True)
    if role == "active" and table:
        for key in ("column", "weight"):
            name = mapping(label).get(key)
            if isinstance(name, str) and name not in columns(table[1]):
                yield unknown((*path, "label", key), name, columns(table[1]), f"is not a column of table {table[0]!r}")
        yield from _kind((*path, "label"), mapping(label), columns(table[1]))


def _kind(path: Path, label: Mapping[str, Any], declared: Mapping[str, str]) -> Iterator[Finding]:
    """Settings of a label that do not go with its kind, and columns that cannot hold it."""
    kind, listed = label.get("kind", "binary"), label.get("classes")
    for key, owner in (("positive", "binary"), ("classes", "classes")):
        if key in label and kind in _KINDS and kind != owner:
            said = f"`{key}` says nothing of a label of kind {kind}"
            yield Finding((*path, key), said, f"it only with `kind: {owner}`", at_key=True)
    if isinstance(listed, list) and len({str(value) for value in listed}) != max(len(listed), 2 * bool(listed)):
        yield Finding((*path, "classes"), "one class, or the same class twice", "two or more classes, each once")
    for key in ("column",) * (kind == "number") + ("weight",):
        name = label.get(key)
        if isinstance(name, str) and declared.get(name) in ("string", "bool", "date", "timestamp"):
            said = f"{name!r} is a {declared[name]}, not a number"
            yield Finding((*path, key), said, "a column of type int64 or float64")
