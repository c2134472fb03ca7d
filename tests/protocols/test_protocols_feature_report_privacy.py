"""What crosses in a whole encrypted run of three parties, searched."""

from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from clear_cipher import ClearScheme
from feature_report_parties import Encrypted, Run, parties, run
from plain_numbers import encodings

from ftl.channel import decode
from ftl.features import Frame
from ftl.features.woe_table import WoeTable
from ftl.protocols.feature_report import Settings
from ftl.protocols.feature_report.columns import own_columns
from ftl.protocols.feature_report.messages import CHAIN, Merged, Products, Share, Sums, Vectors
from ftl.protocols.feature_report.passive import in_secret_order
from ftl.protocols.feature_report.products import Layout, drawn_masks

SHARED = 120
NARROW = {"fine_bins": 6, "bins": 3}


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return parties(people=200, partners=("shop", "telecom"))


@pytest.fixture(scope="module")
def recorded(frames: list[Frame]) -> Run:
    return run(frames, SHARED, Encrypted(), NARROW, payloads=True)


def test_no_value_threshold_name_or_identifier_crosses(frames: list[Frame], recorded: Run) -> None:
    sent = b"".join(message.payload for message in recorded.recording.messages)
    numbers = [value for frame in frames for value in frame.values[:SHARED, 0] if not np.isnan(value)]
    for frame in frames:
        for column in own_columns(frame, np.arange(SHARED), Settings(**NARROW)):
            numbers += [*column.fine.edges, *column.vectors[:, :1].ravel()[:40]]
        assert not any(identifier.encode() in sent for identifier in frame.ids)
        assert not any(name.encode() in sent for name in frame.columns if len(name) > 4)
        assert not any(text.encode() in sent for texts in frame.categories.values() for text in texts if len(text) > 4)
    fractions = [value for value in numbers if len(repr(float(value))) > 9]  # bytes of a short one come up by chance
    assert len(fractions) > 300
    for value in fractions:
        assert not any(form in sent for form in encodings(float(value)))
    for frame in frames:
        for column in frame.values[:SHARED].T:  # four bytes of one person come up by chance in so much ciphertext
            assert not any(
                column[at : at + 3].astype(kind).tobytes() in sent for at in range(9) for kind in ("<f4", ">f4")
            )


def test_no_label_crosses_and_no_count_of_bad_people(frames: list[Frame], recorded: Run) -> None:
    label = frames[0].label[:SHARED].astype(np.uint8)
    sent = b"".join(m.payload for m in recorded.recording.messages if m.sender == "bank")
    for people in (label, np.packbits(label), label.astype("<f8"), label.astype("<i8")):
        assert people[:24].tobytes() not in sent
    bare = [m.payload for m in recorded.recording.messages if m.topic == "merged"]
    for payload in bare:
        assert decode(payload, Merged, sender="", topic="").woe == []


def test_no_weight_of_evidence_crosses_unless_told_and_none_of_a_bin_with_few_of_a_class(frames: list[Frame]) -> None:
    label = np.where(np.arange(200) < 14, 1.0, 0.0)  # so few bad people that some bins must have fewer than five
    rare = replace(frames[0], label=label)
    told = run([rare, *frames[1:]], SHARED, ClearScheme(), {**NARROW, "tell_partner_woe": True, "monotone": "none"})
    weights = []
    for party in ("shop", "telecom"):
        tables = msgspec.json.decode(told.outcomes[party].private["bins.json"], type=list[WoeTable])
        weights += [(each.people, each.woe) for table in tables for each in table.bins]
    assert any(woe is None for _, woe in weights)
    assert any(woe is not None for _, woe in weights)
    for people, woe in weights:
        if woe is not None:
            odds = np.exp(woe) * (SHARED - 14) / 14  # good people for each bad one
            assert 5 - 1e-9 <= people / (1 + odds) <= people - 5 + 1e-9


