"""What `consortium.yaml` says, as frozen typed objects.

Every model refuses unknown keys. Paths are relative to the folder that holds `consortium.yaml` and are resolved by
:class:`ftl.consortium.Folder`, never here. Defaults are chosen so that a small consortium writes little.
"""

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ftl.consortium.deciding import Income, Registry, Scorecard
from ftl.consortium.landing import Contract, Keep, NullCursor, Repeated
from ftl.consortium.servers import KafkaSource, MariaSource, Port, PostgresSource
from ftl.consortium.stores import DltSource, FileSource
from ftl.consortium.windows import WindowSource

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""A party, table or column name: lower-case letters, digits and underscores, as in SQL."""

Scalar = str | int | float | bool | None


class Settings(BaseModel):
    """Base: frozen, strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True)


class SqliteSource(Settings):
    """A SQLite database file."""

    kind: Literal["sqlite"]
    """Which sort of source this is."""
    path: PurePosixPath
    """The database file."""


Source = Annotated[
    SqliteSource | FileSource | PostgresSource | MariaSource | KafkaSource | DltSource | WindowSource,
    Field(discriminator="kind"),
]
ColumnType = Literal["string", "int64", "float64", "bool", "date", "timestamp"]
Normalise = Literal["none", "trim", "upper", "digits", "resident_id", "mobile_cn", "e164"]


class Column(Settings):
    """How one lake column comes out of one source column.

    Order of work: ``missing`` (source values that mean *unknown*), ``normalise``, ``recode``, cast to ``type``,
    ``factor``, ``rates``, ``clip``, ``default``, ``pseudonym``.
    """

    source: str = Field(alias="from")
    """Column of the source."""
    type: ColumnType
    """Type in the lake."""
    missing: tuple[Scalar, ...] = ()
    """Source values that mean *unknown*."""
    normalise: Normalise = "none"
    """What is done to the text first: nothing, cut outer blanks, capital letters, or digits only; or one spelling of a
    Chinese resident id (GB 11643-1999), a Chinese mobile number, or a phone number as E.164, of which a wrong one
    cannot be cast.
    """
    country_code: int = Field(86, ge=1, le=999)
    """Of national numbers, for `normalise: e164`."""
    recode: dict[str, Scalar] = {}
    """Source value, written as text, to new value. A value that is not listed is kept."""
    factor: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Turns the source's unit into the lake's, for example 1000 for thousands; of float64 columns."""
    rates: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}
    """Currency, as the source writes it, to what one unit of it is worth; of float64 columns."""
    rate_by: str | None = None
    """Source column that holds the currency of each row, for `rates`."""
    clip: tuple[float | None, float | None] = (None, None)
    """Lowest and highest value, null for none; what lies beyond becomes the bound. Of int64 and float64 columns."""
    default: Scalar = None
    """Stands in for a missing value."""
    format: str | None = None
    """How the source writes a date or time, as in `strptime`; ISO 8601 without."""
    zone: str = "UTC"
    """IANA name of the time zone of timestamps that name none. Of an hour that comes twice, the first is meant."""
    pseudonym: bool = False
    """Whether a string lands only as a hash under the node's own key; quarantined records hold the hash as well."""
    on_error: Literal["null", "quarantine", "stop"] = "quarantine"
    """What to do with a row whose value cannot be normalised or cast."""


class Table(Settings):
    """One table at a source and the lake table it lands in."""

    source: Name
    """One of the party's sources."""
    table: str
    """Table or view name at a database; file name or glob at a file source."""
    columns: dict[Name, Column]
    """Lake column to where it comes from."""
    key: tuple[Name, ...] = ()
    """Lake columns that identify a row; the consortium's identifiers when empty."""
    cursor: Name | None = None
    """Lake column (time or number) that grows when a row is written or changed; needed for incremental sync."""
    lag: float = Field(0, ge=0, allow_inf_nan=False)
    """How far before the newest cursor an incremental sync reads again, for rows that come late: seconds of a time or
    date, else in the cursor's own unit.
    """
    null_cursor: NullCursor = "wait"
    """A row without a cursor waits for the next full sync, is read by every incremental sync (which then reads the
    whole table), or goes to quarantine.
    """
    deleted: str | None = None
    """SQL expression over the lake columns (DuckDB dialect); a row for which it is true leaves the table."""
    repeated: Repeated = "stop"
    """Rows of one sync with the same key: an incremental sync stops and the quality check refuses them, or the newest
    by cursor lands, of equals the one read last.
    """
    history: bool = False
    """Whether every state of every row is kept, with the time from and until which it stood."""
    contract: Contract = Contract()
    """What happens when the columns of the source change."""
    keep: Keep = Keep()
    """How long old versions of the table stay readable."""
    derived: dict[Name, str] = {}
    """New column to SQL expression over this table's columns (DuckDB dialect), in order."""
    online: bool = False
    """Whether the newest row of each key is also kept where scoring finds it in microseconds."""
    suite: PurePosixPath | None = None
    """Python file with `build(suite)` that adds expectations; declared types and keys are always checked."""


class Label(Settings):
    """What is predicted. Only the active party has one."""

    column: Name
    """Lake column of the features' table."""
    kind: Literal["binary", "number", "classes"] = "binary"
    """Bad or good, a number such as income, or one of several classes."""
    positive: Scalar = 1
    """The value that means *default* (bad), of kind `binary`. Compared after mapping."""
    classes: tuple[Scalar, ...] = ()
    """The classes in their order, of kind `classes`; those found, sorted, when empty. Compared after mapping."""
    weight: Name | None = None
    """Lake column that says how much a labelled row counts, above 0; each counts 1 without."""


