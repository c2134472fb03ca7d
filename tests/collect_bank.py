"""A bank with one table of simulated customers at each kind of source, and a private PostgreSQL server."""

import csv
import os
import secrets
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mariadb_server import Maria

from ftl.consortium import Consortium, Node

KINDS = ("sqlite", "csv", "parquet", "postgresql", "mariadb")
NAMES = ("KNR", "TEL", "LIM", "SEX", "KIDS", "BORN", "ACTIVE", "SCORE", "UPD")
POSTGRES = Path("/usr/lib/postgresql/15/bin")

COLUMNS: dict[str, Any] = {
    "id_number": {"from": "KNR", "type": "string", "normalise": "upper"},
    "phone": {"from": "TEL", "type": "string", "normalise": "digits"},
    "limit": {"from": "LIM", "type": "float64"},
    "sex": {"from": "SEX", "type": "string", "missing": ["NA"], "recode": {"1": "male", "2": "female"}},
    "children": {"from": "KIDS", "type": "int64", "default": 0},
    "born": {"from": "BORN", "type": "date"},
    "active": {"from": "ACTIVE", "type": "bool"},
    "score": {"from": "SCORE", "type": "int64", "missing": ["-1"]},
    "updated_at": {"from": "UPD", "type": "timestamp"},
}


def customer(number: int, **changes: Any) -> dict[str, Any]:
    """A row at the source; every third has no number of children, every fifth no known sex."""
    row = {
        "KNR": f" ab{number:04d}x ",
        "TEL": f"+86 138-{number:04d}",
        "LIM": 1000.5 + number,
        "SEX": "NA" if number % 5 == 0 else str(1 + number % 2),
        "KIDS": None if number % 3 == 0 else number % 4,
        "BORN": f"19{50 + number % 40}-02-03",
        "ACTIVE": "yes" if number % 2 else "no",
        "SCORE": "-1" if number % 7 == 0 else str(number),
        "UPD": f"2024-05-01 10:00:{number % 60:02d}",
    }
    return row | changes


def landed(row: dict[str, Any]) -> dict[str, Any]:
    """What the mapping must make of a row, worked out cell by cell."""
    sex = {"1": "male", "2": "female", "NA": None}
    limit = float(row["LIM"])
    return {
        "id_number": row["KNR"].strip().upper(),
        "phone": "".join(c for c in row["TEL"] if c.isdigit()),
        "limit": limit,
        "sex": sex[row["SEX"]],
        "children": row["KIDS"] or 0,
        "born": datetime.fromisoformat(row["BORN"]).date(),
        "active": row["ACTIVE"] == "yes",
        "score": None if row["SCORE"] == "-1" else int(row["SCORE"]),
        "updated_at": datetime.fromisoformat(row["UPD"]).replace(tzinfo=UTC),
        "per_child": limit / row["KIDS"] if row["KIDS"] else None,
    }


def make_node(root: Path, source: dict[str, Any], table: str = "customers", **changes: Any) -> Node:
    """A bank with one mapped table over `source`."""
    settings = {
        "source": "core",
        "table": table,
        "cursor": "updated_at",
        "columns": COLUMNS,
        "derived": {"per_child": '"limit" / nullif(children, 0)'},
    } | changes
    bank = {
        "role": "active",
        "sources": {"core": source},
        "tables": {"customers": settings},
        "features": {"table": "customers", "columns": ["limit"]},
        "label": {"column": "active", "positive": True},
    }
    consortium = {"version": 1, "name": "tests", "identifiers": ["id_number"], "parties": {"bank": bank}}
    loaded = Consortium.model_validate(consortium)
    return Node(root, "bank", loaded.parties["bank"], loaded)


@dataclass
class Bank:
    """A node and the way to set the whole content of its source table."""

    kind: str
    node: Node
    write: Callable[[list[dict[str, Any]]], None]


def open_bank(kind: str, root: Path, request: pytest.FixtureRequest, **changes: Any) -> Bank:
    """A bank over one kind of source; `changes` go into the table's settings."""
    if kind == "postgresql":
        server: Server = request.getfixturevalue("postgres")
        database = server.create_database()
        source, table = server.source(database), "customers"
        write = server.writer(database)
    elif kind == "mariadb":
        maria: Maria = request.getfixturevalue("mariadb")
        database = maria.create_database()
        source, table = maria.source(database), "customers"
        write = maria.writer(database)
    elif kind == "sqlite":
        source, table = {"kind": "sqlite", "path": "core.db"}, "customers"
        write = _sqlite_writer(root / "core.db")
    else:
        source, table = {"kind": kind, "path": "files"}, f"customers.{kind}"
        write = _file_writer(root / "files" / table, kind)
    write([])
    return Bank(kind, make_node(root, source, table, **changes), write)


