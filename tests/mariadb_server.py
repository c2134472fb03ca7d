"""A private MariaDB server with a row-based binary log, and the customers' table of the tests in it."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql
import pytest

NAMES = ("KNR", "TEL", "LIM", "SEX", "KIDS", "BORN", "ACTIVE", "SCORE", "UPD")


@dataclass
class Maria:
    """A MariaDB server of our own."""

    folder: Path
    port: int
    password: str
    databases: int = 0
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    def start(self) -> None:
        """Start it on its port and wait until it answers."""
        command = [
            "mariadbd",
            "--no-defaults",
            f"--datadir={self.folder}/data",
            f"--socket={self.folder}/data/socket",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--log-bin={self.folder}/data/binlog",
            "--binlog-format=ROW",
            "--server-id=7",
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-buffer-pool-size=32M",
            "--skip-name-resolve",
            f"--log-error={self.folder}/data/error.log",
        ]
        if os.geteuid() == 0:  # mariadbd refuses to run as root.
            command = ["setpriv", "--reuid=mysql", "--regid=mysql", "--clear-groups", *command]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd="/")
        for _ in range(600):
            try:
                self.connect("mysql").close()
            except pymysql.MySQLError:
                assert self.process.poll() is None, (self.folder / "data" / "error.log").read_text()[-2000:]
                time.sleep(0.1)
            else:
                return
        pytest.fail("MariaDB did not start within a minute", pytrace=False)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it, with SIGKILL as a crash would."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(60)

    def connect(self, database: str) -> Any:
        """A connection of the steward, who may do anything."""
        return pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user="steward",
            password=self.password,
            database=database,
            autocommit=True,
        )

    def run(self, database: str, *statements: str) -> None:
        """Run SQL as the steward."""
        with closing(self.connect(database)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def create_database(self) -> str:
        """An empty database with the customers' table."""
        self.databases += 1
        name = f"bank_{self.databases}"
        self.run("mysql", f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        self.run(
            name,
            "CREATE TABLE customers (KNR varchar(40), TEL varchar(40), LIM decimal(12, 2), SEX char(2), KIDS smallint, "
            "BORN varchar(20), ACTIVE text, SCORE varchar(20), UPD datetime)",
        )
        return name

    def source(self, name: str, **changes: Any) -> dict[str, Any]:
        """Settings of the source; the password lies in a file."""
        settings = {
            "kind": "mariadb",
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
            with closing(self.connect(database)) as connection, connection.cursor() as cursor:
                connection.begin()
                cursor.execute("DELETE FROM customers")
                places = ", ".join(["%s"] * len(NAMES))
                cursor.executemany(
                    f"INSERT INTO customers VALUES ({places})", [[row[name] for name in NAMES] for row in rows]
                )
                connection.commit()

        return write


@contextmanager
def running_mariadb() -> Iterator[Maria]:
    """Start a private MariaDB on a free port, and stop it."""
    if shutil.which("mariadbd") is None:
        pytest.fail("MariaDB is missing: apt-get install mariadb-server", pytrace=False)
    folder = Path(tempfile.mkdtemp(prefix="ftl-mariadb-"))
    server = Maria(folder, _free_port(), secrets.token_hex(16))
    (folder / "password").write_text(server.password + "\n")
    (folder / "data").mkdir()
    options = ["--no-defaults", f"--datadir={folder}/data", "--skip-test-db"]
    if os.geteuid() == 0:
        folder.chmod(0o755)
        shutil.chown(folder / "data", "mysql", "mysql")
        options.append("--user=mysql")
    first = folder / "first.sql"
    first.write_text(
        "FLUSH PRIVILEGES;\n"
        f"CREATE USER steward@'127.0.0.1' IDENTIFIED BY '{server.password}';\n"
        "GRANT ALL ON *.* TO steward@'127.0.0.1' WITH GRANT OPTION;\n"
    )
    try:
        command = ["mariadb-install-db", *options, "--auth-root-authentication-method=normal", f"--extra-file={first}"]
        subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        server.start()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()
        shutil.rmtree(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
