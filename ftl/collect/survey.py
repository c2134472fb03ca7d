"""Looks at a party's sources without reading a row: what of the mapping would fail, all of it at once."""

from collections.abc import Iterator
from dataclasses import dataclass

from ftl.collect.mapping import Mapping
from ftl.collect.source import Source, open_source
from ftl.consortium import Node
from ftl.errors import FtlError, MappingError, SourceError


@dataclass(frozen=True)
class Fault:
    """One problem.

    Attributes:
        path: the setting, for example ``parties.bank.tables.accounts.columns.phone.from``.
        message, cure: for people.
        given: the name that does not exist, if that is the problem.
        valid: the names that do.
    """

    path: str
    message: str
    cure: str
    given: str = ""
    valid: tuple[str, ...] = ()


def survey(node: Node) -> list[Fault]:
    """Connect to every source of a party and compare its tables and columns with the mapping."""
    faults: list[Fault] = []
    sources: dict[str, Source] = {}
    for name in node.party.sources:
        try:
            source = open_source(node, name)
            source.ping()
            sources[name] = source
        except SourceError as error:
            faults.append(_fault(f"parties.{node.name}.sources.{name}", error))
    for table, settings in node.party.tables.items():
        if settings.source in sources:
            faults.extend(_table(node, table, sources[settings.source]))
    return faults


def _table(node: Node, table: str, source: Source) -> Iterator[Fault]:
    path, settings = f"parties.{node.name}.tables.{table}", node.party.tables[table]
    try:
        known = source.columns(settings.table)
    except SourceError as error:
        yield _fault(f"{path}.table", error, settings.table, _tables(source))
        return
    for name, column in settings.columns.items():
        if column.source not in known:
            yield Fault(
                f"{path}.columns.{name}.from",
                f"{settings.table!r} has no column {column.source!r}.",
                "Correct the name, or grant the reading user that column.",
                column.source,
                tuple(known),
            )
        if column.rate_by is not None and column.rate_by not in known:
            yield Fault(
                f"{path}.columns.{name}.rate_by",
                f"{settings.table!r} has no column {column.rate_by!r}.",
                "Name the source column that holds each row's currency.",
                column.rate_by,
                tuple(known),
            )
    try:
        Mapping(node, table)
    except MappingError as error:
        yield _fault(path, error)


def _tables(source: Source) -> tuple[str, ...]:
    try:
        return source.tables()
    except SourceError:
        return ()


def _fault(path: str, error: FtlError, given: str = "", valid: tuple[str, ...] = ()) -> Fault:
    return Fault(path, error.message, error.cure, given, valid)
