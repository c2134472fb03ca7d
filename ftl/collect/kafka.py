"""Topics of a Kafka cluster: how to connect, and what a message says. They are followed, not read as a table."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec

from ftl.collect.password import password_of
from ftl.collect.source import Since, Snapshot, nearest
from ftl.consortium.servers import KafkaSource
from ftl.errors import SourceError, SourceUnavailable

ANSWER_SECONDS = 10.0
"""Longest wait for a broker's answer."""
_REGISTRY_BYTES = 5
"""A zero and the number of a schema, which a registry's clients write before a value."""


class UnreadableError(Exception):
    """A message is not what the topic's format says; `args[0]` tells why, without its content."""


class KafkaReader:
    """The topics of a cluster.

    Args:
        label: how messages name this source.
        settings: its part of `consortium.yaml`.
        root: folder against which files are resolved.
        password: None for brokers that ask for none.
    """

    def __init__(self, label: str, settings: KafkaSource, root: Path, password: str | None) -> None:
        self.label, self.settings = label, settings
        self._root, self._password = root, password
        self._schemas: dict[str, Any] = {}

    @classmethod
    def of(cls, label: str, settings: KafkaSource, root: Path) -> "KafkaReader":
        """Find the password where the settings say.

        Raises:
            SourceError: the file or the environment variable is missing.
        """
        return cls(label, settings, root, password_of(label, settings, root))

    def ping(self) -> None:
        """Ask a broker for the topics."""
        self.tables()

    def tables(self) -> tuple[str, ...]:
        """Names of topics."""
        with self.translated():
            return tuple(sorted(name for name in self._metadata(None).topics if not name.startswith("__")))

    def partitions(self, topic: str) -> tuple[int, ...]:
        """Numbers of a topic's partitions.

        Raises:
            SourceError: there is no such topic; names the nearest one.
        """
        if topic not in self.tables():
            raise SourceError(
                f"{self.label}: there is no topic {topic!r}.{nearest(topic, self.tables())}",
                cure="Correct the table's `table` in consortium.yaml, or let this user describe the topic.",
            )
        with self.translated():
            return tuple(sorted(self._metadata(topic).topics[topic].partitions))

    def columns(self, table: str) -> dict[str, str]:
        """Fields of the topic's Avro schema and their types; JSON names none."""
        self.partitions(table)
        if self.settings.format == "json":
            return {}
        return {field["name"]: str(field["type"]) for field in self._schema(table)["fields"]}

    def position(self, table: str, cursor: str | None) -> str | None:  # noqa: ARG002 - a topic has no cursor
        """Nothing: a topic is followed by its offsets."""
        self.partitions(table)
        return None

    def snapshot(
        self, table: str, columns: Iterable[str], since: Since | None = None
    ) -> AbstractContextManager[Snapshot]:
        """A topic has no state that could be read.

        Raises:
            SourceError: always.
        """
        del columns, since
        raise SourceError(
            f"{self.label}: topic {table!r} is a stream of events and cannot be read as a table.",
            cure="Follow it with --mode stream: it begins with the oldest event that the brokers keep.",
        )

    def value(self, topic: str, data: bytes) -> dict[str, Any]:
        """A message's fields.

        Raises:
            UnreadableError: the message is not what the topic's format says.
        """
        try:
            found = self._avro(topic, data) if self.settings.format == "avro" else msgspec.json.decode(data)
        except (ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, msgspec.MsgspecError) as exc:
            raise UnreadableError(f"the message is no {self.settings.format}") from exc
        if not isinstance(found, dict):
            raise UnreadableError("the message is no record")
        return found

    def consumer(self, topic: str) -> Any:
        """A client that reads from offsets which it is given, and stores none at the brokers."""
        from confluent_kafka import Consumer

        del topic
        return Consumer(
            self._options()
            | {
                "group.id": "ftl",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "allow.auto.create.topics": False,
                "fetch.wait.max.ms": 50,
                "queued.max.messages.kbytes": 65_536,
            }
        )

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the client's errors into ours."""
        from confluent_kafka import KafkaException

        try:
            yield
        except KafkaException as exc:
            raise self.named(exc.args[0]) from exc

    def named(self, error: Any) -> SourceError:
        """Say what is wrong; `error` is a `confluent_kafka.KafkaError`."""
        from confluent_kafka import KafkaError

        servers = ", ".join(self.settings.servers)
        if error.code() in {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}:  # noqa: SLF001 - a constant
            return SourceError(
                f"{self.label}.password_file: {servers} refuse user {self.settings.user!r}.",
                cure="Correct `user`, `mechanism` and the password.",
            )
        if error.code() in {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED}:
            return SourceError(
                f"{self.label}: user {self.settings.user!r} may not read the topic.",
                cure="Allow it READ and DESCRIBE on the topic.",
            )
        return SourceUnavailable(
            f"{self.label}: no broker answers at {servers} (setting `servers`): {error.name()}.",
            cure="Check the setting and that the brokers are running and reachable from this machine.",
        )

    def _metadata(self, topic: str | None) -> Any:
        from confluent_kafka.admin import AdminClient

        return AdminClient(self._options()).list_topics(topic, timeout=ANSWER_SECONDS)

    def _options(self) -> dict[str, Any]:
        settings = self.settings
        options: dict[str, Any] = {
            "bootstrap.servers": ",".join(settings.servers),
            "security.protocol": settings.protocol,
            "log_level": 0,
        }
        if settings.user is not None:
            options |= {"sasl.mechanism": settings.mechanism, "sasl.username": settings.user}
            options |= {"sasl.password": self._password or ""}
        return options | ({"ssl.ca.location": str(self._root / settings.ca_file)} if settings.ca_file else {})

    def _avro(self, topic: str, data: bytes) -> Any:
        from fastavro import schemaless_reader

        return schemaless_reader(
            BytesIO(data[_REGISTRY_BYTES:] if self.settings.registry_header else data), self._schema(topic), None
        )

    def _schema(self, topic: str) -> Any:
        from fastavro.schema import load_schema

        if topic not in self._schemas:
            path = self._root / self.settings.schemas.get(topic, Path("absent"))
            try:
                self._schemas[topic] = load_schema(path)
            except Exception as exc:
                raise SourceError(
                    f"{self.label}.schemas: the Avro schema of topic {topic!r} cannot be read from {path}.",
                    cure=f"Write `schemas: {{{topic}: FILE.avsc}}` and put a valid schema there.",
                ) from exc
        return self._schemas[topic]
