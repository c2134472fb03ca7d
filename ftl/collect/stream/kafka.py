"""A Kafka topic as a change stream: each message is a row's new state, one without a value a deletion.

Offsets are kept in the lake's own commits, not at the brokers.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from ftl.collect.identity import identity_of
from ftl.collect.kafka import ANSWER_SECONDS, KafkaReader, UnreadableError
from ftl.collect.mapping import Mapping as FieldMapping
from ftl.collect.stream.change import Broken, Changes, Gathered, Pace, Slice, Start, nothing
from ftl.errors import SourceError

_AT_ONCE = 10_000


class KafkaFeed:
    """The messages of one topic.

    Args:
        reader: of the cluster.
        mapping: of the table.
    """

    terms = None

    def __init__(self, reader: KafkaReader, mapping: FieldMapping) -> None:
        self._reader, self._mapping, self._topic = reader, mapping, mapping.settings.table
        self._columns, self._identity = mapping.source_columns, identity_of(mapping)
        self._consumer: Any = None
        self._marks: dict[str, int] = {}

    def mark_names(self) -> tuple[str, ...]:
        """The offset to go on from, per partition."""
        return tuple(f"kafka.{partition}" for partition in self._reader.partitions(self._topic))

    @contextmanager
    def begin(self) -> Iterator[Start]:
        """Nothing to read first; the stream begins with the oldest message that the brokers keep."""
        self._open()
        lowest = {f"kafka.{place.partition}": low for place, (low, _) in self._kept().items()}
        yield Start(nothing(), lowest)

    def resume(self, marks: Mapping[str, int]) -> None:
        """Go on from the offsets; a partition that is new begins with its oldest message."""
        from confluent_kafka import TopicPartition

        self._open()
        places, self._marks = [], dict(marks)
        for place, (low, high) in self._kept().items():
            offset = self._marks.setdefault(f"kafka.{place.partition}", low)
            if not low <= offset <= high:
                raise self._lost(place.partition)
            places.append(TopicPartition(self._topic, place.partition, offset))
        with self._reader.translated():
            self._consumer.assign(places)
        self._heard = time.monotonic()

    def take(self, pace: Pace) -> Slice:
        """Messages in the order of their partitions."""
        gathered, rows, deleted = Gathered(), list[dict[str, Any]](), list[bool]()
        until = time.monotonic() + pace.seconds
        while gathered.rows < pace.rows and (left := until - time.monotonic()) > 0:
            with self._reader.translated():
                messages = self._consumer.consume(min(_AT_ONCE, pace.rows - gathered.rows), left)
            for message in messages:
                if message.error() is not None:
                    self._failed(message, pace)
                    continue
                self._heard = time.monotonic()
                self._read(message, rows, deleted, gathered)
        if rows:
            gathered.changes.append(self._changes(rows, deleted))
        return gathered.slice(self._marks, self._behind())

    def landed(self, marks: Mapping[str, int]) -> None:
        """The brokers keep messages by their own rules."""

    def close(self) -> None:
        """Leave the brokers."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def drop(self) -> None:
        """Nothing was created at the brokers."""
        self.close()

    def _open(self) -> None:
        self.close()
        with self._reader.translated():
            self._consumer = self._reader.consumer(self._topic)

    def _kept(self) -> dict[Any, tuple[int, int]]:
        """Partition to the first offset that is kept and the one after the last."""
        from confluent_kafka import TopicPartition

        places = [TopicPartition(self._topic, partition) for partition in self._reader.partitions(self._topic)]
        with self._reader.translated():
            return {place: self._consumer.get_watermark_offsets(place, timeout=ANSWER_SECONDS) for place in places}

    def _read(self, message: Any, rows: list[dict[str, Any]], deleted: list[bool], gathered: Gathered) -> None:
        value = message.value()
        try:
            rows.append(self._key(message.key()) if value is None else self._reader.value(self._topic, value))
            deleted.append(value is None)
        except UnreadableError as exc:
            raw = (value if value is not None else message.key() or b"").decode(errors="backslashreplace")
            gathered.broken.append(Broken(str(exc), raw))
        gathered.rows += 1
        gathered.written = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
        self._marks[f"kafka.{message.partition()}"] = message.offset() + 1

    def _key(self, key: bytes | None) -> dict[str, Any]:
        """The identity of a deleted row: a JSON object of its columns, or the bare value where it is one column."""
        try:
            found = msgspec.json.decode(key or b"")
        except msgspec.MsgspecError:
            found = (key or b"").decode(errors="backslashreplace")
        if not isinstance(found, dict) and len(self._identity) == 1:
            found = {self._identity[0]: found}
        if not isinstance(found, dict) or any(found.get(name) in {None, ""} for name in self._identity):
            raise UnreadableError("the key of a deletion does not name the row")
        return found

    def _changes(self, rows: Sequence[Mapping[str, Any]], deleted: Sequence[bool]) -> Changes:
        arrays = [_cells([row.get(name) for row in rows]) for name in self._columns]
        return Changes(pa.RecordBatch.from_arrays(arrays, names=list(self._columns)), np.array(deleted, dtype=bool))

    def _behind(self) -> int | None:
        from confluent_kafka import TopicPartition

        behind = 0
        for name, offset in self._marks.items():
            place = TopicPartition(self._topic, int(name.removeprefix("kafka.")))
            known = self._consumer.get_watermark_offsets(place, cached=True)
            behind += max(known[1] - offset, 0) if known is not None else 0
        return behind

    def _failed(self, message: Any, pace: Pace) -> None:
        from confluent_kafka import KafkaError

        error = message.error()
        if error.code() in {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}:  # noqa: SLF001 - a constant
            raise self._lost(message.partition())
        if time.monotonic() - self._heard > pace.silence or not error.retriable():
            raise self._reader.named(error)

    def _lost(self, partition: int) -> SourceError:
        return SourceError(
            f"{self._reader.label}: the brokers no longer keep partition {partition} of topic {self._topic!r} at our "
            "offset, so messages are lost to the stream.",
            cure="Let them keep messages longer (retention.ms); remove the landed table to begin with what is left.",
        )


def _cells(values: list[Any]) -> pa.Array:
    """A column of whatever the messages hold; what has no one plain type becomes text."""
    try:
        array = pa.array(values)
    except (pa.ArrowException, TypeError, OverflowError):
        return pa.array([None if value is None else _text(value) for value in values], pa.string())
    if pa.types.is_nested(array.type):
        return pa.array([None if value is None else _text(value) for value in values], pa.string())
    return array


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return msgspec.json.encode(value).decode()
