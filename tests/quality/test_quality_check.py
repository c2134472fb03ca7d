import json
import re
from typing import Any

import pytest
from collect_bank import customer, landed
from quality_checked import Checked, with_settings

from ftl.collect import collect
from ftl.errors import LakeConflict, LakeError, QualityError
from ftl.quality import check, quarantined, read_validated, validated_version

LATER = "2024-05-02 00:00:00"


def published(checked: Checked) -> list[dict[str, Any]]:
    return read_validated(checked.node, "customers").to_pylist()


def refused(checked: Checked) -> dict[str, str]:
    rows = quarantined(checked.node, "customers")
    return dict(zip(rows.column("key").to_pylist(), rows.column("reason").to_pylist(), strict=True))


def test_rows_that_pass_are_published_and_the_others_quarantined_with_reasons(checked: Checked) -> None:
    source = [customer(number) for number in range(50)]
    source[4] = customer(4, LIM=-1.0)
    source[5] = customer(5, KNR="nonsense", LIM=9999.0)
    source[6] = customer(6, SCORE="?")
    report = checked.load(source)
    assert published(checked) == [landed(row) for number, row in enumerate(source) if number not in (4, 5, 6)]
    assert refused(checked) == {
        "AB0004X": "limit: is a limit",
        "NONSENSE": "id_number: is an id number; limit: is a limit",
        "AB0006X": "score: cannot be read as int64",
    }
    assert (report.rows, report.passed, report.quarantined) == (49, 47, 3)
    assert report.reasons == {
        "limit: is a limit": 2,
        "id_number: is an id number": 1,
        "score: cannot be read as int64": 1,
    }
    assert report.published
    assert report.published_version == validated_version(checked.node, "customers")


def test_a_quarantined_row_keeps_its_record_batch_and_time(checked: Checked) -> None:
    checked.load([customer(1), customer(4, LIM=-1.0)])
    (row,) = quarantined(checked.node, "customers").to_pylist()
    record = json.loads(row["raw"])
    assert (record["id_number"], record["limit"]) == ("AB0004X", -1.0)
    assert (row["stage"], row["batch"], row["at"].year) == ("quality", 1, 2024)


def test_an_expectation_of_severity_info_only_warns(checked: Checked) -> None:
    source = [customer(1, KIDS=5), customer(2)]
    report = checked.load(source)
    assert report.warnings == ["children: are at most two"]
    assert published(checked) == [landed(row) for row in source]


def test_a_check_without_news_publishes_nothing(checked: Checked) -> None:
    first = checked.load([customer(1)])
    second = check(checked.node, "customers", checked.clock)
    assert not second.published
    assert (second.rows, second.published_version) == (0, first.published_version)


def test_only_new_rows_are_checked_and_merged(checked: Checked) -> None:
    source = [customer(number) for number in range(20)]
    checked.load(source)
    source[3] = customer(3, LIM=777.0, UPD=LATER)
    source.append(customer(50, UPD=LATER))
    report = checked.load(source, "incremental")
    assert (report.rows, report.passed) == (2, 2)
    assert published(checked) == [landed(row) for row in source]


def test_a_repaired_row_gets_in_and_a_damaged_one_gets_out(checked: Checked) -> None:
    source = [customer(number) for number in range(6)]
    source[0] = customer(0, LIM=-1.0)
    source[1] = customer(1, SCORE="?")
    checked.load(source)
    source = [
        customer(0, UPD=LATER),
        customer(1, UPD=LATER),
        customer(2, UPD=LATER, LIM=-1.0),
        customer(3, UPD=LATER, SCORE="?"),
        *source[4:],
    ]
    checked.load(source, "incremental")
    assert published(checked) == [landed(source[number]) for number in (0, 1, 4, 5)]
    assert refused(checked) == {"AB0002X": "limit: is a limit", "AB0003X": "score: cannot be read as int64"}


