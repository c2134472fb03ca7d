"""Everything that can be wrong with a consortium.yaml is named with its line and the nearest valid name."""

from pathlib import Path

import pytest

from ftl import consortium
from ftl.errors import ConsortiumError

SOUND = """\
version: 1
name: demo
identifiers: [id_number]
coordinator: { gateway_port: 8000, mlflow_port: 5000 }
parties:
  bank:
    role: active
    sources:
      core: { kind: sqlite, path: bank.db }
    tables:
      accounts:
        source: core
        table: ACCOUNTS
        key: [id_number]
        cursor: updated_at
        columns:
          id_number: { from: ID, type: string }
          credit_limit: { from: LIMIT, type: float64, recode: { 0: 1 } }
          balance: { from: BALANCE, type: float64, missing: [-1, 2005-10-01] }
          status: { from: STATUS, type: string }
          sample: { from: SAMPLE, type: string }
          updated_at: { from: UPDATED, type: timestamp }
        derived:
          utilisation: balance / nullif(credit_limit, 0)
          high: utilisation > 0.9
    label:
      column: status
      positive: bad
    features:
      table: accounts
      columns: [credit_limit, balance, utilisation, high]
      reasons:
        balance: { code: B01, text: Balance }
        high: { code: B01, text: Balance }
  partner:
    role: passive
    score_port: 8100
    sources:
      files: { kind: csv, path: partner }
    tables:
      people:
        source: files
        table: people.csv
        columns:
          id_number: { from: Id, type: string }
          sex: { from: Sex, type: string }
          age: { from: Age, type: int64 }
    features:
      table: people
      columns: [sex, age]
      categorical: [sex]
      protected: [sex, age]
training:
  holdout: { column: sample, value: test }
"""