def test_no_ciphertext_repeats(recorded: Run) -> None:
    chunks: Counter[bytes] = Counter()
    bodies: dict[tuple[str, str], list[bytes]] = {}
    for message in recorded.recording.messages:
        if message.topic == "sums":
            bodies[message.sender, message.receiver] = [decode(message.payload, Sums, sender="", topic="").ciphertexts]
        elif message.topic in {"vectors", "products"}:
            kind = Vectors if message.topic == "vectors" else Products
            found = decode(message.payload, kind, sender="", topic="").ciphertexts
            if message.topic == "products" or message.receiver == "telecom":  # the same vectors go to all after it
                bodies[message.sender + message.topic, message.receiver] = found
    for body in (each for part in bodies.values() for each in part):
        chunks.update({body[at : at + 32] for at in range(64, len(body) - 64, 16)})
    repeated = [chunk for chunk, count in chunks.items() if count > 1 and len(set(chunk)) > 8]
    assert len(chunks) > 1000
    assert repeated == []


def test_every_message_is_of_a_known_kind(recorded: Run) -> None:
    kinds = {(m.sender, m.receiver, m.topic) for m in recorded.recording.messages}
    passive = ("shop", "telecom")
    assert kinds == {
        *(("bank", party, topic) for party in passive for topic in ("labels", "vectors", "merged", "verdict")),
        *((party, "bank", topic) for party in passive for topic in ("sums", "stability", "products", "within")),
        ("shop", "telecom", "vectors"),
        ("telecom", "shop", "products"),
        ("shop", "bank", "share/telecom"),
        ("telecom", "bank", "share/shop"),
    }


def test_one_share_of_a_product_between_partners_is_noise(frames: list[Frame], recorded: Run) -> None:
    """Two runs on the same people: the same products, other shares, with every bit as often set as not."""
    again = run(frames, SHARED, ClearScheme(), NARROW, payloads=True)
    for sender in ("shop", "telecom"):
        shares = []
        for result in (recorded, again):
            found = next(m for m in result.recording.messages if m.topic.startswith("share/") and m.sender == sender)
            shares.append(decode(found.payload, Share, sender="", topic="").values)
        assert not np.isin(shares[0], shares[1]).any()
        bits = np.unpackbits(np.concatenate([share.ravel() for share in shares]).view(np.uint8))
        assert abs(bits.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(bits))


def test_masks_are_wider_than_what_they_hide() -> None:
    layout = Layout(people=24_000, capacity=682, masked=True)
    widest = max(int(mask).bit_length() for mask in drawn_masks(layout, (20, 20)).ravel())
    assert widest - (2 * layout.offset).bit_length() >= 39
    assert layout.slots >= 1
    assert not drawn_masks(Layout(24_000, 682, masked=False), (3, 3)).any()


def test_the_order_of_columns_the_direction_of_chains_and_categories_change_from_run_to_run(frames) -> None:
    columns = own_columns(frames[1], np.arange(SHARED), Settings(min_bucket=10))
    orders, directions, categories = set(), set(), set()
    for _ in range(40):
        sent = in_secret_order(columns)
        orders.add(tuple(each.column.name for each in sent))
        for each in sent:
            if each.column.name == "again":
                directions.add(bool(each.order[0] > each.order[-1]))
            if each.column.name == "region":
                categories.add(tuple(each.order))
            assert each.column.kind != CHAIN or abs(np.diff(each.order[: each.column.fine.known])).max() == 1
    assert len(orders) > 30
    assert directions == {True, False}
    assert len(categories) > 10


def test_sizes_do_not_depend_on_labels(frames: list[Frame], recorded: Run) -> None:
    label = np.random.default_rng(0).permutation(frames[0].label)
    again = run([replace(frames[0], label=label), *frames[1:]], SHARED, Encrypted(), NARROW, payloads=True)

    def sizes(result: Run) -> dict[tuple[str, str, str], int]:
        kept = {"labels", "vectors", "sums", "products", "stability", "within", "share/shop", "share/telecom"}
        return {(m.sender, m.receiver, m.topic): len(m.payload) for m in result.recording.messages if m.topic in kept}

    first, second = sizes(recorded), sizes(again)
    assert first.keys() == second.keys()
    for key, size in first.items():
        assert abs(size - second[key]) <= 0.002 * size + 16  # a ciphertext may begin with a zero byte