def test_a_critical_failure_publishes_nothing_until_the_source_is_repaired(checked: Checked) -> None:
    good = [customer(number) for number in range(10)]
    first = checked.load(good)
    bad = [customer(number, LIM=0.01, UPD=LATER) for number in range(100, 105)]
    with pytest.raises(QualityError, match=r"bank\.customers: of 5 rows checked nothing was published.*median"):
        checked.load(good + bad, "incremental")
    assert published(checked) == [landed(row) for row in good]
    assert validated_version(checked.node, "customers") == first.published_version
    with pytest.raises(QualityError, match="the median is plausible"):
        check(checked.node, "customers", checked.clock)
    repaired = good + [customer(number, UPD="2024-05-03 00:00:00") for number in range(100, 105)]
    report = checked.load(repaired, "incremental")
    assert published(checked) == [landed(row) for row in repaired]
    assert (report.rows, report.quarantined) == (5, 0)


def test_repeated_identifiers_stop_the_batch_with_their_count_and_without_their_values(checked: Checked) -> None:
    source = [customer(number) for number in range(10)] + [customer(3), customer(4), customer(4)]
    with pytest.raises(QualityError, match="2 values of id_number appear more than once, but must be unique") as caught:
        checked.load(source)
    assert not re.search(r"AB000\d", str(caught.value))
    assert validated_version(checked.node, "customers") is None
    assert sorted(refused(checked)) == ["AB0003X", "AB0004X"]
    assert quarantined(checked.node, "customers").num_rows == 5
    report = checked.load(source[:10])
    assert (report.passed, report.quarantined) == (10, 0)


def test_identifiers_repeated_by_refused_rows_only_do_not_stop_the_batch(checked: Checked) -> None:
    report = checked.load([customer(1), customer(2, KNR="12345"), customer(3, KNR="12345")])
    assert report.passed == 1
    assert report.warnings == ["id_number: is unique: repeated by rows only that are refused for another reason"]


def test_new_rows_may_not_repeat_identifiers_published_under_another_key(checked: Checked) -> None:
    checked.bank.node = with_settings(checked.node, {"key": ["phone"]})
    checked.load([customer(1), customer(2)])
    with pytest.raises(QualityError, match="1 values of id_number appear more than once"):
        checked.load([customer(1), customer(2), customer(1, TEL="+86 777", UPD=LATER)], "incremental")
    assert published(checked) == [landed(customer(1)), landed(customer(2))]


def test_a_label_outside_its_set_is_quarantined(checked: Checked) -> None:
    columns = {"id_number": {"from": "KNR", "type": "string", "normalise": "upper"}}
    columns["bad"] = {"from": "KIDS", "type": "int64"}
    columns["updated_at"] = {"from": "UPD", "type": "timestamp"}
    table = {"columns": columns, "derived": {}, "suite": None}
    features = {"table": "customers", "columns": ["bad"]}
    checked.bank.node = with_settings(checked.node, table, label={"column": "bad"}, features=features)
    report = checked.load([customer(number, KIDS=kids) for number, kids in enumerate([0, 1, None, 2, 7])])
    assert report.passed == 3
    assert report.reasons == {"bad: the label is one of its declared values": 2}


def test_an_empty_table_is_not_published(checked: Checked) -> None:
    with pytest.raises(QualityError, match="the table has rows"):
        checked.load([])


def test_a_batch_in_which_no_row_passes_is_not_published(checked: Checked) -> None:
    with pytest.raises(QualityError, match="no row passes: limit: is a limit"):
        checked.load([customer(number, LIM=9000.0) for number in range(5)])


def test_a_changed_suite_checks_all_rows_again(checked: Checked) -> None:
    source = [customer(number) for number in range(10)]
    checked.load(source)
    path = checked.node.root / "expectations" / "customers.py"
    path.write_text(path.read_text().replace("max_value=5000", "max_value=1005"))
    report = check(checked.node, "customers", checked.clock)
    assert (report.rows, report.passed, report.quarantined) == (10, 5, 5)
    assert published(checked) == [landed(row) for row in source[:5]]
    path.write_text(path.read_text().replace("max_value=1005", "max_value=5000"))
    report = check(checked.node, "customers", checked.clock)
    assert (report.rows, report.passed, report.quarantined) == (10, 10, 0)


def test_rows_can_be_read_before_their_page_of_the_data_docs_is_written(checked: Checked) -> None:
    checked.node.docs.parent.mkdir(parents=True, exist_ok=True)
    checked.node.docs.write_text("where the pages should be", encoding="utf-8")
    with pytest.raises(OSError, match="data_docs"):
        checked.load([customer(number) for number in range(20)])
    assert read_validated(checked.node, "customers").num_rows == 20