# What is written instead of what; the line; the path; the message; the suggestion.
WRONG = {
    "misspelt key": ("identifiers:", "identifers:", 3, "identifers", "not a setting here", "identifiers"),
    "misspelt nested key": ("cursor:", "cursr:", 15, "parties.bank.tables.accounts.cursr", "not a setting", "cursor"),
    "misspelt port": ("mlflow_port", "mlflow_prt", 4, "coordinator.mlflow_prt", "not a setting", "mlflow_port"),
    "misspelt setting of a source": (
        "path: partner }",
        "path: partner, delimeter: ';' }",
        39,
        "parties.partner.sources.files.delimeter",
        "not a setting",
        "delimiter",
    ),
    "wrong version": ("version: 1", "version: 2", 1, "version", "2 cannot stand here", ""),
    "capital letters in a name": ("  partner:", "  Partner:", 35, "parties.Partner", "'Partner' cannot be a name", ""),
    "unknown role": ("role: passive", "role: pasive", 36, "parties.partner.role", "'pasive' cannot stand", "passive"),
    "unknown kind of source": ("kind: csv", "kind: cvs", 39, "parties.partner.sources.files.kind", "'cvs'", "csv"),
    "source without kind": ("kind: csv, ", "", 39, "parties.partner.sources.files.kind", "is missing", ""),
    "source without path": (", path: partner", "", 39, "parties.partner.sources.files.path", "is missing", ""),
    "unknown type": (
        "type: int64",
        "type: integer64",
        47,
        "parties.partner.tables.people.columns.age.type",
        "'integer64' cannot stand",
        "int64",
    ),
    "list where a scalar belongs": (
        "missing: [-1, 2005-10-01]",
        "missing: [[-1]]",
        19,
        "parties.bank.tables.accounts.columns.balance.missing[0]",
        "a list cannot stand here",
        "",
    ),
    "scalar where a mapping belongs": (
        "{ from: Age, type: int64 }",
        "Age",
        47,
        "parties.partner.tables.people.columns.age",
        "'Age' cannot stand here; expected a mapping",
        "",
    ),
    "port out of bounds": ("8100", "81000", 37, "parties.partner.score_port", "81000 cannot stand here", ""),
    "no identifier": ("[id_number]\ncoo", "[]\ncoo", 3, "identifiers", "expected at least one entry", ""),
    "bad reason code": ("code: B01, text: Balance }\n        high", "code: b, text: Balance }\n        high", 33,
                        "parties.bank.features.reasons.balance.code", "'b' cannot be a name", ""),
    "unknown source": ("source: core", "source: cor", 12, "parties.bank.tables.accounts.source", "not a source",
                       "core"),
    "unknown key column": (
        "key: [id_number]",
        "key: [idnumber]",
        14,
        "parties.bank.tables.accounts.key[0]",
        "'idnumber' is not a column of this table",
        "id_number",
    ),
    "unknown cursor": (
        "cursor: updated_at",
        "cursor: updatedat",
        15,
        "parties.bank.tables.accounts.cursor",
        "'updatedat' is not a column of this table",
        "updated_at",
    ),
    "derived cursor": (
        "cursor: updated_at",
        "cursor: utilisation",
        15,
        "parties.bank.tables.accounts.cursor",
        "'utilisation' is derived",
        "",
    ),
    "cursor of text": ("cursor: updated_at", "cursor: sample", 15, "parties.bank.tables.accounts.cursor",
                       "need not grow with time", ""),
    "unknown label": ("column: status", "column: statis", 27, "parties.bank.label.column", "is not a column", "status"),
    "label is a feature": ("utilisation, high]", "utilisation, status]", 31, "parties.bank.features.columns[3]",
                           "'status' is the label", ""),
    "identifier is a feature": ("[sex, age]\n      cat", "[sex, age, id_number]\n      cat", 50,
                                "parties.partner.features.columns[2]", "'id_number' is an identifier", ""),
    "time is a feature": ("utilisation, high]", "utilisation, updated_at]", 31, "parties.bank.features.columns[3]",
                          "'updated_at' is the cursor", ""),
    "unknown feature": ("utilisation, high]", "utilisation, hig]", 31, "parties.bank.features.columns[3]",
                        "'hig' is not a column", "high"),
    "feature twice": ("columns: [sex, age]", "columns: [sex, age, sex]", 50, "parties.partner.features.columns[2]",
                      "'sex' is listed 2 times", ""),
    "unknown feature table": ("table: people\n", "table: peeple\n", 49, "parties.partner.features.table",
                              "is not a table", "people"),
    "unknown categorical": ("categorical: [sex]", "categorical: [sx]", 51, "parties.partner.features.categorical[0]",
                            "is not among", "sex"),
    "unknown protected": ("protected: [sex, age]", "protected: [sex, agee]", 52,
                          "parties.partner.features.protected[1]", "is not among", "age"),
    "unknown reason": ("        balance: { code", "        balanc: { code", 33, "parties.bank.features.reasons.balanc",
                       "is not among", "balance"),
    "two texts of one reason": ("high: { code: B01, text: Balance }", "high: { code: B01, text: Other }", 34,
                                "parties.bank.features.reasons.high.text", "has another text above", ""),
    "unknown holdout": ("column: sample", "column: sampel", 54, "training.holdout.column", "not a column of bank",
                        "sample"),
    "identifier not mapped": ("id_number: { from: Id,", "idnumber: { from: Id,", 44,
                              "parties.partner.tables.people.columns.id_number", "'id_number' is an identifier of", ""),
    "identifiers of two types": ("from: Id, type: string", "from: Id, type: int64", 45,
                                 "parties.partner.tables.people.columns.id_number.type",
                                 "int64 here and string at 'bank'", ""),
    "two active parties": ("role: passive", "role: active", 36, "parties.partner.role", "and so is 'bank'", ""),
    "no active party": ("role: active", "role: passive", 5, "parties", "no party has `role: active`", ""),
    "label of a passive party": ("    score_port: 8100", "    label: { column: sex }", 37, "parties.partner.label",
                                 "a passive party has a label", ""),
    "active party without label": ("    label:\n      column: status\n      positive: bad\n", "", 6,
                                   "parties.bank.label", "the active party has no label", ""),
    "one port twice": ("8100", "8000", 37, "parties.partner.score_port",
                       "port 8000 is already that of coordinator.gateway_port", ""),
    "one home twice": ("score_port: 8100", "home: var/nodes/bank", 37, "parties.partner.home",
                       "folder 'var/nodes/bank' is already that of parties.bank.home", ""),
    "derived over an unknown column": ("balance / nullif", "balanse / nullif", 24,
                                       "parties.bank.tables.accounts.derived.utilisation", "'balanse' is not a column",
                                       "balance"),
    "derived is not SQL": ("utilisation > 0.9", "utilisation >", 25, "parties.bank.tables.accounts.derived.high",
                           "is not an SQL expression", ""),
    "derived reads a file": ("utilisation > 0.9", "(select count(*) from read_csv('/etc/passwd'))", 25,
                             "parties.bank.tables.accounts.derived.high", "is not an SQL expression", ""),
    "derived name taken": ("high: utilisation", "status: utilisation", 25,
                           "parties.bank.tables.accounts.derived.status", "already a mapped column", ""),
    "derived feature is a date": ("utilisation > 0.9", "updated_at::date", 31, "parties.bank.features.columns[3]",
                                  "derived as DATE", ""),
    "bad value of a number": ("positive: bad", "kind: number\n      positive: bad", 29, "parties.bank.label.positive",
                              "`positive` says nothing of a label of kind number", ""),
    "text as a number": ("positive: bad", "kind: number", 27, "parties.bank.label.column",
                         "'status' is a string, not a number", ""),
    "classes of a binary label": ("positive: bad", "classes: [a, b]", 28, "parties.bank.label.classes",
                                  "`classes` says nothing of a label of kind binary", ""),
    "one class": ("positive: bad", "kind: classes\n      classes: [a]", 29, "parties.bank.label.classes",
                  "one class, or the same class twice", ""),
    "one class twice": ("positive: bad", "kind: classes\n      classes: [a, b, a]", 29, "parties.bank.label.classes",
                        "one class, or the same class twice", ""),
    "unknown kind of label": ("positive: bad", "kind: clases", 28, "parties.bank.label.kind", "'clases' cannot stand",
                              "classes"),
    "unknown weight": ("positive: bad", "weight: balanc", 28, "parties.bank.label.weight", "is not a column",
                       "balance"),
    "weight of text": ("positive: bad", "weight: sample", 28, "parties.bank.label.weight",
                       "'sample' is a string, not a number", ""),
    "weight is a feature": ("positive: bad", "weight: balance", 31, "parties.bank.features.columns[1]",
                            "'balance' is the weight of the label", ""),
    "unknown monotone": ("      reasons:", "      monotone: { balanc: rising }\n      reasons:", 32,
                         "parties.bank.features.monotone.balanc", "is not among", "balance"),
    "monotone category": ("      protected:", "      monotone: { sex: rising }\n      protected:", 52,
                          "parties.partner.features.monotone.sex", "'sex' holds categories, which have no order", ""),
    "unknown direction": ("      protected:", "      monotone: { age: risin }\n      protected:", 52,
                          "parties.partner.features.monotone.age", "'risin' cannot stand", "rising"),
    "further identifier not mapped": ("name: demo", "name: demo\nalignment: { otherwise: [[phone]] }", 17,
                                      "parties.bank.tables.accounts.columns.phone",
                                      "'phone' is an identifier of the consortium", ""),
    "identifiers once more": ("name: demo", "name: demo\nalignment: { otherwise: [[id_number]] }", 3,
                              "alignment.otherwise[0]", "already identify people above", ""),
    "further identifier is a feature": ("name: demo", "name: demo\nalignment: { otherwise: [[sex]] }", 51,
                                        "parties.partner.features.columns[0]", "'sex' is an identifier", ""),
    "impossible padding": ("name: demo", "name: demo\nalignment: { pad: some }", 3, "alignment.pad",
                           "'some' cannot stand here", ""),
    "key written twice": ("positive: bad", "column: sample", 28, "parties.bank.label.column",
                          "written twice, first in line 27", ""),
}  # fmt: skip


