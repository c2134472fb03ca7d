"""The recipe: encrypted as in the clear, through parts as in training, resumed as undisturbed, and what it refuses."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from clear_cipher import ClearScheme
from secure_boost_parties import SHARED, SMALL, Kept, Run, parties, run

from ftl.channel import Channel, decode, encode
from ftl.crypto import OuScheme
from ftl.errors import ConsortiumError, FeatureError, ProtocolError, RegistryError
from ftl.features import Frame
from ftl.protocols import SubScores
from ftl.protocols.boosting import Plan
from ftl.protocols.boosting.messages import Gradients, Sides, Start, Sums
from ftl.protocols.combine import answer
from ftl.protocols.secure_boost import RECIPE
from ftl.protocols.secure_boost.validation import Watch

KINDS = ("binary", "number", "classes")


@functools.cache
def clear(kind: str) -> tuple[list[Frame], Run]:
    frames = parties(kind)
    return frames, run(frames, ClearScheme())


def scores(frames: list[Frame], result: Run, rows: Any, reasons: bool = False) -> dict[str, SubScores]:
    codes = {"income": "I", "hidden": "H", "coarse": "C", "region": "C"}
    return {
        frame.party: RECIPE.load(result.outcomes[frame.party].part, codes).sub_scores(
            frame.values[rows], reasons=reasons
        )
        for frame in frames
    }


def test_encrypted_and_clear_runs_agree_exactly() -> None:
    frames, expected = clear("classes")
    encrypted = run(frames, OuScheme())
    assert encrypted.active.combiner == expected.active.combiner
    assert np.array_equal(encrypted.active.probability, expected.active.probability)
    assert {name: one.part for name, one in encrypted.outcomes.items()} == {
        name: one.part for name, one in expected.outcomes.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_answers_for_the_holdout_are_what_the_loaded_parts_combine_to(kind: str) -> None:
    frames, result = clear(kind)
    test = np.flatnonzero(frames[0].holdout)
    found = answer(result.active.combiner, "bank", scores(frames, result, test))
    np.testing.assert_allclose(found, result.active.probability, rtol=1e-12)
    if kind == "classes":
        assert found.shape == (len(test), 3)
        np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_partners_columns_make_the_answers_better_than_the_average(kind: str) -> None:
    frames, result = clear(kind)
    label = frames[0].label[frames[0].holdout]
    found = np.asarray(result.active.probability)
    if kind == "classes":
        chance = found[np.arange(len(label)), label.astype(int)]
        shares = np.bincount(label.astype(int)) / len(label)
        assert np.log(chance).mean() > (shares * np.log(shares)).sum() + 0.02
    else:
        assert np.mean((found - label) ** 2) < 0.9 * label.var()
    assert result.active.combiner.parties == ["bank", "partner"]
    losses = [step.metrics["training_loss"] for step in result.steps if step.phase == "train"]
    assert losses == sorted(losses, reverse=True)


def test_a_row_alone_gets_the_sub_scores_it_gets_in_a_batch() -> None:
    frames, result = clear("binary")
    batch = scores(frames, result, np.arange(40), reasons=True)
    for row in (0, 13, 39):
        for party, one in scores(frames, result, [row], reasons=True).items():
            assert np.array_equal(one.leaves[0], batch[party].leaves[row])
            for code, (trees, masks) in one.relaxed.items():
                assert np.array_equal(trees, batch[party].relaxed[code][0])
                assert np.array_equal(masks[0], batch[party].relaxed[code][1][row])


def test_a_reason_only_widens_what_can_be_reached() -> None:
    frames, result = clear("number")
    for one in scores(frames, result, np.arange(100), reasons=True).values():
        assert one.relaxed
        for trees, masks in one.relaxed.values():
            assert np.array_equal(masks & one.leaves[:, trees], one.leaves[:, trees])


def test_people_whom_the_partner_does_not_know_get_the_banks_own_answer() -> None:
    for kind, given in (("number", {"own_model": True}), ("binary", {"own_model": False})):
        frames = parties(kind)
        result = run(frames, ClearScheme(), {**SMALL, **given})
        found = scores(frames, result, np.arange(60))
        unknown = _unknown(found["partner"])
        alone = answer(result.active.combiner, "bank", {"bank": found["bank"], "partner": unknown})
        if kind == "number":
            assert np.mean((alone - frames[0].label[:60]) ** 2) < frames[0].label[:60].var()
            assert result.active.baseline is not None
        else:
            np.testing.assert_allclose(alone, frames[0].label[:SHARED].mean())
            assert result.active.baseline is None


def _unknown(one: SubScores) -> SubScores:
    return SubScores(np.zeros(len(one.known), dtype=bool), one.log_odds, one.leaves)


def test_answers_rise_with_a_column_that_they_may_only_rise_with() -> None:
    frames = parties("binary")
    partner = replace(frames[1], monotone=np.array([-1, 1, 0], dtype=np.int8))
    result = run([frames[0], partner], ClearScheme(), {**SMALL, "rounds": 6, "depth": 3})
    people = np.arange(50)
    before = None
    for value in np.linspace(-4, 4, 17):
        moved = partner.values[people].copy()
        moved[:, 1] = value
        one = RECIPE.load(result.outcomes["partner"].part, {}).sub_scores(moved)
        found = answer(result.active.combiner, "bank", scores(frames, result, people) | {"partner": one})
        assert before is None or (found >= before - 1e-12).all()
        before = found


@pytest.mark.parametrize("given", [{}, {"rows": 0.7, "columns": 0.6}, {"goss_top": 0.3, "goss_other": 0.2}])
@pytest.mark.parametrize("at", [1, 3])
def test_a_run_that_goes_on_after_a_round_ends_as_if_undisturbed(given: dict[str, float], at: int) -> None:
    frames, settings = parties("binary"), {**SMALL, "rounds": 4, "validation": 0.2, **given}
    kept = {frame.party: Kept() for frame in frames}
    whole = run(frames, ClearScheme(), settings, kept=kept)
    for one in kept.values():
        one.at = at
    resumed = run(frames, ClearScheme(), settings, kept=kept)
    assert resumed.active.combiner == whole.active.combiner
    assert {name: one.part for name, one in resumed.outcomes.items()} == {
        name: one.part for name, one in whole.outcomes.items()
    }
    assert [step.round for step in resumed.steps if step.phase == "train"] == list(range(at + 1, 5))


def test_a_partner_that_kept_another_round_says_so() -> None:
    frames, kept = parties("binary"), {"bank": Kept(), "partner": Kept()}
    run(frames, ClearScheme(), kept=kept)
    kept["bank"].at, kept["partner"].at = 2, 1
    with pytest.raises(ProtocolError, match="'bank' goes on from round 2, 'partner' has kept round 1"):
        run(frames, ClearScheme(), kept=kept)


def test_held_out_people_stop_the_rounds_and_the_best_one_is_the_last_kept() -> None:
    random = np.random.default_rng(0)
    frames = parties("binary")
    label = np.where(frames[0].holdout, frames[0].label, random.integers(0, 2, len(frames[0].label)))
    settings = {**SMALL, "rounds": 60, "validation": 0.3, "patience": 4, "depth": 3}
    result = run([replace(frames[0], label=label.astype(float)), frames[1]], ClearScheme(), settings)
    losses = [step.metrics["validation_loss"] for step in result.steps if step.phase == "train"]
    best = int(np.argmin(losses)) + 1
    assert len(losses) == best + 4 < 60
    assert result.active.settings["rounds_kept"] == best == len(result.active.combiner.trees)


def test_held_out_people_are_drawn_without_their_labels() -> None:
    watch = Watch.draw(3, 1000, 0.25, 5)
    assert watch.held_out.sum() == 250
    assert np.array_equal(watch.held_out, Watch.draw(3, 1000, 0.25, 9).held_out)
    assert Watch.draw(3, 1000, 0.0, 5).held_out.sum() == 0


def test_fewer_rows_are_sent_when_rows_are_sampled() -> None:
    frames, _ = clear("binary")

    def sent(given: dict[str, float]) -> list[int]:
        result = run(frames, ClearScheme(), {**SMALL, **given})
        messages = [m for m in result.recording.messages if m.topic.endswith("gradients")]
        bits = [decode(m.payload, Gradients, sender="", topic="").training for m in messages]
        return [int(np.unpackbits(one).sum()) for one in bits]

    assert sent({}) == [SHARED] * 3
    assert sent({"rows": 0.5}) == [SHARED // 2] * 3
    assert sent({"goss_top": 0.2, "goss_other": 0.1}) == [60] * 3


def test_a_level_takes_four_messages_and_the_last_one_three() -> None:
    _, result = clear("number")
    of_round = [m.topic.split("/")[2] for m in result.recording.messages if m.topic.startswith("round/1/")]
    assert sorted(of_round) == sorted(["gradients", *["sums", "choice", "sides"] * 2, "divided"])


@pytest.mark.parametrize(("shared", "why"), [(0, "0 shared training people"), (60, "60 shared training people")])
def test_too_few_shared_people_leave_the_bank_alone(shared: int, why: str) -> None:
    result = run(parties("number"), ClearScheme(), {**SMALL, "own_model": True}, shared=shared)
    assert result.active.combiner.trees == []
    assert result.active.combiner.fell_back == f"{why} are fewer than 100"
    assert np.array_equal(result.active.probability, result.active.baseline)
    assert "fell back to bank alone" in result.active.notes[0]
    with pytest.raises(FeatureError, match="No joint trees can be grown"):
        run(parties("number"), ClearScheme(), SMALL, shared=shared)


def test_shared_people_of_one_class_teach_nothing() -> None:
    frames = parties("classes")
    label = np.where(np.arange(300) < SHARED, 0.0, frames[0].label)
    with pytest.raises(FeatureError, match="fewer than 10 of one class"):
        run([replace(frames[0], label=label), frames[1]], ClearScheme())


def test_a_partner_without_a_usable_column_leaves_trees_of_the_bank() -> None:
    frames = parties("binary")
    flat = Frame("partner", ("flat",), np.ones((300, 1)), {}, frames[1].ids)
    result = run([frames[0], flat], ClearScheme())
    assert result.active.combiner.parties == ["bank"]
    assert len(result.active.combiner.trees) == 3
    bare = Frame("bank", ("flat",), np.ones((300, 1)), {}, frames[0].ids, frames[0].label, frames[0].holdout)
    assert run([bare, frames[1]], ClearScheme()).active.combiner.parties == ["bank", "partner"]


def test_a_partner_gives_no_sums_of_fewer_people_than_its_own_settings_say() -> None:
    with pytest.raises(ProtocolError, match="asks for sums of 5 people; 'partner' gives none of fewer than 20"):
        run(parties(), ClearScheme(), SMALL, others={"partner": {**SMALL, "min_bucket": 20}})


@dataclass
class Changing:
    """A channel that changes what its party sends under topics with `word` in them."""

    inner: Channel
    word: str
    change: Callable[[bytes], bytes]

    @property
    def me(self) -> str:
        return self.inner.me

    @property
    def peers(self) -> tuple[str, ...]:
        return self.inner.peers

    def send(self, to: str, topic: str, payload: bytes) -> None:
        self.inner.send(to, topic, self.change(payload) if self.word in topic else payload)

    def receive(self, sender: str, topic: str, timeout: float) -> bytes:
        return self.inner.receive(sender, topic, timeout)


def changed(kind: type, change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    return lambda payload: encode(change(decode(payload, kind, sender="", topic="")))


@pytest.mark.parametrize(
    ("party", "word", "change", "match"),
    [
        ("partner", "sums", changed(Sums, lambda m: Sums(m.ciphertexts, m.offered[:, :-1])), "'partner' sent an array"),
        (
            "partner",
            "sums",
            changed(Sums, lambda m: Sums(m.ciphertexts[1:], m.offered)),
            "'partner' sent 0 lists of sums; 1 were",
        ),
        ("partner", "sums", changed(Sums, lambda m: Sums([b"[1]"], m.offered)), "'partner' sent sums that cannot"),
        ("partner", "sums", changed(Sums, lambda m: Sums(m.ciphertexts, m.offered + 9)), "candidates of an unknown"),
        ("partner", "sides", changed(Sides, lambda m: Sides(m.left ^ np.uint8(255))), "'partner' sent people to the"),
        ("partner", "masks", lambda _payload: b"", "'partner' sent under 'masks'"),
        (
            "bank",
            "gradients",
            changed(Gradients, lambda m: Gradients(m.training, b"[7]")),
            "'bank' sent gradients that",
        ),
        (
            "bank",
            "start",
            changed(Start, lambda m: Start(_other(m.plan, depth=9), m.public)),
            "plan that makes no sense",
        ),
        ("bank", "start", changed(Start, lambda m: Start(_other(m.plan, people=7), m.public)), "plans with 7 shared"),
        (
            "bank",
            "start",
            changed(Start, lambda m: Start(_other(m.plan, together=2), m.public)),
            "plan that makes no sense",
        ),
        ("bank", "start", changed(Start, lambda m: Start(m.plan, b"no key")), "'bank' sent a key that cannot be used"),
    ],
)
def test_a_party_that_sends_nonsense_is_named(
    party: str, word: str, change: Callable[[bytes], bytes], match: str
) -> None:
    scheme = OuScheme() if word == "start" and "key" in match else ClearScheme()
    with pytest.raises(ProtocolError, match=match):
        run(
            parties(),
            scheme,
            wrap=lambda name, channel: Changing(channel, word, change) if name == party else channel,
        )


def _other(plan: Plan | None, **changes: Any) -> Plan:
    assert plan is not None
    return Plan(**{field: getattr(plan, field) for field in plan.__struct_fields__} | changes)


def test_settings_name_the_wrong_key_and_the_nearest_right_one() -> None:
    with pytest.raises(ConsortiumError, match=r"no setting 'learning_rat'. Did you mean 'learning_rate'"):
        RECIPE.settings({"learning_rat": 0.1})
    with pytest.raises(ConsortiumError, match=r"'rounds' is 0: .*default is 40"):
        RECIPE.settings({"rounds": 0})
    with pytest.raises(ConsortiumError, match="goss_top and goss_other are set together"):
        RECIPE.settings({"goss_top": 0.2})
    with pytest.raises(ConsortiumError, match="either evenly"):
        RECIPE.settings({"goss_top": 0.2, "goss_other": 0.1, "rows": 0.5})


def test_bytes_that_are_no_part_are_refused() -> None:
    with pytest.raises(RegistryError, match="none of secure_boost"):
        RECIPE.load(b'{"type": "other"}', {})


def test_parts_hold_no_leaf_value_and_nothing_of_the_other_party() -> None:
    frames, result = clear("binary")
    leaves = {repr(value) for tree in result.active.combiner.trees for value in tree if value}
    for frame, other in zip(frames, reversed(frames), strict=True):
        part = result.outcomes[frame.party].part.decode()
        assert not any(value in part for value in leaves)
        assert not any(column in part for column in other.columns)
        assert frame.ids[0] not in part
