"""The channel over NVFlare's cells: one message is one request from a site's job cell to another's.

The receiver acknowledges as soon as the message is in its inbox, so that a sender knows at once when it could not be
delivered. Every message carries its sender's running number; one that arrives twice is taken once.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ftl.channel import Inbox
from ftl.errors import ChannelError, ChannelTimeout, EngineUnavailable

CHANNEL = "ftl"
DELIVER = "deliver"
SMALL = 1_000_000
"""Bytes up to which a message travels as one frame (12 ms there and back); larger ones are streamed (17 ms)."""
RETRY = 0.1
"""Seconds between two tries."""
FIRST_TRY = 2.0
"""Seconds to wait for the acknowledgement of the first try; doubled with every further one."""
SLOWEST = 1e6
"""Bytes per second below which a connection counts as broken."""
TOPIC_HEADER, NUMBER_HEADER = "ftl_topic", "ftl_number"


class CellChannel:
    """One site's channel within one job.

    Args:
        cell: NVFlare's cell of this job at this site.
        job_id: NVFlare's name of the job; messages of other jobs are refused.
        me: this site, which is the party.
        peers: the other sites of the job.
        timeout: seconds for a peer to acknowledge a message.
        cancelled: whether the job is being ended.
    """

    def __init__(
        self, cell: Any, job_id: str, me: str, peers: Sequence[str], *, timeout: float, cancelled: Callable[[], bool]
    ) -> None:
        self._cell = cell
        self._me = me
        self._peers = tuple(peers)
        self._job_id = job_id
        self._timeout = timeout
        self._cancelled = cancelled
        self._inbox = Inbox(me)
        self._sent = dict.fromkeys(peers, 0)
        self._received = dict.fromkeys(peers, 0)
        self._turns = {peer: threading.Lock() for peer in peers}
        self._arrivals = threading.Lock()
        for carrier in (cell, cell.core_cell):
            carrier.register_request_cb(channel=CHANNEL, topic=DELIVER, cb=self._deliver)

    @property
    def me(self) -> str:
        """This party's name."""
        return self._me

    @property
    def peers(self) -> tuple[str, ...]:
        """Names of the other parties of this run."""
        return self._peers

    def send(self, to: str, topic: str, payload: bytes) -> None:
        """Deliver `payload` to a peer and wait for its acknowledgement.

        Raises:
            ChannelTimeout: the peer did not acknowledge; names both sites and the topic.
            ChannelError: there is no such peer.
            EngineUnavailable: the job is being ended.
        """
        if to not in self._turns:
            raise ChannelError(f"{self._me} has no peer {to!r} in this run.", cure=f"Peers: {', '.join(self._peers)}.")
        with self._turns[to]:
            self._sent[to] += 1
            self._send(to, topic, payload, self._sent[to])

    def receive(self, sender: str, topic: str, timeout: float) -> bytes:
        """Wait for the next message of `sender` under `topic`, at most `timeout` seconds.

        Raises:
            ChannelTimeout: names this party, the awaited one, the topic and the seconds waited.
            EngineUnavailable: the job is being ended.
        """
        self._check_cancelled()
        return self._inbox.take(sender, topic, timeout)

    def _send(self, to: str, topic: str, payload: bytes, number: int) -> None:
        """Try until acknowledged: a message to a peer whose job has not started yet is lost without a word."""
        from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey, ReturnCode
        from nvflare.fuel.f3.cellnet.utils import new_cell_message

        carrier = self._cell.core_cell if len(payload) <= SMALL else self._cell
        deadline = time.monotonic() + self._timeout
        patience = FIRST_TRY + len(payload) / SLOWEST
        while True:
            self._check_cancelled()
            reply = carrier.send_request(
                channel=CHANNEL,
                topic=DELIVER,
                target=f"{to}.{self._job_id}",
                request=new_cell_message({TOPIC_HEADER: topic, NUMBER_HEADER: number}, payload),
                timeout=max(1.0, min(patience, deadline - time.monotonic())),
                optional=True,
            )
            code = reply.get_header(MessageHeaderKey.RETURN_CODE, ReturnCode.OK)
            if code == ReturnCode.OK:
                return
            if time.monotonic() >= deadline:
                raise ChannelTimeout(
                    f"{self._me} could not deliver {topic!r} to {to} in {self._timeout:g} s ({code}).",
                    cure=f"See whether the site {to} is connected to the federation server.",
                )
            patience *= 2
            time.sleep(RETRY)

    def _deliver(self, message: Any) -> Any:
        """Take a message that a peer's cell sent; runs in a thread of NVFlare's."""
        from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey, ReturnCode
        from nvflare.fuel.f3.cellnet.utils import make_reply

        sender, _, job_id = str(message.get_header(MessageHeaderKey.ORIGIN)).partition(".")
        topic, number = message.get_header(TOPIC_HEADER), message.get_header(NUMBER_HEADER)
        if sender not in self._received or job_id != self._job_id or not isinstance(topic, str):
            return make_reply(ReturnCode.INVALID_REQUEST)
        payload = bytes(message.payload or b"")  # NVFlare brings None for a message without content
        with self._arrivals:
            if isinstance(number, int) and number > self._received[sender]:
                self._received[sender] = number
                self._inbox.put(sender, topic, payload)
        return make_reply(ReturnCode.OK)

    def _check_cancelled(self) -> None:
        if self._cancelled():
            raise EngineUnavailable("the run was ended from outside.", cure="Start it again.")


class Reports:
    """Sends a site's words to the server in order, without holding up the program.

    Args:
        cell: NVFlare's cell of this job at this site.
        target: the server's job cell.
        beat: seconds of silence after which a sign of life is sent.
    """

    TOPIC = "report"

    def __init__(self, cell: Any, target: str, beat: float) -> None:
        self._cell = cell
        self._target = target
        self._beat = beat
        self._waiting: list[msgspec.Struct] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="ftl-reports", daemon=True)
        self._thread.start()

    def say(self, word: msgspec.Struct) -> None:
        """Send a word soon."""
        with self._changed:
            self._waiting.append(word)
            self._changed.notify()

    def close(self, timeout: float = 10.0) -> None:
        """Send what waits and stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed, self._beat)
                words, self._waiting = self._waiting, []
                last = self._closed
            self._send(words)
            if last:
                return

    def _send(self, words: list[msgspec.Struct]) -> None:
        from nvflare.fuel.f3.cellnet.utils import new_cell_message

        self._cell.send_request(
            channel=CHANNEL,
            topic=self.TOPIC,
            target=self._target,
            request=new_cell_message({}, msgspec.json.encode(words)),
            timeout=10.0,
            optional=True,
        )
