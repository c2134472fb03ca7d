"""The two classes that a job names: one runs at the federation server, one at every party's site.

They are installed with this package at server and sites; a job is two config files that name them and one request. The
site's own `local/node.json` says which node it works for.
"""

import logging
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
from nvflare.apis.client import ClientDictKey
from nvflare.apis.controller_spec import ClientTask, Task
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.job_def import JobMetaKey
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal

from ftl.consortium import Node, load
from ftl.errors import EngineUnavailable, FederationError, FtlError, ProtocolError
from ftl.federation.carrier import CHANNEL, CellChannel, Reports
from ftl.federation.failure import Failure, failure_at, told
from ftl.federation.kits import LocalCoordinator, LocalNode
from ftl.federation.party import PartyResult, run_party
from ftl.federation.record import Ledger, RunRecord
from ftl.federation.run import Request
from ftl.protocols import Step

log = logging.getLogger(__name__)

RUN_TASK = "run"
BEAT = 2.0
"""Seconds of silence after which a site gives a sign of life."""
SILENCE = 60.0
"""Seconds without any sign after which a site counts as gone. Long, because ciphers may hold the interpreter."""
START = 90.0
"""Seconds a site has for starting its job process."""
FAREWELL = 5.0
"""Seconds the other parties have to end by themselves after one has failed."""
LOOK = 0.1


class Word(msgspec.Struct, frozen=True):
    """What a site tells the server.

    Attributes:
        step: progress.
        result: the party has finished.
        failure: the run has failed.
        leaving: the site has been told to stop, and not by us.
    """

    step: Step | None = None
    result: PartyResult | None = None
    failure: Failure | None = None
    leaving: bool = False


