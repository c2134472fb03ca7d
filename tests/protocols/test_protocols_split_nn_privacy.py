"""What leaves a party of `split_nn`: a recorded encrypted run, searched; and the pieces that the promises rest on."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from clear_cipher import ClearCipher
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from plain_numbers import encodings, single_encodings
from split_nn_parties import SHARED, SMALL, Run, parties, run

from ftl.channel import decode
from ftl.errors import CipherError
from ftl.features import BinEdges, Frame
from ftl.protocols.split_nn import RECIPE
from ftl.protocols.split_nn.budget import _delta, epsilon, noise_for
from ftl.protocols.split_nn.embedding import cut, pooled
from ftl.protocols.split_nn.messages import Answer, Blinded, Gradients, Vectors
from ftl.protocols.split_nn.noise import gaussian, gaussian_of_rows, secret_key
from ftl.protocols.split_nn.sealing import BLIND_BITS, FRACTION, WORD, Sealing


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return parties()


@pytest.fixture(scope="module")
def recorded(frames: list[Frame]) -> Run:
    return run(frames, RECIPE, {**SMALL, "rounds": 3}, payloads=True)


def test_no_value_threshold_identifier_or_column_crosses(frames: list[Frame], recorded: Run) -> None:
    sent = b"".join(message.payload for message in recorded.recording.messages)
    edges = BinEdges.fit(frames[1].values, frames[1].categorical, SMALL["max_bins"]).edges[0]
    rows = [value for frame in frames for value in frame.values[:, 0][:SHARED] if not np.isnan(value)]
    for value in [*edges, *rows]:
        assert not any(form in sent for form in encodings(float(value)))
    assert not any(form in sent for column in (edges, rows) for form in single_encodings(list(column)))
    for frame in frames:
        assert not any(identifier.encode() in sent for identifier in frame.ids)
        assert not any(column.encode() in sent for column in frame.columns)


def test_no_label_or_base_margin_crosses(frames: list[Frame], recorded: Run) -> None:
    label = frames[0].label[:SHARED].astype(np.uint8)
    sent = b"".join(m.payload for m in recorded.recording.messages if m.sender == "bank")
    for people in (label, np.packbits(label), label.astype("<f8"), label.astype("<i8")):
        assert people[:24].tobytes() not in sent
    margin = RECIPE.load(recorded.active.part, {}).sub_scores(frames[0].values[:SHARED]).log_odds
    for value in np.concatenate([margin, 1 / (1 + np.exp(-margin))]):
        assert not any(form in sent for form in encodings(float(value)))


def test_every_message_is_of_a_known_kind(recorded: Run) -> None:
    kinds = {
        (message.sender, next(word for word in message.topic.split("/") if word != "round" and not word.isdigit()))
        for message in recorded.recording.messages
    }
    assert kinds == {
        *(("bank", kind) for kind in ("base", "start", "gradients", "answer", "verdict", "kept")),
        *(("partner", kind) for kind in ("ready", "vectors", "validation", "blinded", "test")),
    }


def test_no_ciphertext_repeats(recorded: Run) -> None:
    chunks: Counter[bytes] = Counter()
    for message in recorded.recording.messages:
        kind = Gradients if "/gradients/" in message.topic else Blinded if "/blinded/" in message.topic else None
        for body in decode(message.payload, kind, sender="", topic="").ciphertexts if kind else ():
            chunks.update({body[at : at + 32] for at in range(64, len(body) - 64, 16)})
    assert len(chunks) > 1000
    assert [chunk for chunk, count in chunks.items() if count > 1 and len(set(chunk)) > 8] == []


def test_what_is_answered_looks_like_nothing_to_a_reader_on_the_way(recorded: Run) -> None:
    """The coordinator relays answers; blinded, they spread over the whole word whatever the sums are."""
    answers = [
        decode(message.payload, Answer, sender="", topic="").sums
        for message in recorded.recording.messages
        if "/answer/" in message.topic
    ]
    share = np.concatenate([sums.ravel() for sums in answers]) / 2.0**WORD
    assert abs(share.mean() - 0.5) < 4 / math.sqrt(12 * len(share))
    assert np.histogram(share, bins=4, range=(0, 1))[0].min() > len(share) / 8


def test_a_vector_is_never_released_without_fresh_noise(recorded: Run) -> None:
    rounds = [
        decode(message.payload, Vectors, sender="", topic="").values
        for message in recorded.recording.messages
        if "/vectors/" in message.topic
    ]
    differences = [(after - before).std() for before, after in pairwise(rounds)]
    assert len(rounds) == 3
    assert min(differences) > 0.9 * SMALL["noise"] * math.sqrt(2)


def test_sizes_do_not_depend_on_the_values(frames: list[Frame], recorded: Run) -> None:
    label = frames[0].label.copy()
    label[:SHARED] = np.random.default_rng(0).permutation(label[:SHARED])
    other = Frame("bank", frames[0].columns, frames[0].values, {}, frames[0].ids, label, frames[0].holdout)
    again = run([other, frames[1]], RECIPE, {**SMALL, "rounds": 1}, payloads=True)
    for kind in ("gradients", "blinded", "vectors", "validation"):
        sizes = [
            next(len(m.payload) for m in result.recording.messages if m.topic.startswith(f"round/1/{kind}"))
            for result in (recorded, again)
        ]
        assert (
            abs(sizes[0] - sizes[1]) <= 0.002 * sizes[0] + 16
        )  # a ciphertext may begin with a zero byte; keys have one length


def test_the_budget_is_stated_in_the_report(recorded: Run) -> None:
    assert recorded.active.settings["epsilon_release"] == pytest.approx(epsilon(0.2, 1))
    assert recorded.active.settings["epsilon_run"] == pytest.approx(epsilon(0.2, 3))
    assert "was released 3 times with noise 0.2" in recorded.active.notes[-1]


def test_epsilon_agrees_with_the_integral_of_the_privacy_loss() -> None:
    """Delta is the mass by which the likelihood ratio exceeds e^epsilon, integrated here on a grid."""
    for noise, releases in ((2.0, 1), (2.0, 9), (0.7, 4)):
        mu = 2 / noise * math.sqrt(releases)
        eps = epsilon(noise, releases)
        x = np.linspace(-12, 12 + mu, 400_001)
        density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
        shifted = np.exp(-((x - mu) ** 2) / 2) / math.sqrt(2 * math.pi)
        excess = np.maximum(shifted - math.exp(eps) * density, 0).sum() * (x[1] - x[0])
        assert excess == pytest.approx(1e-5, rel=1e-3)


def test_releases_compose_as_one_with_less_noise() -> None:
    assert epsilon(2.0, 16) == pytest.approx(epsilon(0.5, 1))
    assert epsilon(1.0, 0) == 0.0
    assert epsilon(0.0, 1) == math.inf
    assert _delta(0.001, 0.0) > 0


@settings(max_examples=30, deadline=None)
@given(target=st.floats(0.1, 500.0), releases=st.integers(1, 100))
def test_the_noise_for_a_budget_costs_that_budget(target: float, releases: int) -> None:
    noise = noise_for(target, releases)
    assert epsilon(noise, releases) <= target
    assert epsilon(noise * 0.999, releases) > target * 0.998


@settings(max_examples=40, deadline=None)
@given(data=st.data(), people=st.integers(1, 40), width=st.integers(1, 12))
def test_blinded_sums_open_to_exact_sums_for_their_asker_only(data: st.DataObject, people: int, width: int) -> None:
    gradients = data.draw(hnp.arrays(np.float64, (people, width), elements=st.floats(-1, 1)))
    bins = data.draw(hnp.arrays(np.int8, (people, 1), elements=st.integers(0, 2)))
    cipher, sealing = ClearCipher(), Sealing(people, width, 682)
    blinds, plain = sealing.blinds(3), []
    for group, drawn in zip(sealing.seal(gradients), blinds, strict=True):
        (sums,) = cipher.bucket_sums(cipher.encrypt(group), [np.ones(people, dtype=bool)], bins, [3])
        plain.append(cipher.decrypt(sealing.blinded(cipher, sums, drawn), sealing.bits))
    counts, words = sealing.opened(plain)
    fixed = np.rint(np.ldexp(gradients, FRACTION))
    expected = np.array([np.ldexp(fixed[bins[:, 0] == bucket].sum(axis=0), -FRACTION) for bucket in range(3)])
    assert np.array_equal(counts, np.bincount(bins[:, 0], minlength=3))
    assert np.array_equal(sealing.answered(words, blinds, counts), expected)
    assert np.array_equal(
        sealing.answered((words - 5) % (1 << WORD), blinds, counts), expected - np.ldexp(5, -FRACTION)
    )


def test_a_blind_is_forty_bits_wider_than_any_sum() -> None:
    sealing = Sealing(5000, 8, 682)
    assert 2 * sealing.bias * 5000 < 1 << sealing.sum_bits
    widths = [max(blind).bit_length() for group in sealing.blinds(200) for blind in group]
    assert sealing.sum_bits + BLIND_BITS - 8 < max(widths) <= sealing.sum_bits + BLIND_BITS
    assert len({blind[0] for blind in sealing.blinds(200)[0]}) == 200
    with pytest.raises(CipherError, match="within ±1"):
        sealing.seal(np.full((5000, 8), 1.5))
    with pytest.raises(CipherError, match="do not fit into 60 bits"):
        Sealing(5000, 8, 60)


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(0, 30), min_size=2, max_size=20), least=st.integers(1, 20), ordered=st.booleans())
def test_every_bucket_holds_enough_people_or_there_is_one(counts: list[int], least: int, ordered: bool) -> None:
    buckets = pooled(np.array(counts), least, ordered=ordered)
    held = np.bincount(buckets, weights=counts)
    assert len(held) == buckets.max() + 1
    assert len(held) == 1 or held.min() >= least
    if ordered:
        assert (np.diff(buckets[:-1]) >= 0).all()


@settings(max_examples=40, deadline=None)
@given(vectors=hnp.arrays(np.float64, (6, 3), elements=st.floats(-1e6, 1e6)))
def test_no_vector_is_longer_than_one(vectors: np.ndarray) -> None:
    assert (np.linalg.norm(cut(vectors), axis=1) <= 1 + 1e-12).all()


def test_noise_is_normal_repeats_for_the_same_person_and_needs_the_partys_values(frames: list[Frame]) -> None:
    key = secret_key(frames[1], 11)
    drawn = gaussian(key, "round/1/vectors/0", (20_000, 2))
    assert abs(drawn.mean()) < 0.02
    assert abs(drawn.std() - 1) < 0.02
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.03
    assert not np.array_equal(drawn[:5], gaussian(key, "round/2/vectors/0", (20_000, 2))[:5])
    rows = frames[1].values[:200]
    noise = gaussian_of_rows(key, rows, 4)
    assert np.array_equal(noise[[7]], gaussian_of_rows(key, rows[[7]], 4))
    assert len(np.unique(noise)) == noise.size
    changed = frames[1].values.copy()
    changed[-1, 0] = 0.123
    other = Frame("partner", frames[1].columns, changed, frames[1].categories, frames[1].ids)
    assert secret_key(other, 11) != key
    assert secret_key(frames[1], 12) != key