def _sqlite_writer(path: Path) -> Callable[[list[dict[str, Any]]], None]:
    def write(rows: list[dict[str, Any]]) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS customers (KNR TEXT, TEL TEXT, LIM REAL, SEX TEXT, KIDS INTEGER, "
                "BORN TEXT, ACTIVE TEXT, SCORE TEXT, UPD TEXT)"
            )
            connection.execute("DELETE FROM customers")
            places = ", ".join(f":{name}" for name in NAMES)
            connection.executemany(f"INSERT INTO customers VALUES ({places})", rows)

    return write


def _file_writer(path: Path, kind: str) -> Callable[[list[dict[str, Any]]], None]:
    def write(rows: list[dict[str, Any]]) -> None:
        path.parent.mkdir(exist_ok=True)
        if kind == "parquet":
            times = [datetime.fromisoformat(row["UPD"]) for row in rows]
            columns = {name: [row[name] for row in rows] for name in NAMES} | {"UPD": times}
            kinds = {"LIM": pa.float64(), "KIDS": pa.int32(), "UPD": pa.timestamp("us")}
            arrays = {name: pa.array(columns[name], kinds.get(name, pa.string())) for name in NAMES}
            arrays["SEX"] = arrays["SEX"].dictionary_encode()
            pq.write_table(pa.table(arrays), path)
            return
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, NAMES)
            writer.writeheader()
            writer.writerows(rows)

    return write


@dataclass
class Server:
    """A PostgreSQL server of our own."""

    folder: Path
    port: int
    password: str
    databases: int = 0

    def psql(self, database: str, script: str) -> None:
        """Run SQL as the superuser."""
        command = [POSTGRES / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port)]
        environment = os.environ | {"PGPASSWORD": self.password}
        arguments = [*map(str, command), "-U", "steward", "-d", database]
        subprocess.run(arguments, input=script, text=True, check=True, env=environment, timeout=60)

    def start(self) -> None:
        """Start it on its port and wait until it answers."""
        data = f"{self.folder}/data"
        streams = "-c wal_level=logical -c max_replication_slots=30 -c max_wal_senders=30"
        options = f"-p {self.port} -h 127.0.0.1 -k '' -F {streams}"
        _as_postgres("pg_ctl", "-D", data, "-w", "-t", "60", "-l", f"{data}/log", "-o", options, "start")

    def crash(self) -> None:
        """End it at once, as a failure of the machine would."""
        if (self.folder / "data" / "postmaster.pid").exists():
            _as_postgres("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "-w", "stop")

    def create_database(self) -> str:
        """An empty database with the customers' table."""
        self.databases += 1
        name = f"bank_{self.databases}"
        self.psql("postgres", f"CREATE DATABASE {name}")
        self.psql(
            name,
            'CREATE TABLE customers ("KNR" text, "TEL" varchar(40), "LIM" numeric(12, 2), "SEX" char(2), '
            '"KIDS" smallint, "BORN" text, "ACTIVE" text, "SCORE" text, "UPD" timestamp)',
        )
        return name

    def source(self, name: str, **changes: Any) -> dict[str, Any]:
        """Settings of the source; the password lies in a file."""
        settings = {
            "kind": "postgresql",
            "host": "127.0.0.1",
            "port": self.port,
            "database": name,
            "user": "steward",
            "password_file": str(self.folder / "password"),
        }
        return settings | changes

    def writer(self, database: str) -> Callable[[list[dict[str, Any]]], None]:
        """Sets the whole content of the table."""

        def write(rows: list[dict[str, Any]]) -> None:
            lines = ["\t".join(r"\N" if row[name] is None else str(row[name]) for name in NAMES) for row in rows]
            script = "BEGIN;\nDELETE FROM customers;\nCOPY customers FROM stdin;\n"
            self.psql(database, script + "".join(f"{line}\n" for line in lines) + "\\.\nCOMMIT;\n")

        return write


@contextmanager
def running_server() -> Iterator[Server]:
    """Start a private PostgreSQL on a free port, and stop it."""
    if not (POSTGRES / "initdb").exists():
        pytest.fail("PostgreSQL 15 is missing: apt-get install postgresql", pytrace=False)
    folder = Path(tempfile.mkdtemp(prefix="ftl-postgres-"))
    password = secrets.token_hex(16)
    (folder / "password").write_text(password + "\n")
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root.
        folder.chmod(0o755)
        (folder / "password").chmod(0o644)
        (folder / "data").mkdir()
        shutil.chown(folder / "data", "postgres", "postgres")
    server = Server(folder, _free_port(), password)
    try:
        _as_postgres(
            "initdb",
            "-D",
            f"{folder}/data",
            "-U",
            "steward",
            "-A",
            "scram-sha-256",
            "-N",
            f"--pwfile={folder}/password",
        )
        server.start()
        yield server
    finally:
        server.crash()
        shutil.rmtree(folder)


def _as_postgres(program: str, *arguments: str) -> None:
    command = [str(POSTGRES / program), *arguments]
    if os.geteuid() == 0:
        command = ["runuser", "-u", "postgres", "--", *command]
    subprocess.run(command, check=True, timeout=120, cwd="/", stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