class RunController(Controller):  # type: ignore[misc]
    """Server side: starts the parties, records what they report, ends the job when one fails or falls silent.

    Args:
        request: the run's request, as JSON.
    """

    def __init__(self, request: str) -> None:
        super().__init__(task_check_period=LOOK)
        self._request = msgspec.json.decode(request, type=Request)
        self._lock = threading.Lock()
        self._heard: dict[str, float] = {}
        self._answered: set[str] = set()
        self._leaving: set[str] = set()
        self._failed: float | None = None
        self._ledger: Ledger | None = None

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Open the run's record."""
        local = msgspec.json.decode(_local(fl_ctx, "coordinator.json"), type=LocalCoordinator)
        record = RunRecord(Path(local.runs) / self._request.run_id)
        parties = [party for party in local.parties if not self._request.parties or party in self._request.parties]
        self._ledger = Ledger(record, tuple(parties))
        self._heard = dict.fromkeys(parties, time.monotonic() + START - SILENCE)
        cell = fl_ctx.get_engine().get_cell()
        cell.register_request_cb(channel=CHANNEL, topic=Reports.TOPIC, cb=self._listen, job_id=fl_ctx.get_job_id())

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Ask every site to run its party and wait until all have answered or one has failed."""
        task = Task(name=RUN_TASK, data=Shareable(), result_received_cb=self._answer)
        self.broadcast(task=task, fl_ctx=fl_ctx, targets=list(self._heard), min_responses=len(self._heard))
        while not self._over():
            if abort_signal.triggered:
                self._fail(self._why_ended())
                break
            time.sleep(LOOK)
        self.cancel_task(task, fl_ctx=fl_ctx)
        if self._failed is not None:
            self.system_panic("a party has failed; see the run's error.json", fl_ctx)

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Nothing is left to stop."""

    def process_result_of_unknown_task(
        self, client: Any, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """A late answer after the run has ended is of no use."""

    def _over(self) -> bool:
        now = time.monotonic()
        with self._lock:
            if len(self._answered) == len(self._heard):
                return True
            silent = [p for p, at in self._heard.items() if p not in self._answered and now - at > SILENCE]
        if silent and self._failed is None:
            message = f"{silent[0]}: its site has not been heard of for {SILENCE:g} s."
            self._fail(Failure(EngineUnavailable.code, message, "See that it runs and is connected, then try again."))
        return self._failed is not None and now - self._failed > FAREWELL

    def _why_ended(self) -> Failure:
        """NVFlare ended the job. A site that still says so is well; one that says nothing has lost its job process."""
        deadline = time.monotonic() + FAREWELL
        while (silent := self._silent()) and time.monotonic() < deadline and self._failed is None:
            time.sleep(LOOK)
        if not silent:
            return Failure(FederationError.code, "The federation server ended the run.", "See its log.")
        message = f"{silent[0]}: its part of the run has ended without a word."
        return Failure(EngineUnavailable.code, message, f"Read the log of {silent[0]}'s site, then try again.")

    def _silent(self) -> list[str]:
        with self._lock:
            return [party for party in self._heard if party not in self._answered | self._leaving]

    def _answer(self, client_task: ClientTask, fl_ctx: FLContext) -> None:  # noqa: ARG002 - NVFlare's signature
        """A site's task has ended; what came of it was reported before."""
        party, code = client_task.client.name, client_task.result.get_return_code()
        if code != ReturnCode.OK and self._failed is None:
            self._fail(Failure(FederationError.code, f"{party}: its site answered {code}.", f"See the log of {party}."))
        with self._lock:
            self._answered.add(party)

    def _listen(self, message: Any, job_id: str) -> Any:
        """Take a site's words; runs in a thread of NVFlare's."""
        from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey
        from nvflare.fuel.f3.cellnet.defs import ReturnCode as CellCode
        from nvflare.fuel.f3.cellnet.utils import make_reply as cell_reply

        party, _, sender_job = str(message.get_header(MessageHeaderKey.ORIGIN)).partition(".")
        if party not in self._heard or sender_job != job_id:
            return cell_reply(CellCode.INVALID_REQUEST)
        with self._lock:
            self._heard[party] = time.monotonic()
        try:
            for word in msgspec.json.decode(bytes(message.payload), type=list[Word]):
                self._note(party, word)
        except msgspec.MsgspecError:
            said = f"{party}: told the server what is no report."
            self._fail(Failure(ProtocolError.code, said, f"See that {party} runs the same version."))
        return cell_reply(CellCode.OK)

    def _note(self, party: str, word: Word) -> None:
        if self._ledger is None:
            return
        if word.leaving:
            with self._lock:
                self._leaving.add(party)
        if word.step is not None:
            self._ledger.step(party, word.step)
        if word.result is not None and word.result.party == party:
            self._ledger.finished(word.result)
        if word.failure is not None:
            self._fail(word.failure)

    def _fail(self, failure: Failure) -> None:
        if self._ledger is not None:
            self._ledger.failed(failure)
        if self._failed is None:
            self._failed = time.monotonic()


class PartyExecutor(Executor):  # type: ignore[misc]
    """Site side: runs this party's program when the server asks.

    Args:
        request: the run's request, as JSON.
    """

    def __init__(self, request: str) -> None:
        super().__init__()
        self._request = msgspec.json.decode(request, type=Request)
        self._channel: CellChannel | None = None
        self._abort_signal = Signal()
        self.register_event_handler(EventType.START_RUN, self._open)

    def execute(
        self,
        task_name: str,
        shareable: Shareable,  # noqa: ARG002 - NVFlare's signature
        fl_ctx: FLContext,
        abort_signal: Signal,
    ) -> Shareable:
        """Take part in the run and report; errors are reported too, the task itself always ends well."""
        if task_name != RUN_TASK or self._channel is None:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        self._abort_signal = abort_signal
        cell, job_id = fl_ctx.get_engine().get_cell(), fl_ctx.get_job_id()
        reports = Reports(cell, f"server.{job_id}", BEAT)
        try:
            reports.say(self._take_part(fl_ctx, self._channel, reports))
        finally:
            reports.close()
        return make_reply(ReturnCode.OK)

    def _open(self, _event: str, fl_ctx: FLContext) -> None:
        """Open the inbox before any peer's program can start."""
        cell, me, job_id = fl_ctx.get_engine().get_cell(), fl_ctx.get_identity_name(), fl_ctx.get_job_id()
        clients = fl_ctx.get_prop(FLContextKey.JOB_META)[JobMetaKey.JOB_CLIENTS]
        peers = [client[ClientDictKey.NAME] for client in clients if client[ClientDictKey.NAME] != me]
        timeout = self._request.timeout
        self._channel = CellChannel(cell, job_id, me, peers, timeout=timeout, cancelled=self._cancelled)

    def _cancelled(self) -> bool:
        return bool(self._abort_signal.triggered)

    def _take_part(self, fl_ctx: FLContext, channel: CellChannel, reports: Reports) -> Word:
        try:
            node = _node(fl_ctx)
            return Word(result=run_party(node, self._request, channel, lambda step: reports.say(Word(step=step))))
        except FtlError as exc:
            return Word(leaving=True) if self._cancelled() else Word(failure=told(exc))
        except Exception as exc:
            log.exception("federation.site failed")
            return Word(failure=failure_at(channel.me, exc))


def _node(fl_ctx: FLContext) -> Node:
    """The node that this site's own `local/node.json` names."""
    local = msgspec.json.decode(_local(fl_ctx, "node.json"), type=LocalNode)
    site = fl_ctx.get_identity_name()
    if local.party != site:
        raise FederationError(f"{site}: its local/node.json names {local.party}.", cure="Provision the site again.")
    return load(local.folder).node(local.party)


def _local(fl_ctx: FLContext, name: str) -> bytes:
    workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
    return (Path(workspace.get_site_config_dir()) / name).read_bytes()
