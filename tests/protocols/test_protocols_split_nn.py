"""The network cut between parties: what it learns, what it leaves, how it goes on after a loss, and whom it refuses."""

import msgspec
import numpy as np
import pytest
from clear_cipher import ClearScheme
from split_nn_parties import SHARED, SMALL, Kept, Run, answered, parties, run

from ftl.channel import Channel, decode, encode
from ftl.errors import ConsortiumError, FeatureError, ProtocolError, RegistryError
from ftl.features import Frame
from ftl.protocols.split_nn import RECIPE, SplitNN
from ftl.protocols.split_nn.embedding import Buckets, cut, summed
from ftl.protocols.split_nn.groups import Groups
from ftl.protocols.split_nn.messages import Answer, Blinded, Vectors
from ftl.protocols.split_nn.parts import PassiveRecord
from ftl.protocols.split_nn.passive import Saved
from ftl.protocols.split_nn.settings import Settings

CLEAR = SplitNN(ClearScheme())


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return parties()


@pytest.fixture(scope="module")
def clear(frames: list[Frame]) -> Run:
    return run(frames, CLEAR, {**SMALL, "rounds": 16, "patience": 16})


def log_loss(label: np.ndarray, chance: np.ndarray) -> float:
    return float(-np.mean(label * np.log(chance) + (1 - label) * np.log(1 - chance)))


def test_a_useful_partner_improves_the_holdout_and_progress_is_aggregated(frames: list[Frame], clear: Run) -> None:
    label = frames[0].label[frames[0].holdout]
    assert log_loss(label, clear.active.probability) < log_loss(label, clear.active.baseline) - 0.02
    rounds = [step for step in clear.steps if step.phase == "train"]
    assert [step.round for step in rounds] == list(range(1, 17))
    assert all(set(step.metrics) == {"validation_auc", "validation_loss"} for step in rounds)
    assert clear.active.combiner.parties == ["bank", "partner"]
    assert clear.active.settings["rounds_run"] == 16


def test_encrypted_and_clear_runs_agree_exactly(frames: list[Frame]) -> None:
    clear, encrypted = run(frames, CLEAR), run(frames, RECIPE)
    assert encrypted.active.combiner == clear.active.combiner
    assert np.array_equal(encrypted.active.probability, clear.active.probability)
    assert encrypted.outcomes["partner"].part == clear.outcomes["partner"].part
    assert encrypted.active.part == clear.active.part


