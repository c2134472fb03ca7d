"""What leaves a party of `hetero_logistic` and `hetero_linear`: recorded runs, searched."""

from collections import Counter

import msgspec
import numpy as np
import pytest
from hetero_parties import Run, parties, run
from plain_numbers import encodings

from ftl.channel import Channel, decode, encode
from ftl.crypto.shares import PRIMES
from ftl.errors import ProtocolError
from ftl.features import Frame
from ftl.protocols.hetero_linear import LINEAR, LOGISTIC
from ftl.protocols.hetero_linear.messages import Ciphertexts, Matrix, Report, Scores, Shares, Sums, Taking

SHORT = {"rounds": 2}
TRAINED = 420


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return parties(partners=("partner", "shop"), gaps=True, people=540)


@pytest.fixture(scope="module")
def recorded(frames: list[Frame]) -> Run:
    return run(frames, LOGISTIC, SHORT, payloads=True)


def of(result: Run, word: str, kind: type) -> list:
    """Messages whose topic ends in a word, decoded."""
    return [
        decode(message.payload, kind, sender="", topic="")
        for message in result.recording.messages
        if message.topic.rsplit("/", 1)[-1] == word
    ]


CIPHERTEXTS = ("vectors", "products", "features", "residuals", "weights", "weighted")


def in_the_clear(result: Run) -> bytes:
    """All that was sent but ciphertexts, of which receivers accept nothing else, and which have a test of their own."""
    messages = result.recording.messages
    return b"".join(m.payload for m in messages if m.topic.rsplit("/", 1)[-1] not in CIPHERTEXTS)


def test_no_value_identifier_category_or_column_crosses(frames: list[Frame], recorded: Run) -> None:
    sent = in_the_clear(recorded)
    for frame in frames:
        for value in frame.values[:TRAINED, 0][~np.isnan(frame.values[:TRAINED, 0])]:
            assert not any(form in sent for form in encodings(float(value)))
        assert not any(identifier.encode() in sent for identifier in frame.ids)
        assert not any(column.encode() in sent for column in frame.columns)
        assert not any(text.encode() in sent for texts in frame.categories.values() for text in texts)


def test_no_label_margin_or_residual_of_a_training_person_crosses(frames: list[Frame], recorded: Run) -> None:
    label = frames[0].label[:TRAINED]
    sent = in_the_clear(recorded)
    for form in (label.astype("<u1"), np.packbits(label.astype(bool)), label.astype("<f8"), label.astype("<i8")):
        assert form[:24].tobytes() not in sent
    margin = np.zeros(TRAINED)
    for frame in frames:
        share = LOGISTIC.load(recorded.outcomes[frame.party].part, {}).sub_scores(frame.values[:TRAINED]).share[:, 0]
        margin = margin + share
        assert not any(form in sent for value in share for form in encodings(float(value)))
    assert not any(form in sent for value in 1 / (1 + np.exp(-margin)) for form in encodings(float(value)))


def test_no_coefficient_or_standard_error_crosses(recorded: Run) -> None:
    sent = in_the_clear(recorded)
    for party in recorded.outcomes:
        for row in recorded.table(party).rows:
            numbers = [row.coefficient, row.per_unit, row.standard_error, row.p_value]
            assert not any(form in sent for number in numbers for form in encodings(number))


def test_every_message_is_of_a_known_kind(recorded: Run) -> None:
    kinds = {(message.sender, message.topic.rsplit("/", 1)[-1]) for message in recorded.recording.messages}
    everybody = ("vectors", "products", "sums", "free")
    bank = ("base", "start", "taking", "frequencies", "features", "step", "weights", "moments", "finish")
    passive = ("ready", "report", "scores", "weighted")
    assert kinds == {
        *(("bank", kind) for kind in (*everybody, *bank)),
        *(("partner", kind) for kind in (*everybody, *passive, "residuals", "weights")),
        *(("shop", kind) for kind in (*everybody, *passive, "margins", "moments")),
    }


def test_no_ciphertext_repeats(recorded: Run) -> None:
    chunks: Counter[bytes] = Counter()
    for word in CIPHERTEXTS:
        # The same ciphertexts go to every party that multiplies them; each is counted once.
        bodies = {body for message in of(recorded, word, Ciphertexts) for body in message.items}
        for body in bodies:
            chunks.update({body[at : at + 32] for at in range(200, len(body) - 200, 4096)})
    assert len(chunks) > 1000
    assert [chunk for chunk, count in chunks.items() if count > 1 and len(set(chunk)) > 8] == []


