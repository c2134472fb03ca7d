"""What the parts of a `consortium.yaml` must have to do with each other."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ftl.consortium.feature_checks import contradictory_features, contradictory_holdout
from ftl.consortium.problem import Finding, Path
from ftl.consortium.values import columns, each_known, identifying, mapping, names, repeated, table_of, unknown

_CURSOR_TYPES = ("int64", "float64", "date", "timestamp")
_PORTS = ("federation_port", "admin_port", "airflow_port", "mlflow_port", "gateway_port")


def contradictions(values: Any) -> Iterator[Finding]:
    """Settings that are each allowed and do not go together."""
    yield from _roles(values)
    yield from _ports(values)
    yield from _homes(values)
    yield from _identifier_types(values)
    yield from repeated(("identifiers",), names(values, "identifiers"))
    yield from _otherwise(values)
    for name, party in mapping(values, "parties").items():
        path: Path = ("parties", name)
        for table_name, table in mapping(party, "tables").items():
            yield from _table((*path, "tables", table_name), table, mapping(party, "sources"))
        for source_name, source in mapping(party, "sources").items():
            yield from _source((*path, "sources", source_name), source)
        yield from contradictory_features(path, party, identifying(values))
    yield from contradictory_holdout(values)


def _roles(values: Any) -> Iterator[Finding]:
    if not mapping(values, "parties"):
        return
    roles = {name: mapping(party).get("role") for name, party in mapping(values, "parties").items()}
    active = [name for name, role in roles.items() if role == "active"]
    if not active and all(role == "passive" for role in roles.values()):
        yield Finding(("parties",), "no party has `role: active`", "exactly one: the party with the label", at_key=True)
    for name in active[1:]:
        said = f"{name!r} is active, and so is {active[0]!r}"
        yield Finding(("parties", name, "role"), said, "exactly one active party, the one with the label")
    if active and all(role == "active" for role in roles.values()):
        yield Finding(("parties",), "no party has `role: passive`", "at least one party that adds columns", at_key=True)


def _ports(values: Any) -> Iterator[Finding]:
    coordinator = mapping(values, "coordinator")
    places: list[tuple[Path, Any]] = [(("coordinator", key), coordinator.get(key)) for key in _PORTS]
    for name, party in mapping(values, "parties").items():
        places.append((("parties", name, "score_port"), mapping(party).get("score_port")))
    set_ports = [(path, port) for path, port in places if isinstance(port, int) and port]
    yield from _clashes(set_ports, "port {} is already that of {}", "another port, or 0 for any free one")


def _homes(values: Any) -> Iterator[Finding]:
    coordinator = mapping(values, "coordinator").get("home", "var/coordinator")
    places: list[tuple[Path, Any]] = [(("coordinator", "home"), coordinator)]
    for name, party in mapping(values, "parties").items():
        places.append((("parties", name, "home"), mapping(party).get("home") or f"var/nodes/{name}"))
    homes = [(path, home.rstrip("/")) for path, home in places if isinstance(home, str)]
    yield from _clashes(homes, "folder {!r} is already that of {}", "a folder of its own")


def _clashes(places: Iterable[tuple[Path, str | int]], said: str, expected: str) -> Iterator[Finding]:
    owner: dict[str | int, Path] = {}
    for path, value in places:
        if value in owner:
            yield Finding(path, said.format(value, ".".join(map(str, owner[value]))), expected)
        owner.setdefault(value, path)


def _identifier_types(values: Any) -> Iterator[Finding]:
    """Identifiers are compared as text across parties, so 7 and "7" and 7.0 must not meet."""
    for identifier in identifying(values):
        first: tuple[str, str] | None = None
        for name, party in mapping(values, "parties").items():
            table = table_of(party)
            declared = columns(table[1]).get(identifier, "") if table else ""
            if not table or not declared:
                continue
            path = ("parties", name, "tables", table[0], "columns", identifier, "type")
            first = first or (name, declared)
            if declared in ("float64", "bool"):
                yield Finding(path, f"an identifier of type {declared} is not comparable", "string or int64")
            elif declared != first[1]:
                yield Finding(path, f"{identifier!r} is {declared} here and {first[1]} at {first[0]!r}", "one type")


def _otherwise(values: Any) -> Iterator[Finding]:
    """Every list of identifiers finds people by other columns, each named once."""
    listed = mapping(values, "alignment").get("otherwise")
    seen = [sorted(names(values, "identifiers"))]
    for place, some in enumerate(listed if isinstance(listed, list) else []):
        path: Path = ("alignment", "otherwise", place)
        given = sorted(names({"some": some}, "some"))
        yield from repeated(path, names({"some": some}, "some"))
        if given and given in seen:
            yield Finding(path, "these columns already identify people above", "other columns")
        seen.append(given)


def _source(path: Path, source: Any) -> Iterator[Finding]:
    if mapping(source).get("password_env") and mapping(source).get("password_file"):
        said = "`password_env` and `password_file` are both set"
        yield Finding((*path, "password_file"), said, "one of them", at_key=True)
    for name, secret in mapping(source, "secrets").items():
        here: Path = (*path, "secrets", name)
        if bool(mapping(secret).get("env")) == bool(mapping(secret).get("file")):
            yield Finding(here, "a secret comes from one place", "`env` or `file`", at_key=True)
        if name in {**mapping(source, "options"), **mapping(source, "arguments")}:
            yield Finding(here, f"{name!r} is already set", "another name", at_key=True)


def _table(path: Path, table: Any, sources: Mapping[str, Any]) -> Iterator[Finding]:
    source, declared = mapping(table).get("source"), columns(table)
    if isinstance(source, str) and source not in sources:
        yield unknown((*path, "source"), source, sources, "is not a source of this party")
    if mapping(table).get("columns") == {}:
        yield Finding((*path, "columns"), "the table has no column", "at least one", at_key=True)
    for name in mapping(table, "derived"):
        if name in mapping(table, "columns"):
            yield Finding((*path, "derived", name), f"{name!r} is already a mapped column", "another name", at_key=True)
    yield from each_known((*path, "key"), names(table, "key"), declared, "is not a column of this table")
    yield from _cursor((*path, "cursor"), mapping(table).get("cursor"), table)


def _cursor(path: Path, cursor: Any, table: Any) -> Iterator[Finding]:
    declared = columns(table)
    if not isinstance(cursor, str):
        return
    if cursor in mapping(table, "derived"):
        said = f"{cursor!r} is derived, so the source cannot be asked for newer rows by it"
        yield Finding(path, said, "a mapped column")
    elif cursor not in declared:
        yield unknown(path, cursor, declared, "is not a column of this table")
    elif declared[cursor] in ("string", "bool"):
        said = f"{cursor!r} is of type {declared[cursor]}, which need not grow with time"
        yield Finding(path, said, "a column of type " + ", ".join(_CURSOR_TYPES))
