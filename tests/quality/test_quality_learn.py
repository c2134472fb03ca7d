import ast
import re
from typing import Any

import pytest
from collect_bank import customer
from quality_checked import Checked, with_settings

from ftl.collect import collect
from ftl.errors import LakeError, QualityError
from ftl.quality import check, learn, quarantined, read_validated
from ftl.quality.accepted import read_accepted

LEARNED = "expectations/bank_customers_learned.py"
TRUSTED = [customer(number, SCORE=str(number)) for number in range(200)]


@pytest.fixture
def trusted(checked: Checked) -> Checked:
    """200 good rows, landed, and the suite learned from them in use."""
    checked.bank.write(TRUSTED)
    collect(checked.node, "customers", "full", checked.clock)
    learned = learn(checked.node, "customers", checked.clock)
    assert (learned.suite, learned.rows, learned.in_use) == (LEARNED, 200, False)
    checked.bank.node = with_settings(checked.node, {"suite": LEARNED})
    return checked


def text_of(checked: Checked) -> str:
    return (checked.node.root / LEARNED).read_text()


def test_a_learned_suite_says_types_gaps_ranges_codes_uniqueness_and_comparisons(trusted: Checked) -> None:
    named: dict[str, Any] = {}
    exec(compile(text_of(trusted), LEARNED, "exec"), named)  # noqa: S102 - what the product has just written
    assert named["KNOWN"] == ["id_number", "phone", "limit", "children", "born", "active", "score", "updated_at"]
    assert list(named["MOSTLY_KNOWN"]) == ["sex", "per_child"]
    assert 0.7 < named["MOSTLY_KNOWN"]["sex"] < 0.8
    assert named["RANGES"]["limit"] == (980.0, 1300.0)
    assert named["RANGES"]["children"] == (0.0, 3.3)
    assert named["CODES"] == {"sex": ["female", "male"]}
    assert named["UNIQUE"] == ["phone", "score"]
    assert named["LENGTHS"]["id_number"] == (7, 7)
    kinds = [type(one).__name__ for one in named["COMPARED"]]
    assert kinds[:3] == ["Typed", "Count", "Fresh"]
    assert {one.column for one in named["COMPARED"][3:]} == {"limit", "sex", "children", "score", "per_child"}
    ast.parse(text_of(trusted))


def test_the_load_that_a_suite_was_learned_from_passes_it_and_no_value_of_a_person_is_kept(trusted: Checked) -> None:
    report = check(trusted.node, "customers", trusted.clock)
    assert (report.rows, report.passed, report.quarantined) == (200, 200, 0)
    (late,) = report.warnings
    assert re.fullmatch(r"updated_at: the newest is at most 24 hours old; it is 73\d", late)
    remembered = (trusted.node.home / "lake" / "accepted" / "customers.json").read_text()
    pages = "".join(path.read_text() for path in trusted.node.docs.rglob("*.html"))
    assert "PSI of limit" in pages
    assert "is distributed as in the last accepted load" in pages
    for text in (text_of(trusted), remembered, pages):
        assert not re.search(r"AB0\d{3}X|86138\d{4}|1\d{3}\.5\b", text)


def test_a_learned_suite_refuses_what_was_not_like_that_before(trusted: Checked) -> None:
    rows = [*TRUSTED]
    rows[3], rows[4], rows[7] = rows[3] | {"LIM": 99_999.0}, rows[4] | {"SEX": "7"}, rows[7] | {"BORN": None}
    report = trusted.load(rows)
    assert (report.passed, report.quarantined) == (197, 3)
    assert report.reasons == {
        "limit: is from 980.0 to 1300.0": 1,
        "sex: is one of the known codes": 1,
        "born: is known": 1,
    }
    with pytest.raises(QualityError, match=r"the table has 0\.5 to 2 times the rows of the loads before; it is 0\.4"):
        trusted.load(TRUSTED[:80])
    assert read_validated(trusted.node, "customers").num_rows == 197
    assert [load.rows for load in read_accepted(trusted.node, "customers").loads] == [200, 200]


def test_a_shift_is_told_until_the_moved_load_was_accepted_and_chance_alone_is_none(trusted: Checked) -> None:
    moved = [customer(number, SCORE=str(number), LIM=1000.5 + number / 4) for number in range(200)]
    warnings = [one for one in trusted.load(moved).warnings if one.startswith("limit")]
    assert len(warnings) == 1
    assert re.fullmatch(
        r"limit: is distributed as in the last accepted load \(PSI at most 0\.3\d?\); it is [1-9]\.\d+", warnings[0]
    )
    few = [moved[number] | {"LIM": 1001.0, "UPD": "2024-05-03 00:00:00"} for number in (3, 150, 160)]
    kept = [row for number, row in enumerate(moved) if number not in {3, 150, 160}]
    report = trusted.load([*kept, *few], "incremental")
    assert report.rows == 3
    assert [one for one in report.warnings if "distributed" in one] == []
    again = trusted.load([*kept, *few, customer(1999, SCORE="200", LIM=1001.0)])
    assert not any(one.startswith("limit: is distributed") for one in again.warnings)


def test_a_file_that_was_learned_is_not_replaced_unasked(trusted: Checked) -> None:
    with pytest.raises(QualityError, match=r"There is a suite file .*bank_customers_learned\.py already"):
        learn(trusted.node, "customers", trusted.clock)
    (trusted.node.root / LEARNED).write_text("edited")
    assert learn(trusted.node, "customers", trusted.clock, overwrite=True).in_use
    assert "def build(" in text_of(trusted)


def test_a_table_without_rows_teaches_nothing(checked: Checked) -> None:
    with pytest.raises(LakeError, match=r"bank\.customers has no rows to learn from"):
        learn(checked.node, "customers", checked.clock)


def test_a_reference_to_another_table_is_learned_and_a_broken_one_quarantined(checked: Checked) -> None:
    checked.bank.node = with_settings(checked.node, {"suite": None})
    checked.load(TRUSTED)
    values = checked.node.consortium.model_dump(by_alias=True)
    loans = {
        "source": "core",
        "table": "customers",
        "key": ["phone"],
        "columns": {
            "phone": {"from": "TEL", "type": "string", "normalise": "digits"},
            "borrower": {"from": "KNR", "type": "string", "normalise": "upper"},
        },
    }
    values["parties"]["bank"]["tables"]["loans"] = loans
    checked.bank.node = with_settings(checked.node, tables=values["parties"]["bank"]["tables"])
    collect(checked.node, "loans", "full", checked.clock)
    learned = learn(checked.node, "loans", checked.clock)
    assert (
        "Refers('borrower', 'customers', 'id_number', severity='warning')"
        in (checked.node.root / learned.suite).read_text()
    )
    tables = values["parties"]["bank"]["tables"] | {"loans": loans | {"suite": learned.suite}}
    checked.bank.node = with_settings(checked.node, tables=tables)
    checked.bank.write([*TRUSTED, customer(777, SCORE="777")])
    collect(checked.node, "loans", "full", checked.clock)
    report = check(checked.node, "loans", checked.clock)
    assert report.reasons == {"borrower: is in customers.id_number": 1}
    assert quarantined(checked.node, "loans").column("key").to_pylist() == ["861380777"]


def test_a_comparison_of_an_unknown_column_names_the_nearest(trusted: Checked) -> None:
    path = trusted.node.root / LEARNED
    path.write_text(text_of(trusted).replace("Shift('limit'", "Shift('limt'"))
    with pytest.raises(QualityError, match=r"names the column 'limt'\. Did you mean 'limit'\?"):
        check(trusted.node, "customers", trusted.clock)
