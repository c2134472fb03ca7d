import json
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest
from collect_bank import COLUMNS, customer, landed, make_node
from confluent_kafka import Producer
from stream_run import lake_rows, now, started, streaming, until

from ftl.collect import Lake, current, open_source
from ftl.collect.stream import Pace, follow, status_of
from ftl.consortium import Node
from ftl.errors import SourceError, SourceUnavailable

SCHEMA = {
    "type": "record",
    "name": "customer",
    "fields": [
        {"name": "KNR", "type": "string"},
        {"name": "TEL", "type": ["null", "string"]},
        {"name": "LIM", "type": "double"},
        {"name": "SEX", "type": "string"},
        {"name": "KIDS", "type": ["null", "int"]},
        {"name": "BORN", "type": "string"},
        {"name": "ACTIVE", "type": "string"},
        {"name": "SCORE", "type": "string"},
        {"name": "UPD", "type": "string"},
    ],
}


class Topic:
    """A topic of four partitions at a broker of our own, which speaks Kafka's protocol on loopback."""

    def __init__(self, avro: bool = False) -> None:
        self.producer = Producer({"bootstrap.servers": "", "test.mock.num.brokers": 1, "log_level": 0})
        brokers = self.producer.list_topics(timeout=30).brokers.values()
        self.servers = [f"{broker.host}:{broker.port}" for broker in brokers]
        until(lambda: bool(self.producer.list_topics("customers", timeout=30).topics["customers"].partitions))
        self.avro, self.rows = avro, dict[int, dict[str, Any]]()

    def send(self, number: int, row: dict[str, Any] | None) -> None:
        """A customer's new state, or (None) its deletion."""
        key = json.dumps({"KNR": f" ab{number:04d}x "})
        self.raw(key.encode(), None if row is None else self._encoded(row))
        if row is None:
            self.rows.pop(number, None)
        else:
            self.rows[number] = row

    def raw(self, key: bytes, value: bytes | None) -> None:
        self.producer.produce("customers", key=key, value=value)

    def flush(self) -> None:
        assert self.producer.flush(30) == 0

    def expected(self) -> list[dict[str, Any]]:
        rows = [landed(row) for row in self.rows.values() if row["SCORE"] != "?"]
        return sorted(rows, key=lambda row: row["id_number"])

    def node(self, root: Path, **changes: Any) -> Node:
        return make_node(root, {"kind": "kafka", "servers": self.servers} | changes)

    def _encoded(self, row: dict[str, Any]) -> bytes:
        if not self.avro:
            return json.dumps(row).encode()
        file = BytesIO()
        fastavro.schemaless_writer(file, SCHEMA, row)
        return file.getvalue()


@pytest.fixture(params=["json", "avro"])
def topic(request: pytest.FixtureRequest, tmp_path: Path) -> Topic:
    (tmp_path / "customer.avsc").write_text(json.dumps(SCHEMA))
    return Topic(request.param == "avro")


def settings(topic: Topic) -> dict[str, Any]:
    return {"format": "avro", "schemas": {"customers": "customer.avsc"}} if topic.avro else {}


def test_a_topic_lands_as_the_newest_state_of_each_key(topic: Topic, tmp_path: Path) -> None:
    node = topic.node(tmp_path, **settings(topic))
    for number in range(60):
        topic.send(number, customer(number))
    topic.flush()
    with streaming(node):
        until(lambda: lake_rows(node) == topic.expected())
        topic.send(3, customer(3, LIM=7.0))
        topic.send(4, None)
        topic.send(4, customer(4, LIM=8.0))
        topic.send(5, None)
        topic.send(6, customer(6, SCORE="?"))
        topic.raw(b"x", b"\xff poison")
        topic.send(7, customer(7, LIM=9.0))
        topic.flush()
        until(lambda: lake_rows(node) == topic.expected())
        until(lambda: current(node, "customers").num_rows == 2)
    refused = current(node, "customers").to_pylist()
    assert {row["key"] for row in refused} == {None, "AB0006X"}
    assert "\\xff poison" in next(row["raw"] for row in refused if row["key"] is None)


def test_an_unreadable_event_of_a_table_with_pseudonyms_is_kept_without_its_content(tmp_path: Path) -> None:
    topic = Topic()
    hidden = {"phone": COLUMNS["phone"] | {"pseudonym": True}}
    node = make_node(tmp_path, {"kind": "kafka", "servers": topic.servers}, columns=COLUMNS | hidden)
    topic.send(1, customer(1))
    topic.flush()
    poison = b'{"TEL": "+86 138-0002"'
    with streaming(node):
        until(lambda: len(lake_rows(node)) == 1)
        topic.raw(b"x", poison)
        topic.flush()
        until(lambda: current(node, "customers").num_rows == 1)
    assert current(node, "customers").column("raw").to_pylist() == [f"withheld: {len(poison)} characters"]


def test_a_topic_goes_on_from_the_offsets_in_the_lake(tmp_path: Path) -> None:
    topic = Topic()
    node = topic.node(tmp_path)
    topic.send(1, customer(1))
    topic.flush()
    with streaming(node):
        until(lambda: lake_rows(node) == topic.expected())
    topic.send(2, customer(2))
    topic.send(1, None)
    topic.flush()
    with streaming(node):
        until(lambda: lake_rows(node) == topic.expected())
    status = status_of(node, "customers")
    assert status is not None
    assert status.rows == 2  # what had landed was not read again
    offsets = Lake(node.landed("customers")).marks(*(f"kafka.{partition}" for partition in range(4)))
    assert sum(offset or 0 for offset in offsets) == 3


def test_a_topic_that_is_not_there_names_the_nearest_one(tmp_path: Path) -> None:
    topic = Topic()
    node = make_node(tmp_path, {"kind": "kafka", "servers": topic.servers}, table="custmers")
    with pytest.raises(SourceError, match=r"no topic 'custmers'\. Did you mean 'customers'\?"):
        open_source(node, "core").columns("custmers")


def test_a_topic_is_no_table(tmp_path: Path) -> None:
    topic = Topic()
    reader = open_source(topic.node(tmp_path), "core")
    assert reader.tables() == ("customers",)
    with pytest.raises(SourceError, match=r"cannot be read as a table.*--mode stream"):
        reader.snapshot("customers", ["KNR"])


def test_absent_brokers_are_named(tmp_path: Path) -> None:
    node = make_node(tmp_path, {"kind": "kafka", "servers": ["127.0.0.1:1"]})
    with pytest.raises(SourceUnavailable, match=r"no broker answers at 127\.0\.0\.1:1"):
        follow(node, ["customers"], now, threading.Event(), pace=Pace(patience=0.1))
    assert not started(node)
