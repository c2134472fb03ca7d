from collect_bank import customer
from quality_checked import Checked

from ftl.quality import Refusals, refusals


def test_refused_rows_are_counted_by_stage_and_reason_until_they_land(checked: Checked) -> None:
    source = [customer(number) for number in range(6)]
    source[1] = customer(1, LIM=-1.0)
    source[2] = customer(2, LIM=9999.0, KNR="nonsense")
    source[3] = customer(3, SCORE="?")
    checked.load(source)
    found = refusals(checked.node, "customers")
    assert found[0] == Refusals("customers", "quality", "limit: is a limit", 2)
    assert {(one.stage, one.reason, one.rows) for one in found[1:]} == {
        ("quality", "id_number: is an id number", 1),
        ("collect", "score: cannot be read as int64", 1),
    }
    checked.load([customer(number) for number in range(6)])
    assert refusals(checked.node, "customers") == []