def test_data_docs_show_the_checks_and_name_nobody(checked: Checked) -> None:
    source = [customer(number) for number in range(30)]
    source[5] = customer(5, KNR="nonsense", TEL="+86 555 1234")
    report = checked.load(source)
    pages = list(checked.node.docs.rglob("*.html"))
    assert checked.node.docs / "index.html" in pages
    assert report.data_docs == str(checked.node.docs / "index.html")
    stored = [*pages, *(checked.node.home / "gx").rglob("*.json")]
    text = "".join(path.read_text() for path in stored)
    assert "is an id number" in text
    for secret in ("NONSENSE", "5551234", "AB0001X", "AB0029X"):
        assert secret not in text


def test_logs_of_sync_and_check_name_nobody(checked: Checked, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    checked.load([customer(1), customer(2, KNR="nonsense"), customer(3, SCORE="?")])
    text = "\n".join(str(vars(record)) for record in caplog.records)
    assert "quality.checked" in text
    for secret in ("NONSENSE", "nonsense", "AB0001X", "AB0003X", "138-0001", "861380001"):
        assert secret not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def build(suite):\n    raise ValueError('no')\n", r"customers\.py fails: ValueError: no"),
        ("def biuld(suite):\n    pass\n", r"customers\.py fails: AttributeError"),
        (
            (
                "import great_expectations.expectations as gxe\n"
                "def build(suite):\n"
                "    suite.add_expectation(gxe.ExpectColumnValuesToNotBeNull(column='limt', severity='info'))\n"
            ),
            r'limt: .* could not be computed: .*"limt" in BatchData does not exist',
        ),
    ],
)
def test_a_broken_suite_is_named_and_publishes_nothing(checked: Checked, text: str, message: str) -> None:
    (checked.node.root / "expectations" / "customers.py").write_text(text)
    with pytest.raises(QualityError, match=message):
        checked.load([customer(1)])
    assert validated_version(checked.node, "customers") is None


def test_a_missing_suite_names_the_nearest_file(checked: Checked) -> None:
    checked.bank.node = with_settings(checked.node, {"suite": "expectations/custmers.py"})
    with pytest.raises(QualityError, match=r"no suite file .*custmers\.py. Did you mean 'customers\.py'\?"):
        checked.load([customer(1)])


def test_a_table_that_never_landed_cannot_be_checked_or_read(checked: Checked) -> None:
    with pytest.raises(LakeError, match=r"bank\.customers has not been collected yet"):
        check(checked.node, "customers", checked.clock)
    with pytest.raises(LakeError, match=r"bank\.customers has no published rows"):
        read_validated(checked.node, "customers")


def test_a_table_that_landed_with_another_mapping_is_not_checked(checked: Checked) -> None:
    checked.load([customer(1)])
    changed = with_settings(checked.node, {"derived": {}})
    with pytest.raises(LakeError, match="landed with another mapping"):
        check(changed, "customers", checked.clock)


def test_an_unknown_column_names_the_nearest(checked: Checked) -> None:
    checked.load([customer(2), customer(1)])
    assert read_validated(checked.node, "customers", ["sex", "limit"]).to_pylist() == [
        {"sex": "female", "limit": 1001.5},
        {"sex": "male", "limit": 1002.5},
    ]
    with pytest.raises(LakeError, match=r"has no column 'limt'. Did you mean 'limit'\?"):
        read_validated(checked.node, "customers", ["limt"])


def test_a_check_during_a_sync_says_so(checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftl.collect.lock.LOCK_SECONDS", 0)
    checked.load([customer(1)])
    checked.bank.write([customer(1), customer(2)])
    told = []

    def meanwhile(progress: Any) -> None:
        if progress.step == "prepared":
            with pytest.raises(LakeConflict, match=r"Cannot check bank\.customers"):
                check(checked.node, "customers", checked.clock)
            told.append(progress.step)

    collect(checked.node, "customers", "full", checked.clock, meanwhile)
    assert told == ["prepared"]
