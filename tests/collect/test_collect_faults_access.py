"""Wrong passwords, hosts, names and rights: every kind of source says which setting is wrong, and what to grant."""

import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collect_bank import Server, make_node
from confluent_kafka import KafkaError
from mariadb_server import Maria
from stream_run import now

from ftl.collect import collect, open_source
from ftl.collect.kafka import KafkaReader
from ftl.collect.stream import Pace, follow
from ftl.errors import SourceError, SourceUnavailable

NOBODY = 65_534


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to read everything, for as long as it is entered."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may enter, of which the test says who may read what."""
    folder = Path(tempfile.mkdtemp(prefix="ftl-access-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def _write(path: Path, kind: str) -> None:
    path.parent.mkdir(exist_ok=True)
    if kind == "sqlite":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE customers (KNR TEXT)")
    elif kind == "parquet":
        pq.write_table(pa.table({"KNR": ["a"]}), path)
    else:
        path.write_text('{"KNR": "a"}\n' if kind == "json_lines" else "KNR\na\n")


@pytest.mark.parametrize("kind", ["sqlite", "csv", "json_lines", "parquet"])
@pytest.mark.parametrize("closed", ["file", "folder"])
def test_a_file_that_may_not_be_read_is_named_with_what_to_allow(kind: str, closed: str, shared: Path) -> None:
    path = shared / "files" / "customers"
    _write(path, kind)
    (path if closed == "file" else path.parent).chmod(0)
    if kind == "sqlite":
        source, table = {"kind": kind, "path": str(path)}, "customers"
        message = r"core\.path: .*customers cannot be read: unable to open.*Let this user read the file and its folder"
    else:
        source, table = {"kind": kind, "path": str(path.parent)}, path.name
        message = r"core\.path: this user may not list .*files\..*Let it read and enter"
        if closed == "file":
            message = r"sources\.core: this user may not read .*customers\. Let it read the file"
    node = make_node(
        shared, source, table, columns={"id_number": {"from": "KNR", "type": "string"}}, derived={}, cursor=None
    )
    try:
        with as_nobody(), pytest.raises(SourceError, match=message):
            open_source(node, "core").columns(table)
    finally:
        path.parent.chmod(0o755)


def test_an_unknown_host_of_postgresql_is_named(tmp_path: Path, postgres: Server) -> None:
    node = make_node(tmp_path, postgres.source("postgres", host="nowhere.invalid"))
    with pytest.raises(SourceError, match=r"core\.host \(nowhere\.invalid\): .*Correct the host name"):
        open_source(node, "core").ping()


def test_a_postgresql_schema_that_may_not_be_used_is_named_with_its_grant(
    tmp_path: Path, postgres: Server, clock: Any
) -> None:
    database = postgres.create_database()
    role = f"guest_{database}"
    postgres.psql(
        database,
        f"CREATE SCHEMA inner_part; CREATE TABLE inner_part.customers (id text); "
        f"CREATE ROLE {role} LOGIN PASSWORD '{postgres.password}'",
    )
    columns = {"id_number": {"from": "id", "type": "string"}}
    source = postgres.source(database, user=role, schema="inner_part")
    node = make_node(tmp_path, source, columns=columns, derived={}, cursor=None)
    with pytest.raises(SourceError, match=rf"GRANT USAGE ON SCHEMA inner_part TO {role}; GRANT SELECT ON"):
        collect(node, "customers", "full", clock)
    postgres.psql(
        database, f"GRANT USAGE ON SCHEMA inner_part TO {role}; GRANT SELECT ON inner_part.customers TO {role};"
    )
    assert collect(node, "customers", "full", clock).rows_landed == 0


def test_a_wrong_mariadb_password_is_named_and_not_shown(tmp_path: Path, mariadb: Maria) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    node = make_node(tmp_path, mariadb.source("mysql", password_file=str(tmp_path / "password")))
    with pytest.raises(
        SourceError, match=r"core\.password_file: .*'Access denied'.*Correct `user` and the password"
    ) as caught:
        open_source(node, "core").ping()
    assert "hunter2" not in str(caught.value)


def test_brokers_at_an_unknown_host_are_named(tmp_path: Path) -> None:
    node = make_node(tmp_path, {"kind": "kafka", "servers": ["nowhere.invalid:9092"]})
    with pytest.raises(SourceUnavailable, match=r"no broker answers at nowhere\.invalid:9092 \(setting `servers`\)"):
        follow(node, ["customers"], now, threading.Event(), pace=Pace(patience=0.1))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (KafkaError.SASL_AUTHENTICATION_FAILED, r"core\.password_file: b1:9092 refuse user 'reader'\..*the password"),
        (KafkaError._AUTHENTICATION, r"core\.password_file: b1:9092 refuse user 'reader'\..*the password"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, r"user 'reader' may not read the topic\. Allow it READ and DESCRIBE"),
        (KafkaError._ALL_BROKERS_DOWN, r"no broker answers at b1:9092"),
    ],
)
def test_what_brokers_refuse_is_named_with_its_setting_or_grant(code: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    settings = {"kind": "kafka", "servers": ["b1:9092"], "user": "reader", "password_file": "password"}
    reader = open_source(make_node(tmp_path, settings | {"protocol": "sasl_plaintext"}), "core")
    assert isinstance(reader, KafkaReader)
    with pytest.raises(SourceError, match=message) as caught:
        raise reader.named(KafkaError(code))
    assert "hunter2" not in str(caught.value)
