import numpy as np

from ftl import decision
from ftl.protocols import Combiner, SubScores

ALL = 0b1111


def scores(known: list[bool], leaves: list[int], **more: object) -> SubScores:
    return SubScores(
        known=np.array(known),
        log_odds=np.zeros(len(known)),
        leaves=np.array([[mask] for mask in leaves], dtype=np.uint64),
        **more,  # type: ignore[arg-type]
    )


def relaxed(*masks: int) -> tuple[np.ndarray, np.ndarray]:
    return np.array([0]), np.array([[mask] for mask in masks], dtype=np.uint64)


TREE = Combiner(trees=[[0.4, 0.1, -0.2, -0.5]], scale=2.0, parties=["bank", "partner"])


def test_a_tree_loses_its_leafs_value_minus_the_best_leaf_the_freed_columns_reach() -> None:
    bank = scores([True], [0b0011])
    partner = scores([True], [0b0101], relaxed={"LATE": relaxed(ALL)})
    # Both reach leaf 0 (0.4). Were the partner's columns free, the bank's own mask still allows leaves 0 and 1 (0.1).
    assert decision.losses(TREE, {"bank": bank, "partner": partner}) == {"LATE": np.array([2 * (0.4 - 0.1)])}


def test_a_reason_that_both_parties_name_is_freed_at_both_at_once() -> None:
    bank = scores([True], [0b0011], relaxed={"BILL": relaxed(ALL)})
    partner = scores([True], [0b0101], relaxed={"BILL": relaxed(0b0111)})
    lost = decision.losses(TREE, {"bank": bank, "partner": partner})
    assert lost["BILL"][0] == 2 * (0.4 + 0.2)


def test_what_a_party_lost_in_its_own_part_is_added_to_what_the_trees_lost() -> None:
    bank = scores([True], [0b0011], lost={"LATE": np.array([0.3]), "USE": np.array([0.1])})
    partner = scores([True], [0b0101], relaxed={"LATE": relaxed(ALL)})
    lost = decision.losses(TREE, {"bank": bank, "partner": partner})
    assert lost["LATE"][0] == 0.3 + 2 * (0.4 - 0.1)
    assert lost["USE"][0] == 0.1


def test_trees_cost_nothing_for_a_person_the_partner_does_not_know() -> None:
    bank = scores([True, True], [0b0011, 0b0011], lost={"USE": np.array([0.2, 0.2])})
    partner = scores([True, False], [0b0101, ALL], relaxed={"LATE": relaxed(ALL, ALL)})
    lost = decision.losses(TREE, {"bank": bank, "partner": partner})
    assert lost["LATE"].tolist() == [2 * (0.4 - 0.1), 0.0]
    assert lost["USE"].tolist() == [0.2, 0.2]


def test_without_the_partners_answer_only_the_active_partys_own_losses_remain() -> None:
    bank = scores([True], [0b0011], lost={"USE": np.array([0.2])}, relaxed={"USE": relaxed(ALL)})
    assert decision.losses(TREE, {"bank": bank}) == {"USE": np.array([0.2])}


def test_a_negative_scale_turns_the_best_leaf_around() -> None:
    turned = Combiner(trees=[[0.4, 0.1]], scale=-1.0, parties=["bank"])
    bank = scores([True], [0b10], relaxed={"USE": relaxed(0b11)})
    assert np.allclose(decision.losses(turned, {"bank": bank})["USE"], -0.1 + 0.4)


def test_reasons_are_the_costliest_four_and_equal_ones_stand_by_code() -> None:
    lost = {code: np.array([amount]) for code, amount in zip("FEDCBA", (0.1, 0.5, 0.5, 0.9, 0.2, 0.5), strict=True)}
    named = decision.ranked(lost, set("ABCDEF"), people=1)
    assert [code for code, _ in named[0]] == ["C", "A", "D", "E"]


def test_rounding_noise_does_not_decide_the_order_of_equal_reasons() -> None:
    lost = {"B": np.array([0.1 + 0.2]), "A": np.array([0.3])}
    assert [code for code, _ in decision.ranked(lost, {"A", "B"}, 1)[0]] == ["A", "B"]


def test_a_code_without_a_text_is_never_named() -> None:
    lost = {"SEX": np.array([5.0]), "USE": np.array([0.1])}
    assert decision.ranked(lost, {"USE"}, 1) == [[("USE", 0.1)]]


def test_what_costs_nothing_is_no_reason() -> None:
    lost = {"USE": np.array([0.0, -0.1, 0.2])}
    assert decision.ranked(lost, {"USE"}, 3) == [[], [], [("USE", 0.2)]]


def test_no_losses_give_no_reasons_for_anybody() -> None:
    assert decision.ranked({}, {"USE"}, 2) == [[], []]