def test_without_noise_a_table_moves_by_the_sums_of_gradients(
    frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first step is the rate times the gradient in units of its own size: of sums that are worked out here, person
    by person, from what the active party encrypted."""
    from ftl.protocols.split_nn import training

    seen = []

    def noted(gradients: np.ndarray) -> np.ndarray:
        seen.append(real(gradients))
        return seen[-1]

    real = training.bounded
    monkeypatch.setattr(training, "bounded", noted)
    given, after, before = {**SMALL, "gradient_noise": 0.0, "rounds": 1}, Kept(), Kept()
    run(frames, CLEAR, {**given, "embedding_rate": 0.125}, checkpoints={"partner": after})
    run(frames, CLEAR, {**given, "embedding_rate": 1e-12}, checkpoints={"partner": before})
    plan = Settings(**given).plan(SHARED)
    rows = Groups.draw(plan, 11).batches[0]
    buckets = Buckets(frames[1], (rows,), plan.max_bins, plan.min_bucket)
    members = [(buckets.codes[rows] == bucket).any(axis=1) for bucket in range(buckets.total)]
    sums = np.array([seen[0][people].sum(axis=0) for people in members])
    states = [decode(kept.states[1], Saved, sender="", topic="").vectors for kept in (after, before)]
    expected = states[1] - 0.125 * sums / np.sqrt(np.mean(sums * sums))
    np.testing.assert_allclose(states[0], expected / max(buckets.reach(expected), 1.0), atol=1e-3)


@pytest.mark.parametrize(("kind", "partners"), [("number", ("partner",)), ("classes", ("shop", "telecom"))])
def test_numbers_and_classes_are_learned_too(kind: str, partners: tuple[str, ...]) -> None:
    frames = parties(kind, partners=partners)
    result = run(frames, CLEAR, {**SMALL, "rounds": 16, "patience": 16})
    rows, label = np.flatnonzero(frames[0].holdout), frames[0].label[frames[0].holdout]
    said = result.active.probability
    np.testing.assert_allclose(answered(result, frames, CLEAR, rows), said, rtol=1e-12)
    if kind == "number":
        assert ((said - label) ** 2).mean() < 0.9 * ((result.active.baseline - label) ** 2).mean()
        assert result.active.combiner.link == "identity"
    else:
        frequent = np.bincount(frames[0].label[:SHARED].astype(int)).argmax()
        assert (said.argmax(axis=1) == label).mean() > (label == frequent).mean() + 0.05
        assert said.shape == (len(rows), 3)
        assert result.active.baseline is None


def test_answers_are_what_the_loaded_parts_combine_to(frames: list[Frame], clear: Run) -> None:
    rows = np.flatnonzero(frames[0].holdout)
    np.testing.assert_allclose(answered(clear, frames, RECIPE, rows), clear.active.probability, rtol=1e-12)


def test_a_row_alone_gets_the_sub_scores_it_gets_in_a_batch(frames: list[Frame], clear: Run) -> None:
    for frame in frames:
        part = RECIPE.load(clear.outcomes[frame.party].part, {"income": "I1"})
        batch = part.sub_scores(frame.values[:50], reasons=True)
        for row in (0, 7, 49):
            one = part.sub_scores(frame.values[[row]], reasons=True)
            assert one.log_odds[0] == batch.log_odds[row]
            assert np.array_equal(one.hidden[0], batch.hidden[row])
            assert {code: lost[0] for code, lost in one.lost.items()} == {c: v[row] for c, v in batch.lost.items()}


def test_a_person_unknown_to_the_partner_gets_the_banks_own_answer(frames: list[Frame], clear: Run) -> None:
    from ftl.protocols.combine import answer

    part = RECIPE.load(clear.active.part, {})
    rows = np.flatnonzero(frames[0].holdout)
    alone = answer(clear.active.combiner, "bank", {"bank": part.sub_scores(frames[0].values[rows])})
    assert np.array_equal(alone, clear.active.baseline)


def test_the_banks_own_columns_can_enter_the_network(frames: list[Frame]) -> None:
    result = run(frames, CLEAR, {**SMALL, "active_columns": "all"})
    rows = np.flatnonzero(frames[0].holdout)
    assert RECIPE.load(result.active.part, {}).sub_scores(frames[0].values[:1]).hidden.shape == (1, 5)
    np.testing.assert_allclose(answered(result, frames, CLEAR, rows), result.active.probability, rtol=1e-12)


def test_the_same_seed_repeats_the_run_and_another_does_not(frames: list[Frame]) -> None:
    first, again, other = (run(frames, CLEAR, seed=seed) for seed in (11, 11, 12))
    assert first.outcomes["partner"].part == again.outcomes["partner"].part
    assert np.array_equal(first.active.probability, again.active.probability)
    assert first.outcomes["partner"].part != other.outcomes["partner"].part


class Lost(Exception):
    pass


class Fragile(Kept):
    """Loses its node when round 3 is to be saved."""

    def save(self, number: int, state: bytes) -> None:
        if number == 3:
            raise Lost
        super().save(number, state)


@pytest.mark.parametrize("victim", ["bank", "partner"])
def test_a_run_resumed_after_a_loss_equals_the_undisturbed_one(frames: list[Frame], victim: str) -> None:
    whole = run(frames, CLEAR)
    stores = {"bank": Kept(), "partner": Kept()} | {victim: Fragile()}
    with pytest.raises((Lost, Exception), match=r"^$|has ended"):
        run(frames, CLEAR, checkpoints=stores)
    common = min(max(store.states) for store in stores.values())
    assert common == 2
    resumed = {}
    for party, store in stores.items():
        resumed[party] = Kept()
        resumed[party].states = {number: state for number, state in store.states.items() if number <= common}
    after = run(frames, CLEAR, checkpoints=resumed)
    assert [step.round for step in after.steps if step.phase == "train"] == [3, 4, 5, 6]
    assert after.active.part == whole.active.part
    assert after.outcomes["partner"].part == whole.outcomes["partner"].part
    assert np.array_equal(after.active.probability, whole.active.probability)


@pytest.mark.parametrize("shared", [0, 60])
def test_with_nobody_or_too_few_shared_the_active_party_stands_alone(frames: list[Frame], shared: int) -> None:
    result = run(frames, CLEAR, shared=shared)
    assert result.active.combiner.fell_back == f"{shared} shared training people are fewer than 100"
    assert result.active.combiner.parties == []
    assert np.array_equal(result.active.probability, result.active.baseline)
    assert RECIPE.load(result.outcomes["partner"].part, {}).sub_scores(frames[1].values[:3]).hidden is None


def test_classes_have_no_model_to_fall_back_to() -> None:
    with pytest.raises(FeatureError, match="No network for the classes of 'bank' can be trained: 60 shared"):
        run(parties("classes"), CLEAR, shared=60)


def test_a_partner_of_pure_chance_is_left_out(frames: list[Frame]) -> None:
    random = np.random.default_rng(0)
    useless = Frame("partner", ("a", "b"), random.normal(size=(600, 2)), {}, frames[1].ids)
    base_only = run([frames[0], useless], CLEAR, {**SMALL, "learning_rate": 0.3, "rounds": 3})
    assert base_only.active.combiner.fell_back is not None
    assert np.array_equal(base_only.active.probability, base_only.active.baseline)
    empty = Frame("partner", ("flat", "gone"), np.column_stack([np.ones(600), np.full(600, np.nan)]), {}, frames[1].ids)
    result = run([frames[0], empty], CLEAR)
    assert "no other party has a column" in result.active.combiner.fell_back


def test_several_batches_serve_everybody_once_a_round() -> None:
    plan = Settings(batches=3).plan(400)
    groups = Groups.draw(plan, 5)
    everyone = np.concatenate([*groups.batches, groups.validation])
    assert sorted(everyone.tolist()) == list(range(400))
    assert len(groups.validation) == 80
    frames = parties()
    result = run(frames, CLEAR, {**SMALL, "batches": 3, "rounds": 3}, payloads=True)
    topics = [message.topic for message in result.recording.messages]
    assert sum(topic.startswith("round/2/vectors/") for topic in topics) == 3


def test_a_table_is_read_as_it_was_trained(frames: list[Frame], clear: Run) -> None:
    table = msgspec.json.decode(clear.outcomes["partner"].part, type=PassiveRecord).table
    plan = Settings(**SMALL).plan(SHARED)
    buckets = Buckets(frames[1], (Groups.draw(plan, 11).batches[0],), plan.max_bins, plan.min_bucket)
    expected = cut(summed(np.array(table.vectors), buckets.codes) - np.array(table.centre))
    quiet = msgspec.structs.replace(msgspec.json.decode(clear.outcomes["partner"].part, type=PassiveRecord), noise=0.0)
    said = RECIPE.load(msgspec.json.encode(quiet), {}).sub_scores(frames[1].values).hidden
    np.testing.assert_allclose(said, expected, atol=1e-7)
    assert np.linalg.norm(said, axis=1).max() <= 1 + 1e-6


def test_a_part_of_something_else_is_refused() -> None:
    with pytest.raises(RegistryError, match="the model part is none of split_nn"):
        RECIPE.load(b'{"type": "transfer_boost/active"}', {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"widht": 4}, r"split_nn has no setting 'widht'\. Did you mean 'width'"),
        ({"noise": -1}, r"split_nn setting 'noise' is -1: Input should be greater than or equal to 0"),
        ({"epsilon": 0}, r"split_nn setting 'epsilon' is 0"),
    ],
)
def test_wrong_settings_are_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConsortiumError, match=message):
        RECIPE.settings(given)


class Cheating:
    """A party's channel that changes what it sends under some topic."""

    def __init__(self, inner: Channel, topic: str, change) -> None:
        self.inner, self.topic, self.change = inner, topic, change
        self.me, self.peers = inner.me, inner.peers

    def send(self, to: str, topic: str, payload: bytes) -> None:
        self.inner.send(to, topic, self.change(payload) if topic.startswith(self.topic) else payload)

    def receive(self, sender: str, topic: str, timeout: float) -> bytes:
        return self.inner.receive(sender, topic, timeout)


def cheat(frames: list[Frame], party: str, topic: str, change) -> None:
    def through(channel: Channel) -> Channel:
        return Cheating(channel, topic, change) if channel.me == party else channel

    run(frames, CLEAR, through=through)


def test_sums_over_single_people_are_not_opened(frames: list[Frame]) -> None:
    """A partner that asks for the second bucket to hold one person less than allowed, and the first the others."""
    from ftl.protocols.split_nn.sealing import Sealing

    def narrowed(payload: bytes) -> bytes:
        (dump,) = decode(payload, Blinded, sender="", topic="").ciphertexts
        values = msgspec.json.decode(dump)
        return encode(Blinded([msgspec.json.encode([values[0] + values[1] - 1, 1, *values[2:]])]))

    assert Sealing(320, 4, 682).groups == [range(4)]
    with pytest.raises(ProtocolError, match="'partner' asked for sums of gradients that are not over all 320 people"):
        cheat(frames, "partner", "round/1/blinded", narrowed)


@pytest.mark.parametrize(
    ("party", "topic", "message", "match"),
    [
        ("partner", "round/1/vectors", Vectors(np.full((320, 4), 99.0, np.float32)), "beyond ±2.8"),
        ("partner", "round/1/vectors", Vectors(np.full((320, 4), np.nan, np.float32)), "or none at all"),
        ("partner", "round/1/vectors", Vectors(np.zeros((319, 4), np.float32)), r"'partner' sent an array of shape"),
        ("partner", "round/1/blinded", Blinded([]), "'partner' sent 0 groups of sums where 1 were due"),
        ("bank", "round/1/answer", Answer(np.zeros((1, 4), np.int64)), r"'bank' sent an array of shape \(1, 4\)"),
        ("bank", "round/1/verdict", Answer(np.zeros((1, 4), np.int64)), "'bank' sent under 'round/1/verdict'"),
    ],
)
def test_nonsense_is_refused_by_name(
    frames: list[Frame], party: str, topic: str, message: msgspec.Struct, match: str
) -> None:
    with pytest.raises(ProtocolError, match=match):
        cheat(frames, party, topic, lambda _payload: encode(message))


def test_an_answer_that_nobody_can_have_is_refused(frames: list[Frame]) -> None:
    def shifted(payload: bytes) -> bytes:
        sums = decode(payload, Answer, sender="", topic="").sums
        return encode(Answer((sums + (1 << 40)) % (1 << 62)))

    with pytest.raises(ProtocolError, match="'bank' answered with a sum of gradients that no 320 people have"):
        cheat(frames, "bank", "round/1/answer", shifted)


def test_a_party_does_not_take_less_noise_than_its_own_settings_say(frames: list[Frame]) -> None:
    from ftl.protocols.split_nn.messages import Start

    def quieter(payload: bytes) -> bytes:
        start = decode(payload, Start, sender="", topic="")
        return encode(Start(msgspec.structs.replace(start.plan, noise=0.0), start.public))

    with pytest.raises(ProtocolError, match=r"'bank' plans with .*noise=0\.0.*, 'partner' with .*noise=0\.2"):
        cheat(frames, "bank", "start", quieter)
