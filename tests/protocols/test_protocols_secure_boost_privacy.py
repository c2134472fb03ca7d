"""Everything that leaves a party in a run, searched for what must not."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from plain_numbers import encodings, single_encodings
from secure_boost_parties import SHARED, SMALL, Run, parties, run

from ftl.channel import decode
from ftl.features import BinEdges, Frame
from ftl.protocols.boosting.messages import Gradients, Sums

SETTINGS = {**SMALL, "rounds": 2, "own_model": True}


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return parties("number")


@pytest.fixture(scope="module")
def recorded(frames: list[Frame]) -> Run:
    return run(frames, None, SETTINGS)


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


def test_no_label_gradient_or_leaf_value_crosses(frames: list[Frame], recorded: Run) -> None:
    sent = b"".join(m.payload for m in recorded.recording.messages if m.sender == "bank")
    label = frames[0].label[:SHARED]
    leaves = [value for tree in recorded.active.combiner.trees for value in tree]
    for value in [*label, *(label - label.mean()), *(label.mean() - label), *leaves]:
        assert not any(form in sent for form in encodings(float(value)))


def test_no_ciphertext_repeats(recorded: Run) -> None:
    chunks: Counter[bytes] = Counter()
    for message in recorded.recording.messages:
        bodies: list[bytes] = []
        if message.topic.endswith("gradients"):
            bodies = [decode(message.payload, Gradients, sender="", topic="").ciphertexts]
        elif "/sums/" in message.topic:
            bodies = decode(message.payload, Sums, sender="", topic="").ciphertexts
        for body in bodies:
            chunks.update({body[at : at + 32] for at in range(0, len(body) - 32, 16)})
    assert len(chunks) > 1000
    assert [chunk for chunk, count in chunks.items() if count > 1] == []


def test_every_message_is_of_a_known_kind(recorded: Run) -> None:
    kinds = {
        (message.sender, next(word for word in message.topic.split("/") if word != "round" and not word.isdigit()))
        for message in recorded.recording.messages
    }
    assert kinds == {
        *(("bank", kind) for kind in ("base", "start", "gradients", "choice", "divided", "kept")),
        *(("partner", kind) for kind in ("ready", "sums", "sides", "masks")),
    }


def test_sizes_do_not_depend_on_the_values(frames: list[Frame], recorded: Run) -> None:
    """Other labels, and so other gradients and splits: the same bytes, but for the length of the modulus."""
    label = frames[0].label.copy()
    label[:SHARED] = np.random.default_rng(0).permutation(label[:SHARED])
    again = run([replace(frames[0], label=label), frames[1]], None, SETTINGS)
    found = []
    for kind in ("gradients", "sums/0"):
        first, second = (
            [len(m.payload) for m in result.recording.messages if kind in m.topic] for result in (recorded, again)
        )
        assert len(first) == len(second) == 2
        assert first[0] == first[1]
        found.append([abs(a - b) for a, b in zip(first, second, strict=True)])
    assert max(found[0]) <= SHARED + 8
    assert max(found[1]) <= 16