@pytest.mark.parametrize(("word", "kind", "below"), [("sums", Sums, PRIMES[0]), ("margins", Shares, 1 << 32)])
def test_what_is_opened_on_the_way_looks_uniform(recorded: Run, word: str, kind: type, below: int) -> None:
    share = np.concatenate([message.values.ravel() for message in of(recorded, word, kind)]) / below
    assert share.min() >= 0
    assert share.max() < 1
    assert abs(share.mean() - 0.5) < 4 / np.sqrt(12 * len(share))
    assert np.histogram(share, bins=4, range=(0, 1))[0].min() > len(share) / 8


def test_shares_of_margins_of_numbers_look_uniform_too(frames: list[Frame]) -> None:
    number = parties("number", partners=("partner", "shop"))
    result = run(number, LINEAR, SHORT | {"standard_errors": False}, payloads=True)
    share = np.concatenate([message.values for message in of(result, "margins", Shares)]) / PRIMES[0]
    assert abs(share.mean() - 0.5) < 4 / np.sqrt(12 * len(share))


def test_sizes_do_not_depend_on_the_values(frames: list[Frame], recorded: Run) -> None:
    order = np.r_[np.random.default_rng(0).permutation(TRAINED), np.arange(TRAINED, len(frames[0].ids))]
    others = [Frame(f.party, f.columns, f.values[order], f.categories, f.ids) for f in frames[1:]]
    again = run([frames[0], *others], LOGISTIC, SHORT, payloads=True)
    for word in ("vectors", "products", "sums", "margins", "moments", "scores"):
        sizes = [
            sorted(len(m.payload) for m in one.recording.messages if m.topic.endswith(f"/{word}"))
            for one in (recorded, again)
        ]
        assert sizes[0] == pytest.approx(sizes[1], rel=2e-3)  # compression of SEAL's objects moves some bytes


def test_moments_are_told_in_directions_that_change_with_every_run(frames: list[Frame], recorded: Run) -> None:
    again = run(frames, LOGISTIC, SHORT, payloads=True)
    first, second = (of(one, "moments", Matrix)[0].values for one in (recorded, again))
    assert first.shape == second.shape
    assert np.abs(first - second).max() > 0.01
    strengths = [np.linalg.svd(moments, compute_uv=False) for moments in (first, second)]
    assert strengths[0] == pytest.approx(strengths[1], abs=5e-3)
    # Shares of a third party's margins are drawn anew, and with them the rounding.
    assert recorded.column("coefficient") == pytest.approx(again.column("coefficient"), abs=2e-3)


class Meddler:
    """Sends something else under one topic."""

    def __init__(self, channel: Channel, sender: str, topic: str, message: msgspec.Struct) -> None:
        self.inner, self.me, self.peers = channel, channel.me, channel.peers
        self._sender, self._topic, self._message = sender, topic, message

    def send(self, to: str, topic: str, payload: bytes) -> None:
        changed = self.me == self._sender and topic == self._topic
        self.inner.send(to, topic, encode(self._message) if changed else payload)

    def receive(self, sender: str, topic: str, timeout: float) -> bytes:
        return self.inner.receive(sender, topic, timeout)


MEDDLING = [
    ("partner", "round/1/products", Ciphertexts([b""] * 5), "'partner' sent what cannot be read: 5 ciphertexts"),
    ("partner", "round/1/products", Ciphertexts([b"no"]), "'partner' sent what cannot be read"),
    ("bank", "round/1/vectors", Ciphertexts([]), "'bank' sent what cannot be read: 0 ciphertexts where 1"),
    ("bank", "round/0/sums", Sums(np.zeros((1, 2), dtype=np.int64)), r"'bank' sent an array of shape \(1, 2\)"),
    ("bank", "round/0/sums", Sums(np.full((1, 3), -1)), "'bank' sent under 'round/0/sums' numbers that are no shares"),
    ("partner", "round/0/report", Scores(np.zeros(2)), "'partner' sent under 'round/0/report' what is not a Report"),
    ("bank", "taking", Taking({"bank": 4, "stranger": 2}), "'bank' named parties that are not in this run"),
    ("bank", "taking", Taking({"bank": 4, "partner": 200}), "'bank' named a number of columns that cannot be"),
    (
        "partner",
        "scores",
        Scores(np.array([np.nan] * 200)),
        "'partner' sent under 'scores' numbers that are not finite",
    ),
]


@pytest.mark.parametrize(("sender", "topic", "message", "said"), MEDDLING)
def test_a_party_that_sends_nonsense_is_named(sender: str, topic: str, message: msgspec.Struct, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        run(
            parties(),
            LOGISTIC,
            {"rounds": 2, "standard_errors": False},
            through=lambda channel: Meddler(channel, sender, topic, message),
        )


def test_a_report_holds_a_few_inner_products_only(recorded: Run) -> None:
    for number, report in enumerate(of(recorded, "report", Report)):
        remembered = number // 2  # of two passive parties
        products = report.products
        assert products.step_change.shape == (remembered, remembered)
        assert products.change_gradient.shape == (remembered,)
        assert 0 <= report.reach <= 16