def folder_with(text: str | bytes, tmp_path: Path) -> Path:
    (tmp_path / "consortium.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path


def test_a_sound_file_has_no_problem_and_loads_as_written(tmp_path: Path) -> None:
    folder = folder_with(SOUND, tmp_path)
    assert consortium.problems(folder) == []
    loaded = consortium.load(folder)
    columns = loaded.consortium.parties["bank"].tables["accounts"].columns
    assert loaded.root == tmp_path
    assert (loaded.consortium.active, loaded.consortium.passive) == ("bank", ("partner",))
    assert columns["credit_limit"].recode == {"0": 1}, "keys stay text as they are written"
    assert columns["balance"].missing == (-1, "2005-10-01"), "dates stay text"
    assert loaded.node("partner").landed("people") == tmp_path / "var/nodes/partner/lake/landed/people"


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_setting_is_named_with_line_and_nearest_name(case: str, tmp_path: Path) -> None:
    old, new, line, path, message, suggestion = WRONG[case]
    assert SOUND.count(old) >= 1
    found = consortium.problems(folder_with(SOUND.replace(old, new, 1), tmp_path))
    matching = [problem for problem in found if problem.path == path]
    assert [(problem.line, problem.suggestion) for problem in matching] == [(line, suggestion)], found
    assert message in str(matching[0])
    assert str(matching[0]).startswith(f"consortium.yaml:{line}: {path}: ")


def test_all_problems_are_reported_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    text = SOUND.replace("version: 1", "version: 2").replace("updated_at\n", "updatedat\n", 1)
    text = text.replace("balance / nullif", "balanse / nullif").replace("type: int64", "type: int")
    with pytest.raises(ConsortiumError, match="4 problems") as raised:
        consortium.load(folder_with(text, tmp_path))
    lines = [line.strip() for line in raised.value.message.splitlines()[1:]]
    assert [line.split(":")[1] for line in lines] == ["1", "15", "24", "47"]
    assert lines[1] == (
        "consortium.yaml:15: parties.bank.tables.accounts.cursor: 'updatedat' is not a column of this table; "
        "did you mean 'updated_at'?"
    )


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (SOUND.replace("    role: active", "\trole: active"), 7, "indented with a tab; expected spaces"),
        (SOUND.replace("[id_number]", "[id_number", 1), 4, "is not YAML"),
        (SOUND.replace("name: demo", "name: 'demo"), 2, "is not YAML"),
        (SOUND.encode().replace(b"demo", b"d\xe9mo"), 2, "byte 0xe9 is not UTF-8"),
        ("", 1, "the file is empty"),
        ("- a\n- b\n", 1, "the file is not a mapping"),
        ("version: &again [*again]\n", 1, "refers to a place that contains it"),
    ],
    ids=["tab", "open list", "open quote", "not UTF-8", "empty", "list", "endless"],
)
def test_a_file_that_is_not_yaml_says_where(text: str | bytes, line: int, message: str, tmp_path: Path) -> None:
    found = consortium.problems(folder_with(text, tmp_path))
    assert [problem.line for problem in found if message in str(problem)][:1] == [line], found


