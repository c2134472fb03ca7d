import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from collect_bank import COLUMNS, Bank, customer, make_node
from ruamel.yaml import YAML

from ftl.collect import Lake, collect, suggest, try_mapping
from ftl.collect.normalise import _CHECKS, _WEIGHTS
from ftl.consortium import Node
from ftl.consortium.model import Table
from ftl.errors import MappingError, SourceError


def resident(number: int) -> str:
    digits = f"11010519800101{number:03d}"
    return digits + _CHECKS[sum(int(d) * int(w) for d, w in zip(digits, _WEIGHTS, strict=True)) % 11]


def test_a_trial_shows_the_first_rows_before_and_after(bank: Bank) -> None:
    bank.write([customer(number) for number in range(40)])
    trial = try_mapping(bank.node, "customers", rows=3)
    assert trial.before.column("KNR").to_pylist() == [" ab0000x ", " ab0001x ", " ab0002x "]
    assert trial.after.select(["id_number", "phone", "children"]).to_pylist() == [
        {"id_number": "AB0000X", "phone": "861380000", "children": 0},
        {"id_number": "AB0001X", "phone": "861380001", "children": 1},
        {"id_number": "AB0002X", "phone": "861380002", "children": 2},
    ]
    assert (trial.outcomes, trial.reasons, trial.failures) == (("lands",) * 3, (None,) * 3, ())
    assert Lake(bank.node.landed("customers")).version is None


def test_a_trial_tells_every_failure_and_what_each_policy_makes_of_it(tmp_path: Path) -> None:
    columns = COLUMNS | {
        "children": {"from": "KIDS", "type": "int64", "on_error": "null", "default": 0},
        "born": {"from": "BORN", "type": "date", "on_error": "stop"},
    }
    with closing(sqlite3.connect(tmp_path / "core.db")) as connection, connection:
        names = list(customer(1))
        connection.execute(f"CREATE TABLE customers ({', '.join(names)})")
        rows = [
            customer(1),
            customer(2, KIDS="two"),
            customer(3, SCORE="x"),
            customer(4, BORN="?"),
            customer(5, KNR=""),
        ]
        places = ", ".join("?" for _ in names)
        connection.executemany(f"INSERT INTO customers VALUES ({places})", [tuple(row.values()) for row in rows])
    node = make_node(tmp_path, {"kind": "sqlite", "path": "core.db"}, columns=columns)
    trial = try_mapping(node, "customers")
    assert trial.outcomes == ("lands", "lands", "quarantine", "stop", "quarantine")
    assert [(one.row, one.column, one.expected, one.policy) for one in trial.failures] == [
        (1, "children", "int64", "null"),
        (2, "score", "int64", "quarantine"),
        (3, "born", "date", "stop"),
    ]
    assert trial.reasons[4] == "id_number: the key is missing"
    assert trial.after.column("children").to_pylist()[1] == 0


def test_a_trial_of_an_empty_source_has_no_rows(bank: Bank) -> None:
    trial = try_mapping(bank.node, "customers")
    assert (trial.before.num_rows, trial.after.num_rows, trial.outcomes) == (0, 0, ())


def test_a_trial_of_an_unknown_table_names_the_nearest(tmp_path: Path) -> None:
    node = make_node(tmp_path, {"kind": "sqlite", "path": "x"})
    with pytest.raises(MappingError, match=r"no table 'custmers'. Did you mean 'customers'\?"):
        try_mapping(node, "custmers")


def proposal(node: Node, table: str) -> tuple[str, dict[str, Any]]:
    text = suggest(node, "core", table)
    entries = YAML(typ="safe").load(text)
    ((_, entry),) = entries.items()
    return text, entry


def people(root: Path) -> Node:
    rows = ["客户号,ID_NO,Mobile,E-Mail,CreditLimit,Branch Code,是否,UPDATED_AT,Opened,NOTE,note"]
    rows += [
        f"K{n},{resident(n)},138{n:08d},u{n}@x.cn,{'NA' if n % 7 == 0 else 1000.5 * n},0{n % 9},"
        f"{'yes' if n % 2 else 'no'},2024-05-01 10:00:{n % 60:02d},2020-01-{1 + n % 28:02d}, {n % 3} kind,{n % 4} kind"
        for n in range(200)
    ]
    (root / "people.csv").write_text("\n".join(rows) + "\n")
    return make_node(root, {"kind": "csv", "path": "."}, table="people.csv", columns=COLUMNS)


