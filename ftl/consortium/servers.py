"""Settings of sources that are servers: databases and topics. Passwords come from a file or an environment variable."""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=0, le=65535)]


class Server(BaseModel):
    """Base: frozen, strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True)


class PostgresSource(Server):
    """A PostgreSQL database. The password comes from a file or an environment variable, never from this file."""

    kind: Literal["postgresql"]
    """Which sort of source this is."""
    host: str = "localhost"
    """Name or address of the server."""
    port: Port = 5432
    """Of the server."""
    database: str
    """Name of the database."""
    user: str
    """Who reads; needs SELECT on the tables; for a stream also REPLICATION, and to own the tables."""
    db_schema: str = Field("public", alias="schema")
    """Schema that holds the tables."""
    readers: int = Field(1, ge=1, le=16)
    """Connections that read a whole table at once, in one snapshot; from PostgreSQL 14 on."""
    password_env: str | None = None
    """Environment variable that holds the password."""
    password_file: PurePosixPath | None = None
    """File whose first line is the password."""


class MariaSource(Server):
    """A MariaDB or MySQL database. The password comes from a file or an environment variable, never from this file."""

    kind: Literal["mariadb", "mysql"]
    """Which sort of source this is. Streams are read from MariaDB only."""
    host: str = "localhost"
    """Name or address of the server."""
    port: Port = 3306
    """Of the server."""
    database: str
    """Name of the database."""
    user: str
    """Who reads; needs SELECT on the tables; for a stream also REPLICATION SLAVE and BINLOG MONITOR."""
    password_env: str | None = None
    """Environment variable that holds the password."""
    password_file: PurePosixPath | None = None
    """File whose first line is the password."""


class KafkaSource(Server):
    """Topics of a Kafka cluster; a table names a topic. The password comes from a file or an environment variable."""

    kind: Literal["kafka"]
    """Which sort of source this is."""
    servers: tuple[str, ...] = Field(min_length=1)
    """HOST:PORT of one or more brokers."""
    format: Literal["json", "avro"] = "json"
    """Of the messages' values."""
    schemas: dict[str, PurePosixPath] = {}
    """Topic to the file with its Avro schema (`.avsc`)."""
    registry_header: bool = False
    """Whether a schema registry's five bytes stand before each Avro value."""
    protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    """How to speak to the brokers."""
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How a user proves who it is; with `user` only."""
    user: str | None = None
    """Who reads."""
    ca_file: PurePosixPath | None = None
    """Certificates to trust instead of the system's."""
    password_env: str | None = None
    """Environment variable that holds the password."""
    password_file: PurePosixPath | None = None
    """File whose first line is the password."""