def test_a_folder_without_the_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConsortiumError, match=r"there is no such file.*ftl new DIR"):
        consortium.load(tmp_path)


def test_files_that_are_not_there_are_problems_only_when_asked(tmp_path: Path) -> None:
    text = SOUND.replace("cursor: updated_at", "suite: expectations/accounts.py", 1)
    folder = folder_with(text, tmp_path)
    (tmp_path / "partner").mkdir()
    (tmp_path / "partner" / "peoples.csv").touch()
    assert consortium.problems(folder) == []
    found = {problem.path: problem for problem in consortium.problems(folder, touch=True)}
    assert sorted(found) == [
        "parties.bank.sources.core.path",
        "parties.bank.tables.accounts.suite",
        "parties.partner.tables.people.table",
    ]
    assert found["parties.partner.tables.people.table"].suggestion == "peoples.csv"


def test_a_problem_found_elsewhere_gets_its_line(tmp_path: Path) -> None:
    folder = folder_with(SOUND, tmp_path)
    place = "parties.bank.tables.accounts.columns.balance.from"
    found = consortium.locate(folder, place, "'BALANCE' is not there", given="BALANCE", valid=("BALANCES", "ID"))
    assert str(found) == f"consortium.yaml:19: {place}: 'BALANCE' is not there; did you mean 'BALANCES'?"
    found = consortium.locate(folder, "parties.bank.sources.core", "no answer.", cure="Start it.")
    assert (found.line, found.message) == (9, "no answer. Start it.")
