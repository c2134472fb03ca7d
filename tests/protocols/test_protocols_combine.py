"""From sub-scores to answers, for all kinds of models."""

import numpy as np
import pytest

from ftl.protocols import Alone, Combiner, Layer, SubScores, combine

NO_LEAVES = np.zeros((2, 0), dtype=np.uint64)
BOTH = np.array([True, True])


def said(known=BOTH, log_odds=(0.0, 0.0), leaves=NO_LEAVES, **more) -> SubScores:
    return SubScores(np.asarray(known), np.array(log_odds, dtype=float), leaves, **more)


def test_a_linear_model_adds_shares_and_its_intercept():
    scores = {
        "bank": said(log_odds=(9.0, 9.0), share=np.array([[1.0], [2.0]])),
        "shop": said(share=np.array([[0.5], [-0.5]])),
    }
    combiner = Combiner([], offset=-1.0, parties=["bank", "shop"])
    assert combine.log_odds(combiner, "bank", scores).tolist() == [0.5, 0.5]
    identity = Combiner([], offset=-1.0, parties=["bank", "shop"], link="identity")
    assert combine.answer(identity, "bank", scores).tolist() == [0.5, 0.5]


def test_a_person_whom_the_partner_does_not_know_gets_the_active_partys_own_answer():
    scores = {
        "bank": said(log_odds=(9.0, 9.0), share=np.array([[1.0], [2.0]])),
        "shop": said(known=[True, False], share=np.array([[0.5], [0.0]])),
    }
    assert combine.log_odds(Combiner([], parties=["bank", "shop"]), "bank", scores).tolist() == [1.5, 9.0]


def test_a_person_whom_only_the_partner_knows_is_answered_by_the_partners_trees():
    scores = {
        "bank": said(known=[True, False], log_odds=(9.0, 0.0)),
        "shop": said(own_leaves=np.array([[1, 2], [2, 1]], dtype=np.uint64)),
    }
    combiner = Combiner([], parties=["bank"], alone={"shop": Alone(-2.0, [[0.1, 0.2], [0.4, 0.8]])})
    assert combine.log_odds(combiner, "bank", scores) == pytest.approx([9.0, -1.4])
    assert combine.answered_rows(combiner, "bank", scores).tolist() == [True, True]
    assert combine.answered_rows(Combiner([]), "bank", scores).tolist() == [True, False]
    assert np.isnan(combine.log_odds(Combiner([]), "bank", scores)[1])


def test_trees_of_several_outputs_take_turns_and_classes_sum_to_one():
    leaves = np.array([[1, 1, 1, 1], [2, 2, 2, 2]], dtype=np.uint64)
    scores = {"bank": said(leaves=leaves, share=np.zeros((2, 2))), "shop": said(leaves=~np.zeros_like(leaves))}
    trees = [[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0]]
    combiner = Combiner(trees, parties=["bank", "shop"], outputs=2, link="softmax", offsets=[0.5, 0.0])
    assert combine.margin(combiner, "bank", scores).tolist() == [[4.5, 6.0], [40.5, 60.0]]
    answer = combine.answer(combiner, "bank", scores)
    assert answer.sum(axis=1) == pytest.approx([1, 1])
    assert answer[0, 1] == pytest.approx(1 / (1 + np.exp(-1.5)))


def test_a_top_network_reads_the_parties_hidden_values_side_by_side():
    scores = {
        "bank": said(hidden=np.array([[1.0], [-1.0]]), share=np.zeros((2, 1))),
        "shop": said(hidden=np.array([[2.0], [3.0]])),
    }
    network = [Layer([[1.0, 0.0], [0.0, 1.0]], [0.0, -2.5], "relu"), Layer([[1.0], [10.0]], [0.25])]
    combiner = Combiner([], parties=["bank", "shop"], network=network)
    assert combine.log_odds(combiner, "bank", scores).tolist() == [1.25, 5.25]