def test_a_proposal_finds_types_ids_key_cursor_and_personal_data(tmp_path: Path) -> None:
    text, entry = proposal(people(tmp_path), "people.csv")
    columns = entry["columns"]
    assert {name: column["type"] for name, column in columns.items()} == {
        "column": "string",
        "id_no": "string",
        "mobile": "string",
        "e_mail": "string",
        "credit_limit": "float64",
        "branch_code": "string",
        "column_2": "bool",
        "updated_at": "timestamp",
        "opened": "date",
        "note": "string",
        "note_2": "string",
    }
    assert columns["credit_limit"] == {"from": "CreditLimit", "type": "float64", "missing": ["NA"]}
    spelt = {name: column["normalise"] for name, column in columns.items() if "normalise" in column}
    assert spelt == {"id_no": "resident_id", "mobile": "mobile_cn", "note": "trim"}
    assert (entry["key"], entry["cursor"]) == (["column"], "updated_at")
    flagged = [line.split(":")[0].strip() for line in text.splitlines() if "# personal data?" in line]
    assert flagged == ["id_no", "mobile", "e_mail"]


def test_a_proposal_holds_no_value_of_a_row(tmp_path: Path) -> None:
    text, _ = proposal(people(tmp_path), "people.csv")
    assert not any(value in text for value in (resident(1)[:6], "138000", "@x.cn", "kind", "2024-05", "K1"))


def test_a_proposal_lands_what_it_was_made_from(tmp_path: Path, clock: Any) -> None:
    _, entry = proposal(people(tmp_path), "people.csv")
    entry.pop("source")
    node = make_node(tmp_path, {"kind": "csv", "path": "."}, **entry | {"derived": {}})
    report = collect(node, "customers", "full", clock)
    assert (report.rows_landed, report.rows_quarantined) == (200, 0)
    rows = Lake(node.landed("customers")).read(["credit_limit", "mobile"]).to_pylist()
    assert rows[0] == {"credit_limit": None, "mobile": "13800000000"}


def test_a_proposal_can_be_made_from_every_kind_of_source(bank: Bank) -> None:
    bank.write([customer(number) for number in range(30)])
    table = bank.node.party.tables["customers"].table
    _, entry = proposal(bank.node, table)
    declared = Table.model_validate(entry)
    assert declared.key == ("knr",)
    assert declared.cursor == "upd"
    kinds = {name: declared.columns[name].type for name in ("lim", "kids", "born", "upd", "active", "tel")}
    assert kinds == {
        "lim": "float64",
        "kids": "int64",
        "born": "date",
        "upd": "timestamp",
        "active": "bool",
        "tel": "string",
    }
    assert declared.columns["sex"].missing == ("NA",)


def test_a_proposal_for_a_table_that_is_not_there_names_the_nearest(bank: Bank) -> None:
    table = bank.node.party.tables["customers"].table
    with pytest.raises(SourceError, match=rf"Did you mean '{table}'"):
        suggest(bank.node, "core", table.replace("customers", "custmers"))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_the_databases_own_primary_key_is_proposed_in_its_order(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    made = "CREATE TABLE payments (amount int, part int NOT NULL, loan int NOT NULL, PRIMARY KEY (loan, part))"
    filled = "INSERT INTO payments VALUES (1, 1, 1), (2, 2, 1), (3, 1, 2)"
    if kind == "sqlite":
        with closing(sqlite3.connect(tmp_path / "core.db")) as connection, connection:
            connection.execute(made)
            connection.execute(filled)
        source = {"kind": "sqlite", "path": "core.db"}
    elif kind == "postgresql":
        server = request.getfixturevalue("postgres")
        database = server.create_database()
        server.psql(database, f"{made}; {filled}")
        source = server.source(database)
    else:
        server = request.getfixturevalue("mariadb")
        database = server.create_database()
        server.run(database, made, filled)
        source = server.source(database)
    text, entry = proposal(make_node(tmp_path, source), "payments")
    assert entry["key"] == ["loan", "part"]
    assert "# the source's primary key" in text
