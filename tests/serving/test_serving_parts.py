"""What serving is built from, without processes."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
from asgi_client import request
from hypothesis import given
from hypothesis import strategies as st

from ftl.errors import PartyUnavailable, ProtocolError
from ftl.protocols import Alone, Combiner, SubScores
from ftl.registry import Identifier
from ftl.serving.asgi import App, Request, Response
from ftl.serving.board import Board
from ftl.serving.credentials import pseudonymise
from ftl.serving.http1 import Peer
from ftl.serving.line import Line
from ftl.serving.metering import Meter, Use
from ftl.serving.wire import (
    MOST_MODELS,
    MOST_PEOPLE,
    Answers,
    Layout,
    Question,
    Refused,
    Wanted,
    decode_answers,
    decode_question,
    encode_answer,
    encode_answers,
    encode_question,
    mask_bytes,
)

KEY = bytes(32)


def scores_of(people: int, trees: int, generator: np.random.Generator, **more: np.ndarray) -> SubScores:
    masks = generator.integers(0, 2**64, (people, trees), dtype=np.uint64)
    return SubScores(
        known=generator.random(people) < 0.5,
        log_odds=generator.normal(size=people),
        leaves=masks,
        lost={"A": generator.random(people)},
        relaxed={"B": (np.arange(trees), masks), "C": (np.arange(trees)[:1], masks[:, :1])},
        **more,
    )


PART = Wanted("r", "s", 1)


def carried(sent: SubScores, mask: int = 8) -> SubScores:
    layout = Layout.of(sent, mask)
    return Answers("bank").decode(encode_answer(layout, layout.pack(sent)), len(sent.known))


@given(st.integers(0, 5), st.integers(0, 4), st.integers(0, 2**32))
def test_sub_scores_cross_the_wire_unchanged(people: int, trees: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    more = {"share": generator.normal(size=(people, 2)), "hidden": generator.normal(size=(people, 3))}
    own = generator.integers(0, 2**64, (people, 2), dtype=np.uint64)
    sent = scores_of(people, trees, generator, own_leaves=own, **more)
    came = carried(sent)
    for name in ("known", "log_odds", "leaves", "share", "own_leaves", "hidden"):
        assert (getattr(came, name) == getattr(sent, name)).all()
        assert getattr(came, name).shape == getattr(sent, name).shape
    assert (came.lost["A"] == sent.lost["A"]).all()
    for code in ("B", "C"):
        assert (came.relaxed[code][0] == sent.relaxed[code][0]).all()
        assert (came.relaxed[code][1] == sent.relaxed[code][1]).all()


def test_small_trees_take_one_byte_per_mask() -> None:
    sent = scores_of(3, 5, np.random.default_rng(0))
    came = carried(sent, mask=1)
    assert came.leaves.dtype == np.uint8
    assert (came.leaves == sent.leaves % 256).all()
    assert mask_bytes(Combiner([[0.0] * 8, [1.0]])) == 1
    assert mask_bytes(Combiner([[0.0] * 9])) == 2
    assert mask_bytes(Combiner([[0.0]], alone={"shop": Alone(0.0, [[0.0] * 64])})) == 8


def test_what_a_recipe_does_not_use_stays_absent_on_the_wire() -> None:
    came = carried(SubScores(np.ones(2, dtype=bool), np.zeros(2), np.zeros((2, 0), dtype=np.uint64)))
    assert (came.share, came.own_leaves, came.hidden) == (None, None, None)


def test_the_layout_crosses_once_and_an_unknown_one_is_refused() -> None:
    sent = scores_of(2, 3, np.random.default_rng(0))
    layout, asker = Layout.of(sent, 8), Answers("bank")
    first = encode_answer(layout, layout.pack(sent), asker.known)
    asker.decode(first, 2)
    second = encode_answer(layout, layout.pack(sent), asker.known)
    assert len(second) == len(first) - len(layout.encoded)
    assert (asker.decode(second, 2).leaves == sent.leaves).all()
    with pytest.raises(ProtocolError, match="bank answered something that is no sub-scores"):
        Answers("bank").decode(second, 2)


def test_an_answer_about_other_people_is_refused() -> None:
    two = SubScores(np.ones(2, dtype=bool), np.zeros(2), np.zeros((2, 1), dtype=np.uint64))
    layout = Layout.of(two, 1)
    for body in (encode_answer(layout, layout.pack(two)), b"", encode_answer(layout, layout.pack(two))[:-1]):
        with pytest.raises(ProtocolError, match="bank answered something that is no sub-scores of 3 people"):
            Answers("bank").decode(body, 3)


def test_a_board_answers_the_same_whether_filled_ahead_or_not_and_knows_whom_it_does_not_know() -> None:
    everybody = scores_of(600, 3, np.random.default_rng(0))
    layout, asked = Layout.of(everybody, 8), []

    def compute(rows: np.ndarray) -> SubScores:
        asked.append(len(rows))
        return carried_rows(rows)

    def carried_rows(rows: np.ndarray) -> SubScores:
        return layout.unpack(layout.pack(everybody)[rows])

    board = Board(layout, 600, compute)
    before = board.of(np.array([5, -1, 599, 5]))
    while board.fill():
        pass
    assert sum(asked) == 600
    after = board.of(np.array([5, -1, 599, 5]))
    assert before.tobytes() == after.tobytes()
    assert sum(asked) == 600
    assert layout.unpack(after).known.tolist()[1] is False
    assert (layout.unpack(after).leaves[1] == np.uint64(2**64 - 1)).all()
    assert (layout.unpack(after).leaves[[0, 2, 3]] == everybody.leaves[[5, 599, 5]]).all()


def test_a_question_about_too_many_people_is_refused() -> None:
    with pytest.raises(ProtocolError, match="5001 people in one question"):
        decode_question(encode_question(Question([PART], [b"p"] * (MOST_PEOPLE + 1))))


def test_a_question_whose_fields_do_not_fit_its_people_is_refused() -> None:
    with pytest.raises(ProtocolError, match="1 sets of fields for 2 people"):
        decode_question(encode_question(Question([PART], [b"p", b"q"], fields=[{}])))


@pytest.mark.parametrize("people", [[2], [-1], [0, 1, 0]])
def test_a_model_that_is_wanted_for_others_than_the_questions_people_is_refused(people: list[int]) -> None:
    wanted = msgspec.structs.replace(PART, people=people)
    with pytest.raises(ProtocolError, match="for others than the question's 2 people"):
        decode_question(encode_question(Question([PART, wanted], [b"p", b"q"])))


@pytest.mark.parametrize("models", [0, MOST_MODELS + 1])
def test_a_question_about_no_model_or_too_many_is_refused(models: int) -> None:
    with pytest.raises(ProtocolError, match=f"{models} models in one question"):
        decode_question(encode_question(Question([PART] * models, [b"p"])))


def test_one_part_that_is_refused_leaves_the_answers_of_the_others() -> None:
    said = encode_answers([b"rows", Refused("registry", "no such part")])
    assert decode_answers("bank", said, 2) == [b"rows", Refused("registry", "no such part")]
    with pytest.raises(ProtocolError, match="bank answered from 2 model parts; 1 were asked for"):
        decode_answers("bank", said, 1)
    with pytest.raises(ProtocolError, match="bank answered something that is no sub-scores"):
        decode_answers("bank", b"\x93", 1)


@pytest.mark.parametrize(
    ("identifier", "written", "meant"),
    [
        (Identifier("a", normalise="upper"), " ab1 ", "AB1"),
        (Identifier("a", normalise="digits"), "+86 (10) 1-2", "861012"),
        (Identifier("a", normalise="trim"), " ab1 ", "ab1"),
        (Identifier("a"), " ab1 ", " ab1 "),
        (Identifier("a", type="int64"), "007", "7"),
        (Identifier("a", type="int64", normalise="digits"), "0-07", "7"),
    ],
)
def test_spellings_of_one_identifier_have_one_pseudonym(identifier: Identifier, written: str, meant: str) -> None:
    plain = Identifier("a")
    assert pseudonymise(KEY, [identifier], [written]) == pseudonymise(KEY, [plain], [meant])


def test_the_meter_starts_a_new_file_each_month_and_keeps_the_old(tmp_path: Path) -> None:
    now = [datetime(2026, 1, 31, 23, 59, tzinfo=UTC)]
    meter = Meter(tmp_path, KEY, lambda: now[0], {"full.1": 2.5})
    meter.record(b"p", "m/1", ["bank"], degraded=False, client="c")
    now[0] = datetime(2026, 2, 1, tzinfo=UTC)
    meter.record(b"p", "m/1", ["bank"], degraded=True, client="c", service="full.1")
    meter.close()
    uses = [msgspec.json.decode(path.read_bytes(), type=Use) for path in sorted(tmp_path.iterdir())]
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["2026-01.jsonl", "2026-02.jsonl"]
    assert [use.degraded for use in uses] == [False, True]
    assert [use.price for use in uses] == [0.0, 2.5]
    assert uses[0].subject == uses[1].subject


def test_an_error_nobody_expected_is_a_500_that_repeats_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: Request) -> Response:
        raise ValueError("A123456789")

    said = asyncio.run(request(App({("POST", "/x"): broken}), "POST", "/x", b"A123456789"))
    assert said.status == 500
    assert b"A123456789" not in said.body
    assert "A123456789" not in caplog.text
    assert caplog.records[0].kind == "ValueError"


def test_a_transient_error_may_be_retried() -> None:
    async def away(_: Request) -> Response:
        raise PartyUnavailable("bank is away.", cure="Try again.")

    said = asyncio.run(request(App({("GET", "/x"): away}), "GET", "/x"))
    assert (said.status, said.headers["retry-after"]) == (503, "1")


async def answer_once(reply: bytes, requests: int = 1) -> list[tuple[int, bytes]]:
    """What `Peer` makes of a server that sends `reply` to a connection's first request and then hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    peer = Peer(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", None)
    async with server, asyncio.timeout(10):
        return [await peer.post("/", b"") for _ in range(requests)]


