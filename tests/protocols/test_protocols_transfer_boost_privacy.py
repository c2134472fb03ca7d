"""Everything that leaves a party in a run, searched for what must not."""

from collections import Counter

import numpy as np
import pytest
from plain_numbers import encodings, single_encodings
from transfer_boost_parties import SMALL, Run, parties, run

from ftl.channel import decode
from ftl.features import BinEdges, Frame
from ftl.protocols.boosting.messages import Gradients, Sums

SHARED = 200
FEW = {**SMALL, "opinion_rounds": 1, "rounds": 2, "alone_rounds": 1, "alone_depth": 2}


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return parties()


@pytest.fixture(scope="module")
def recorded(frames: list[Frame]) -> Run:
    return run(frames, SHARED, None, FEW, payloads=True)


def test_no_value_threshold_or_identifier_crosses(frames: list[Frame], recorded: Run) -> None:
    sent = b"".join(message.payload for message in recorded.recording.messages)
    edges = BinEdges.fit(frames[1].values, frames[1].categorical, SMALL["max_bins"]).edges[0]
    rows = [value for frame in frames for value in frame.values[:, 0][:SHARED] if not np.isnan(value)]
    for value in [*edges, *rows]:
        assert not any(form in sent for form in encodings(float(value)))
    assert not any(form in sent for column in (edges, rows) for form in single_encodings(list(column)))
    for frame in frames:
        assert not any(identifier.encode() in sent for identifier in frame.ids)
        assert not any(column.encode() in sent for column in frame.columns)


def test_no_label_gradient_or_hessian_crosses(frames: list[Frame], recorded: Run) -> None:
    label = frames[0].label[:SHARED].astype(np.uint8)
    sent = b"".join(m.payload for m in recorded.recording.messages if m.sender == "bank")
    for people in (label, np.packbits(label), label.astype("<f8"), label.astype("<i8")):
        assert people[:24].tobytes() not in sent
    base = recorded.active
    assert base.baseline is not None
    chance = np.concatenate([base.baseline, base.probability, base.alone["partner"]])
    for value in np.concatenate([chance, chance - 1, chance * (1 - chance), np.log(chance / (1 - chance))]):
        assert not any(form in sent for form in encodings(float(value)))


def test_no_ciphertext_repeats(recorded: Run) -> None:
    chunks: Counter[bytes] = Counter()
    for message in recorded.recording.messages:
        if message.topic.endswith("gradients"):
            bodies = [decode(message.payload, Gradients, sender="", topic="").ciphertexts]
        elif "/sums/" in message.topic:
            bodies = decode(message.payload, Sums, sender="", topic="").ciphertexts
        else:
            continue
        for body in bodies:
            chunks.update({body[at : at + 32] for at in range(64, len(body) - 64, 16)})
    repeated = [chunk for chunk, count in chunks.items() if count > 1 and len(set(chunk)) > 8]
    assert len(chunks) > 1000
    assert repeated == []


def test_every_message_is_of_a_known_kind(recorded: Run) -> None:
    kinds = {
        (message.sender, next(word for word in message.topic.split("/") if word != "round" and not word.isdigit()))
        for message in recorded.recording.messages
    }
    assert kinds == {
        *(("bank", kind) for kind in ("base", "start", "gradients", "choice", "divided", "alone", "kept")),
        *(("partner", kind) for kind in ("ready", "sums", "sides", "masks")),
    }


def test_sizes_do_not_depend_on_the_values(frames: list[Frame], recorded: Run) -> None:
    """Other labels, and so other gradients and splits: the same bytes of ciphertext up to their own coding."""
    random = np.random.default_rng(0)
    label = frames[0].label.copy()
    label[:SHARED] = random.permutation(label[:SHARED])
    other = Frame("bank", frames[0].columns, frames[0].values, {}, frames[0].ids, label, frames[0].holdout)
    again = run([other, frames[1]], SHARED, None, FEW, payloads=True)

    def sizes(result: Run, kind: str) -> list[int]:
        return [len(m.payload) for m in result.recording.messages if kind in m.topic and "/1" not in m.topic]

    for kind in ("gradients", "sums/0"):
        for first, second in zip(sizes(recorded, kind), sizes(again, kind), strict=True):
            assert abs(first - second) <= 0.002 * first + 16  # a ciphertext may begin with a zero byte


def test_the_partner_never_learns_a_leaf_value_or_how_parts_are_weighed(recorded: Run) -> None:
    sent = b"".join(message.payload for message in recorded.recording.messages if message.sender == "bank")
    combiner, part = recorded.active.combiner, recorded.outcomes["partner"].part
    leaves = [value for tree in [*combiner.trees, *combiner.alone["partner"].trees] for value in tree if value]
    weights = [recorded.active.settings[name] for name in ("base_weight", "label_weight")]
    for value in [*leaves, *weights, combiner.offset, combiner.alone["partner"].offset]:
        assert not any(form in sent for form in encodings(value))
        assert repr(value).encode() not in part
