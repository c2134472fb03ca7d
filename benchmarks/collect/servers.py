"""A PostgreSQL and a MariaDB of our own, on loopback, with the invoices in them."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POSTGRES = Path("/usr/lib/postgresql/15/bin")
START_SECONDS = 120
TABLE = """
CREATE TABLE invoices (
    invoice_id bigint PRIMARY KEY, number varchar(20), enterprise varchar(18), counterparty varchar(18),
    issued_at {time}, due date, amount {real}, tax {real}, kind varchar(10), void smallint, updated_at {time}
);
"""


@dataclass(frozen=True)
class Postgres:
    """A running server; its superuser is `steward`."""

    folder: Path
    port: int
    password: str

    @property
    def source(self) -> dict[str, Any]:
        """What consortium.yaml says of it."""
        return {
            "kind": "postgresql",
            "host": "127.0.0.1",
            "port": self.port,
            "database": "postgres",
            "user": "steward",
            "password_file": str(self.folder / "password"),
        }

    @property
    def url(self) -> str:
        """For peers."""
        return f"postgresql://steward:{self.password}@127.0.0.1:{self.port}/postgres"

    def psql(self, script: str, **pipes: Any) -> None:
        """Run SQL."""
        command = [str(POSTGRES / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", self.url, "-c", script]
        subprocess.run(command, check=True, **pipes)

    def load(self, csv: Path) -> None:
        """Add the rows of a CSV file to the invoices, replacing those of the same number."""
        with csv.open("rb") as file:
            self.psql(
                "CREATE TEMP TABLE fresh (LIKE invoices);"
                "COPY fresh FROM STDIN WITH (FORMAT csv, HEADER);"
                "INSERT INTO invoices SELECT * FROM fresh ON CONFLICT (invoice_id) DO UPDATE SET "
                "number=EXCLUDED.number, amount=EXCLUDED.amount, tax=EXCLUDED.tax, updated_at=EXCLUDED.updated_at;",
                stdin=file,
            )

    def fill(self, csv: Path) -> None:
        """Create the table with the rows of a CSV file."""
        self.psql("DROP TABLE IF EXISTS invoices;" + TABLE.format(time="timestamp", real="double precision"))
        with csv.open("rb") as file:
            self.psql("COPY invoices FROM STDIN WITH (FORMAT csv, HEADER)", stdin=file)
        self.psql("CREATE INDEX ON invoices (updated_at)")
        self.psql("VACUUM ANALYZE invoices")  # as a server does by itself; else the first reader would pay for it
        self.psql("CHECKPOINT")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Start a private PostgreSQL on a free port, and stop it."""
    folder = _folder("ftl-benchmark-postgres-", "postgres")
    server = Postgres(folder, free_port(), secrets.token_hex(16))
    (folder / "password").write_text(server.password + "\n")
    (folder / "password").chmod(0o644)
    data = folder / "data"
    try:
        _as("postgres", POSTGRES / "initdb", "-D", data, "-U", "steward", "-A", "scram-sha-256", "-N",
            f"--pwfile={folder}/password")  # fmt: skip
        options = (
            f"-p {server.port} -h 127.0.0.1 -k '' -c shared_buffers=512MB -c max_wal_size=4GB -c wal_level=logical"
        )
        _as("postgres", POSTGRES / "pg_ctl", "-D", data, "-w", "-l", data / "log", "-o", options, "start")
        yield server
    finally:
        if (data / "postmaster.pid").exists():
            _as("postgres", POSTGRES / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


@dataclass(frozen=True)
class MariaDb:
    """A running server; its user is `steward`."""

    folder: Path
    port: int
    password: str

    @property
    def source(self) -> dict[str, Any]:
        """What consortium.yaml says of it."""
        return {
            "kind": "mariadb",
            "host": "127.0.0.1",
            "port": self.port,
            "database": "benchmark",
            "user": "steward",
            "password_file": str(self.folder / "password"),
        }

    @property
    def url(self) -> str:
        """For peers."""
        return f"mysql+pymysql://steward:{self.password}@127.0.0.1:{self.port}/benchmark"

    @property
    def client(self) -> list[str]:
        """The server's own client, as a command."""
        return [
            "mariadb",
            "--no-defaults",
            "-h127.0.0.1",
            f"-P{self.port}",
            "-usteward",
            f"-p{self.password}",
            "--local-infile=1",
        ]

    def run(self, script: str) -> None:
        """Run SQL."""
        subprocess.run([*self.client, "-e", script], check=True, stdout=subprocess.DEVNULL)

    def fill(self, csv: Path) -> None:
        """Create the table with the rows of a CSV file."""
        self.run("CREATE DATABASE IF NOT EXISTS benchmark; DROP TABLE IF EXISTS benchmark.invoices")
        self.run("USE benchmark;" + TABLE.format(time="datetime(6)", real="double"))
        self.run(
            f"SET sql_log_bin = 0; LOAD DATA LOCAL INFILE '{csv}' INTO TABLE benchmark.invoices "
            "FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' IGNORE 1 LINES;"
            "CREATE INDEX updated ON benchmark.invoices (updated_at); ANALYZE TABLE benchmark.invoices"
        )


@contextmanager
def mariadb() -> Iterator[MariaDb]:
    """Start a private MariaDB on a free port, and stop it."""
    folder = _folder("ftl-benchmark-mariadb-", "mysql")
    server = MariaDb(folder, free_port(), secrets.token_hex(16))
    (folder / "password").write_text(server.password + "\n")
    (folder / "password").chmod(0o644)
    data = folder / "data"
    _as("mysql", "mariadb-install-db", "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal",
        "--skip-test-db")  # fmt: skip
    (folder / "init.sql").write_text(
        f"CREATE USER steward@'%' IDENTIFIED BY '{server.password}';\nGRANT ALL ON *.* TO steward@'%';\n"
    )
    (folder / "init.sql").chmod(0o644)
    command = _command("mysql", "mariadbd", "--no-defaults", f"--datadir={data}", f"--port={server.port}",
                       "--bind-address=127.0.0.1", f"--socket={data}/socket", f"--pid-file={data}/pid",
                       f"--init-file={folder}/init.sql", "--innodb-buffer-pool-size=512M", "--local-infile=1",
                       "--log-bin=binlog", "--binlog-format=ROW", "--binlog-row-image=FULL",
                       "--binlog-row-metadata=FULL",
                       "--server-id=1", "--gtid-strict-mode=1", f"--log-error={data}/log",
                       "--innodb-log-file-size=512M", "--skip-name-resolve")  # fmt: skip
    process = subprocess.Popen(command, cwd="/", stdin=subprocess.DEVNULL)
    try:
        _wait(process, server.port)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(folder)


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Until the server listens."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(f"the server does not listen on {port} after {START_SECONDS} s")


def _folder(prefix: str, user: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o755)
    (folder / "data").mkdir()
    if os.geteuid() == 0:
        shutil.chown(folder / "data", user, user)
    return folder


def _command(user: str, program: str | Path, *arguments: str | Path) -> list[str]:
    """As a user without rights where we are root, who may not run a server."""
    command = [str(program), *map(str, arguments)]
    return ["runuser", "-u", user, "--", *command] if os.geteuid() == 0 else command


def _as(user: str, program: str | Path, *arguments: str | Path) -> None:
    subprocess.run(
        _command(user, program, *arguments),
        check=True,
        cwd="/",
        timeout=START_SECONDS,
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