def test_a_kept_connection_that_was_closed_meanwhile_is_replaced() -> None:
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert asyncio.run(answer_once(reply, requests=3)) == [(200, b"ok")] * 3


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"garbage\r\n\r\n",
        b"x" * 20_000,
    ],
    ids=["chunked", "two-lengths", "negative", "garbage", "endless-head"],
)
def test_a_server_that_speaks_something_else_is_a_protocol_error(reply: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"does not speak HTTP/1\.1 as expected"):
        asyncio.run(answer_once(reply))


def test_a_server_that_hangs_up_within_an_answer_is_a_broken_connection() -> None:
    with pytest.raises(ConnectionError, match="closed"):
        asyncio.run(answer_once(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok"))


async def arriving(line: Line[bytes, list[bytes]], *names: bytes) -> list[asyncio.Task[tuple[list[bytes], int]]]:
    """Each comes when the one before is already being asked about."""
    tasks = []
    for name in names:
        tasks.append(asyncio.create_task(line.ask(name)))
        await asyncio.sleep(0.001)
    return tasks


def test_who_arrives_while_the_parties_are_asked_shares_the_next_question_and_gets_their_own_answer() -> None:
    asked: list[list[bytes]] = []

    async def ask(pseudonyms: Sequence[bytes]) -> list[bytes]:
        asked.append(list(pseudonyms))
        await asyncio.sleep(0.1)
        return [b"about " + name for name in pseudonyms]

    names = [str(number).encode() for number in range(50)]

    async def everybody() -> list[tuple[list[bytes], int]]:
        return await asyncio.gather(*await arriving(Line(ask), *names))

    said = asyncio.run(everybody())
    assert [answers[place] for answers, place in said] == [b"about " + name for name in names]
    assert [len(question) for question in asked] == [1, 16, 33]


def test_an_error_reaches_everybody_who_shared_the_question_and_nobody_after_them() -> None:
    broken = [True, False]

    async def ask(pseudonyms: Sequence[bytes]) -> list[bytes]:
        fails = broken.pop(0)
        await asyncio.sleep(0.02)
        if fails:
            raise ConnectionResetError("gone")
        return list(pseudonyms)

    async def everybody() -> list[tuple[list[bytes], int] | BaseException]:
        return await asyncio.gather(*await arriving(Line(ask), *(b"%d" % n for n in range(5))), return_exceptions=True)

    said = asyncio.run(everybody())
    assert [isinstance(one, ConnectionResetError) for one in said] == [True, False, False, False, False]


def test_who_gave_up_waiting_is_not_asked_about() -> None:
    asked: list[list[bytes]] = []

    async def ask(pseudonyms: Sequence[bytes]) -> list[bytes]:
        asked.append(list(pseudonyms))
        await asyncio.sleep(0.1)
        return list(pseudonyms)

    async def impatient(line: Line[bytes, list[bytes]], name: bytes) -> None:
        async with asyncio.timeout(0.02):
            await line.ask(name)

    async def everybody() -> None:
        line = Line(ask)
        patient = await arriving(line, b"1", b"2")
        with pytest.raises(TimeoutError):
            await impatient(line, b"3")
        await asyncio.gather(*patient, line.ask(b"4"))

    asyncio.run(everybody())
    assert asked == [[b"1"], [b"2", b"4"]]