class Reason(Settings):
    """The adverse-action reason a column stands for."""

    code: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]{0,7}$")]
    """Short code; columns may share one, then with the same text."""
    text: str
    """What an applicant is told."""
    text_zh: str = ""
    """The same in Chinese; of columns that share a code, the first that has one counts."""


class Features(Settings):
    """Which columns a recipe may use, and how."""

    table: Name
    """One of the party's tables."""
    columns: tuple[Name, ...]
    """Mapped or derived columns; never an identifier, the label, the cursor or the holdout column."""
    categorical: tuple[Name, ...] = ()
    """Columns whose numbers are codes. String and bool columns are always categorical."""
    monotone: dict[Name, Literal["rising", "falling"]] = {}
    """Column to the only direction in which the answer may go when its value grows; not of categorical columns."""
    protected: tuple[Name, ...] = ()
    """Attributes that the law protects: never named as a reason."""
    proxies: tuple[Name, ...] = ()
    """Columns that stand for a protected attribute: never named as a reason either."""
    reasons: dict[Name, Reason] = {}
    """Column to the reason it stands for; a column without one is never named."""

    @property
    def named(self) -> dict[str, Reason]:
        """The reasons that may be given: those of columns that are neither protected nor stand for such a one."""
        silent = {*self.protected, *self.proxies}
        return {column: reason for column, reason in self.reasons.items() if column not in silent}


class Party(Settings):
    """One organisation and its node."""

    role: Literal["active", "passive"]
    """Exactly one party is active: the one with the label."""
    title: str = ""
    """Name for people."""
    home: PurePosixPath | None = None
    """The node's folder: lake, keys, models. Default `var/nodes/NAME`."""
    score_port: Port = 0
    """Of the score server; 0 picks a free one."""
    sources: dict[Name, Source]
    """Where the party's data are."""
    tables: dict[Name, Table]
    """What is read, and what it becomes."""
    features: Features
    """What a recipe may use."""
    grant: str = ""
    """What the party allows its rows to be used for, and who agreed; stands in the model card."""
    label: Label | None = None
    """What is predicted; at the active party only."""


class Coordinator(Settings):
    """The neutral site: federation server, Airflow, MLflow, gateway. A port of 0 picks a free one."""

    home: PurePosixPath = PurePosixPath("var/coordinator")
    """The coordinator's folder."""
    host: str = "127.0.0.1"
    """Address that the services listen on."""
    federation_port: Port = 0
    """Of the federation server."""
    admin_port: Port = 0
    """Of the federation server's administration."""
    airflow_port: Port = 0
    """Of Airflow."""
    mlflow_port: Port = 0
    """Of MLflow."""
    gateway_port: Port = 0
    """Of the scoring gateway."""
    gateway_processes: int | None = Field(None, ge=1)
    """That answer as one gateway; one per processor core when null."""
    prices: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    """Service code, or `scores`, to the price of one answer as it is metered; what is not named costs nothing."""


class Holdout(Settings):
    """Which of the active party's labelled rows are kept for evaluation only."""

    column: Name | None = None
    """A lake column of the active party that says so; without, a stratified random `fraction` is drawn."""
    value: Scalar = "test"
    """What stands in that column for people kept for evaluation. Compared after mapping."""
    fraction: float = Field(0.2, gt=0, lt=1)
    """Used when no column is named."""


class Alignment(Settings):
    """How the people are found whom all parties know."""

    otherwise: tuple[Annotated[tuple[Name, ...], Field(min_length=1)], ...] = ()
    """Further identifiers in falling precedence, for people whom those before did not find; each one or more columns.
    """
    result: Literal["both", "one"] = "both"
    """`both`: every party learns who is shared. `one`: only the active party does; such a run only counts."""
    pad: Literal["none", "power_of_two"] | Annotated[int, Field(ge=1, le=1 << 31)] = "none"
    """How many people a party shows to have: as many as it has, the next power of two, or this number."""


class Training(Settings):
    """What `ftl run` trains when nothing else is asked."""

    recipe: str = "transfer_boost"
    """How to train."""
    seed: int = 0
    """Of every draw that must repeat."""
    settings: dict[str, Any] = {}
    """Passed to the recipe's own settings model, which checks them."""
    holdout: Holdout = Holdout()
    """Who is kept for evaluation only."""
    model_name: str = "credit_risk"
    """In the model registry."""
    timeout_seconds: float = Field(300, gt=0)
    """Longest wait for any one message of a peer."""


class Simulation(Settings):
    """Present only where all data are ours (a scenario): lets the pooled reference be computed."""

    links: PurePosixPath
    """Parquet file: one column per party with that party's row identifier (joined identifiers), one row per person."""
    notice: str
    """Says in the report and on every page what is simulated."""


class Consortium(Settings):
    """The whole of `consortium.yaml`."""

    version: Literal[1]
    """Of this file's format."""
    name: Name
    """Of the consortium."""
    identifiers: tuple[Name, ...] = Field(min_length=1)
    """Lake columns that together identify a person; every party maps them, normalised alike."""
    alignment: Alignment = Alignment()
    """How shared people are found."""
    coordinator: Coordinator = Coordinator()
    """The neutral site."""
    parties: dict[Name, Party]
    """One active party and one or more passive ones."""
    training: Training = Training()
    """What is trained."""
    scorecard: Scorecard = Scorecard()
    """How a probability becomes a score."""
    income: Income | None = None
    """Where the consortium also has a model of income."""
    registry: Registry = Registry()
    """What a model must show before it competes."""
    simulation: Simulation | None = None
    """Only where all data are ours."""

    @property
    def active(self) -> str:
        """Name of the active party."""
        return next(name for name, party in self.parties.items() if party.role == "active")

    @property
    def passive(self) -> tuple[str, ...]:
        """Names of the passive parties, in the order of the file."""
        return tuple(name for name, party in self.parties.items() if party.role == "passive")
