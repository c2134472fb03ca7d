"""Everything that leaves a party in a run of either variant, searched for what must not."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from neural_transfer_parties import SMALL, Run, parties, run
from plain_numbers import encodings

from ftl.channel import decode
from ftl.crypto.shares import PRIMES
from ftl.features import Frame
from ftl.protocols.neural_transfer.messages import Ciphertexts, Margins, Opened, Sums

SHARED = 160
GIVEN = {**SMALL, "epochs": 2, "learning_rate": 0.5}


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return parties()


@pytest.fixture(scope="module", params=["encrypted", "shared"])
def recorded(request, frames) -> Run:
    return run(frames, SHARED, {**GIVEN, "protection": request.param}, payloads=True)


def topic_kind(topic: str) -> str:
    return "/".join(word for word in topic.split("/") if not word.isdigit())


def test_no_value_or_identifier_crosses(frames, recorded):
    sent = b"".join(message.payload for message in recorded.recording.messages)
    for frame in frames:
        values = frame.values[:SHARED, 0]
        for value in values[~np.isnan(values)]:
            assert not any(form in sent for form in encodings(float(value)))
        assert not any(identifier.encode() in sent for identifier in frame.ids)
        assert not any(column.encode() in sent for column in frame.columns)


def test_no_label_margin_or_weight_crosses(frames, recorded):
    label = frames[0].label[:SHARED]
    sent = b"".join(message.payload for message in recorded.recording.messages if message.sender == "bank")
    for people in (
        label.astype(np.uint8),
        np.packbits(label.astype(np.uint8)),
        label,
        label.astype("<i8"),
        2 * label - 1,
    ):
        assert people[:16].tobytes() not in sent
    centre = [weight for (weight,) in recorded.active.combiner.network[0].weights]
    for value in [*centre, *recorded.active.alone["shop"]]:
        assert not any(form in sent for form in encodings(float(value)))


def test_no_ciphertext_repeats(recorded):
    seen: Counter[bytes] = Counter()
    for message in recorded.recording.messages:
        kind = topic_kind(message.topic)
        if kind == "margins/products":
            bodies = decode(message.payload, Margins, sender="", topic="").items
        elif kind.endswith(("operands", "products")):
            items = decode(message.payload, Ciphertexts, sender="", topic="").items
            bodies = [one for group in items for one in group]
        else:
            continue
        for body in bodies:
            seen.update({body[at : at + 32] for at in range(1024, len(body) - 64, 4096)})
    assert len(seen) > 300
    assert not [chunk for chunk, count in seen.items() if count > 1]


def test_what_is_opened_or_summed_looks_uniform(recorded):
    """In eighths of the range: no more people, weights or shares in one than chance explains."""
    counts, total = np.zeros(8), 0
    for message in recorded.recording.messages:
        kind = topic_kind(message.topic)
        if kind in {"epoch/opened", "inputs"}:
            for values in decode(message.payload, Opened, sender="", topic="").values:
                for part, prime in zip(values, PRIMES, strict=True):
                    counts += np.histogram(part, bins=8, range=(0, prime))[0]
                    total += part.size
        elif kind == "epoch/sums":
            values = decode(message.payload, Sums, sender="", topic="").values
            counts += np.histogram(values, bins=8, range=(0, PRIMES[0]))[0]
            total += values.size
    assert total > 100
    assert np.abs(counts - total / 8).max() < 5 * np.sqrt(total / 8)


def test_sums_that_come_back_are_one_for_each_weight_and_none_for_a_person(recorded):
    shapes = {
        decode(message.payload, Sums, sender="", topic="").values.shape
        for message in recorded.recording.messages
        if topic_kind(message.topic) == "epoch/sums"
    }
    released = {
        decode(message.payload, Opened, sender="", topic="").values[0].shape[1:]
        for message in recorded.recording.messages
        if message.topic.endswith("/opened/4")
    }
    assert shapes | released == {(4, SMALL["hidden"]), (7, SMALL["hidden"])}  # columns and the constant


def test_every_message_is_of_a_known_kind(recorded):
    kinds = {(message.sender, topic_kind(message.topic)) for message in recorded.recording.messages}
    both = {
        "encrypted": {"epoch/operands", "epoch/products", "epoch/sums"},
        "shared": {"inputs", "epoch/prepare/operands", "epoch/prepare/products", "epoch/opened"},
    }[recorded.active.settings["protection"]]
    assert kinds == {
        *((party, kind) for party in ("bank", "shop") for kind in both),
        *(("bank", kind) for kind in ("base", "start", "margins/operands")),
        *(("shop", kind) for kind in ("ready", "margins/products")),
    }


def test_sizes_do_not_depend_on_the_values(frames, recorded):
    """Other labels and other rows: the same bytes up to the coding of small integers and compression of ciphertexts."""
    random = np.random.default_rng(0)
    label = frames[0].label.copy()
    label[:SHARED] = random.permutation(label[:SHARED])
    columns = frames[1].values
    other = np.column_stack([columns[:, 0] * 3, random.permutation(columns[:, 1]), columns[:, 2]])
    given = {**GIVEN, "protection": recorded.active.settings["protection"]}
    changed = [replace(frames[0], label=label), replace(frames[1], values=other)]
    again = run(changed, SHARED, given, payloads=True)
    first, second = (
        {(m.sender, m.topic): len(m.payload) for m in one.recording.messages if m.topic.startswith(("epoch", "inputs"))}
        for one in (recorded, again)
    )
    assert first.keys() == second.keys()
    for name, size in first.items():
        assert abs(size - second[name]) <= 0.003 * size + 64
