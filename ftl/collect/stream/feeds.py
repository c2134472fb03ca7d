"""Which kind of source is followed how."""

from ftl.collect.kafka import KafkaReader
from ftl.collect.mapping import Mapping
from ftl.collect.mariadb import MariaReader
from ftl.collect.postgres import PostgresReader
from ftl.collect.source import open_source
from ftl.collect.stream.change import Feed, Pace
from ftl.consortium import Node
from ftl.errors import SourceError


def open_feed(node: Node, mapping: Mapping, table: str, pace: Pace) -> Feed:
    """The change stream behind a table. Nothing is connected yet.

    Args:
        node: the party's node.
        mapping: of the table.
        table: lake name.
        pace: how long silence may last.

    Raises:
        SourceError: sources of this kind have none.
    """
    reader = open_source(node, mapping.settings.source)
    owner = (node.consortium.name, node.name, table)
    if isinstance(reader, PostgresReader):
        from ftl.collect.stream.postgres import PostgresFeed

        return PostgresFeed(reader, mapping, owner)
    if isinstance(reader, MariaReader) and reader.settings.kind == "mariadb":
        from ftl.collect.stream.mariadb import MariaFeed

        return MariaFeed(reader, mapping, owner, pace.silence)
    if isinstance(reader, KafkaReader):
        from ftl.collect.stream.kafka import KafkaFeed

        return KafkaFeed(reader, mapping)
    kind = node.party.sources[mapping.settings.source].kind
    raise SourceError(
        f"parties.{node.name}.sources.{mapping.settings.source}: a source of kind {kind} has no change stream.",
        cure="Use --mode incremental, or follow a PostgreSQL or MariaDB table or a Kafka topic.",
    )


def drop_stream(node: Node, table: str) -> None:
    """Remove what following a table created at its source; a later stream starts anew.

    Raises:
        SourceError: the source cannot be reached, or has no streams.
    """
    open_feed(node, Mapping(node, table), table, Pace()).drop()


def followable(node: Node) -> list[str]:
    """Lake names of the party's tables whose sources have change streams."""
    kinds = {"postgresql", "mariadb", "kafka"}
    return [name for name, table in node.party.tables.items() if node.party.sources[table.source].kind in kinds]
