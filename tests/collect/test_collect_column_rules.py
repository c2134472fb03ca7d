"""Rules of one column: times, currencies, pseudonyms."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from collect_bank import customer, make_node, open_bank

from ftl.collect import Lake, Mapping, collect, try_mapping
from ftl.collect.refused import current
from ftl.errors import MappingError

NOON = datetime(2024, 7, 1, 12, tzinfo=UTC)


def of(column: dict[str, Any], root: Path = Path("/nowhere"), **batch: Any) -> tuple[list[Any], list[str | None]]:
    """What becomes of the source column X."""
    columns = {"id_number": {"from": "ID", "type": "string"}, "x": {"from": "X"} | column}
    node = make_node(root, {"kind": "sqlite", "path": "x"}, columns=columns, derived={}, cursor=None)
    rows = len(next(iter(batch.values())))
    read = pa.record_batch({"ID": [str(place) for place in range(rows)], **batch})
    mapped = Mapping(node, "customers").apply(read)
    return mapped.rows.column("x").to_pylist(), mapped.reasons.to_pylist()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-07-01 20:00:00", NOON),
        ("2024-07-01T20:00", NOON),
        ("2024-07-01 12:00:00Z", NOON),
        ("2024-07-01 14:00:00+02:00", NOON),
    ],
)
def test_a_time_is_local_to_the_zone_unless_it_names_its_own(text: str, moment: datetime) -> None:
    assert of({"type": "timestamp", "zone": "Asia/Shanghai"}, X=[text]) == ([moment], [None])


def test_a_time_without_zone_in_a_typed_column_is_local_and_unix_seconds_are_not() -> None:
    local = pa.array([datetime(2024, 7, 1, 20)], pa.timestamp("ns"))  # noqa: DTZ001 - a source without zones
    assert of({"type": "timestamp", "zone": "Asia/Shanghai"}, X=local)[0] == [NOON]
    assert of({"type": "timestamp", "zone": "Asia/Shanghai"}, X=[int(NOON.timestamp())])[0] == [NOON]


def test_of_an_hour_that_comes_twice_the_first_is_meant_and_one_left_out_still_lands() -> None:
    read, _ = of({"type": "timestamp", "zone": "Europe/Berlin"}, X=["2024-10-27 02:30:00", "2024-03-31 02:30:00"])
    assert read == [datetime(2024, 10, 27, 0, 30, tzinfo=UTC), datetime(2024, 3, 31, 1, tzinfo=UTC)]


def test_dates_are_read_by_their_pattern_and_others_are_refused() -> None:
    read, reasons = of({"type": "date", "format": "%d.%m.%Y"}, X=["29.02.2024", " 01.03.2024 ", "2024-02-29", None])
    assert read == [date(2024, 2, 29), date(2024, 3, 1), None, None]
    assert reasons == [None, None, "x: cannot be read as date (%d.%m.%Y)", None]


def test_amounts_are_converted_by_the_rate_of_their_own_currency() -> None:
    column = {"type": "float64", "factor": 1000, "rates": {"CNY": 1, "USD": 7.0}, "rate_by": "CUR", "clip": [None, 9e4]}
    read, reasons = of(column, X=["1", "2", "50", "3", None], CUR=["CNY", " USD ", "USD", "EUR", None])
    assert read == [1000.0, 14000.0, 90000.0, None, None]
    assert reasons == [None, None, None, "x: cannot be read as float64 (in CNY, USD)", None]


@pytest.mark.parametrize("policy", ["null", "quarantine", "stop"])
def test_an_unknown_currency_follows_the_columns_policy(policy: str) -> None:
    column = {"type": "float64", "rates": {"CNY": 1}, "rate_by": "CUR", "on_error": policy}
    if policy == "stop":
        with pytest.raises(MappingError, match="1 values of source column 'X'"):
            of(column, X=["1"], CUR=["EUR"])
        return
    read, (reason,) = of(column, X=["1"], CUR=["EUR"])
    assert read == [None]
    assert (reason is None) == (policy == "null")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"type": "int64", "rates": {"CNY": 1}, "rate_by": "CUR"}, r"x\.rates: the column is int64"),
        ({"type": "float64", "rates": {"CNY": 1}}, "`rates` and `rate_by` belong together"),
        ({"type": "string", "format": "%Y"}, "no pattern of a string column"),
        ({"type": "date", "format": "dd.mm.yyyy"}, "'dd.mm.yyyy' is no pattern"),
        ({"type": "timestamp", "zone": "Asia/Shangai"}, r"no time zone.*Did you mean 'Asia/Shanghai'\?"),
        ({"type": "date", "zone": "Asia/Shanghai"}, "no time zone of a date column"),
        ({"type": "int64", "pseudonym": True}, r"x\.pseudonym: the column is int64"),
    ],
)
def test_rules_that_cannot_be_are_refused_before_any_row_is_read(column: dict[str, Any], message: str) -> None:
    with pytest.raises(MappingError, match=message):
        of(column, X=["1"], CUR=["CNY"])


def test_pseudonyms_are_equal_for_equal_texts_and_differ_from_node_to_node(tmp_path: Path) -> None:
    column = {"type": "string", "normalise": "upper", "pseudonym": True}
    here, _ = of(column, tmp_path / "a", X=["ab ", "AB", "cd", None])
    again, _ = of(column, tmp_path / "a", X=["cd"])
    there, _ = of(column, tmp_path / "b", X=["ab"])
    assert here[0] == here[1] != here[2] == again[0]
    assert here[3] is None
    assert len(here[0]) == 32
    assert there[0] not in here


def test_an_identifier_of_the_consortium_cannot_be_a_pseudonym(tmp_path: Path) -> None:
    columns = {"id_number": {"from": "ID", "type": "string", "pseudonym": True}}
    node = make_node(tmp_path, {"kind": "sqlite", "path": "x"}, columns=columns, derived={}, cursor=None)
    with pytest.raises(MappingError, match="an identifier of the consortium cannot be a pseudonym"):
        Mapping(node, "customers")


def test_a_raw_identifier_that_lands_as_a_pseudonym_is_nowhere_at_the_node(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    columns = {
        "id_number": {"from": "KNR", "type": "string"},
        "phone": {"from": "TEL", "type": "string", "normalise": "digits", "pseudonym": True},
        "limit": {"from": "LIM", "type": "float64"},
        "score": {"from": "SCORE", "type": "int64"},
    }
    bank = open_bank("sqlite", tmp_path, request, columns=columns, derived={}, cursor=None)
    bank.write([customer(number) for number in range(5)] + [customer(9, SCORE="?")])
    collect(bank.node, "customers", "full", lambda: NOON)
    phones = Lake(bank.node.landed("customers")).read(["phone"]).column("phone").to_pylist()
    assert len(set(phones)) == 5
    (refused,) = current(bank.node, "customers").column("raw").to_pylist()
    assert "138-0009" not in refused
    stored = b"".join(path.read_bytes() for path in bank.node.home.rglob("*") if path.is_file())
    for number in range(10):
        assert f"86138{number:04d}".encode() not in stored


def test_a_trial_shows_what_each_rule_refuses(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    columns = {
        "id_number": {"from": "KNR", "type": "string"},
        "limit": {"from": "LIM", "type": "float64", "rates": {"1": 1.0}, "rate_by": "SEX"},
        "born": {"from": "BORN", "type": "date", "format": "%Y/%m/%d"},
    }
    bank = open_bank("sqlite", tmp_path, request, columns=columns, derived={}, cursor=None)
    bank.write([customer(2), customer(1, BORN="1970/01/02")])
    tried = try_mapping(bank.node, "customers")
    assert [(failure.row, failure.column) for failure in tried.failures] == [(0, "born"), (1, "limit")]
    assert tried.failures[0].expected == "date (%Y/%m/%d)"
