"""Starts job processes by forking one that has everything imported already.

NVFlare starts a fresh interpreter per job at the server and at every site; most of a short run's time then goes into
importing the same libraries again. Here each of them keeps one process that has imported them and does nothing else; a
job is a fork of it. Nothing of a job stays behind: every job is a process of its own and ends as one.
"""

import multiprocessing
import os
import runpy
import shlex
import signal
import sys
import threading
import time
from importlib.metadata import entry_points
from multiprocessing import forkserver
from typing import Any

import psutil
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_launcher_spec import JobHandleSpec, JobReturnCode
from nvflare.app_common.job_launcher.client_process_launcher import ClientProcessJobLauncher
from nvflare.app_common.job_launcher.process_launcher import JOB_RETURN_CODE_MAPPING, ProcessJobLauncher
from nvflare.app_common.job_launcher.server_process_launcher import ServerProcessJobLauncher
from nvflare.utils.job_launcher_utils import get_credential_env

from ftl.federation.recipes import GROUP

SERVER_MODULES = ("nvflare.private.fed.app.server.runner_process", "ftl.federation.nvflare_app")
SITE_MODULES = (
    "nvflare.private.fed.app.client.worker_process",
    "ftl.federation.nvflare_app",
    "ftl.quality",
    "deltalake",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.model_selection",
)
"""What every job needs. The installed recipes are added."""
KILLED_AFTER = 5.0
"""Seconds a job that is told to end has before it is killed."""


class ForkedJob(JobHandleSpec):  # type: ignore[misc]
    """A running job.

    Args:
        process: the fork.
    """

    def __init__(self, process: Any) -> None:
        super().__init__()
        self._process = process

    def terminate(self) -> None:
        """End it; what does not end by itself is killed."""
        self._process.terminate()
        self._process.join(KILLED_AFTER)
        if self._process.is_alive():
            self._process.kill()

    def poll(self) -> Any:
        """NVFlare's return code, or that it still runs."""
        code = self._process.exitcode
        return (
            JobReturnCode.UNKNOWN if code is None else JOB_RETURN_CODE_MAPPING.get(code, JobReturnCode.EXECUTION_ERROR)
        )

    def wait(self) -> None:
        """Until it has ended."""
        self._process.join()


class _Forking(ProcessJobLauncher):  # type: ignore[misc]
    """What both launchers share; NVFlare's own class behind it gives the command line.

    Args:
        modules: imported before the first job.
    """

    def __init__(self, modules: tuple[str, ...]) -> None:
        super().__init__()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(modules))
        self.register_event_handler(EventType.SYSTEM_START, lambda *_: forkserver.ensure_running())

    def launch_job(self, job_meta: dict[str, Any], fl_ctx: FLContext) -> ForkedJob:
        """Fork a process for the job."""
        command = shlex.split(self.get_command(job_meta, fl_ctx), comments=True)
        credentials = get_credential_env(fl_ctx.get_prop(FLContextKey.JOB_PROCESS_ARGS) or {})
        module = command.index("-m")
        arguments = (command[module + 1], command[module + 2 :], credentials, os.getpid())
        process = self._context.Process(target=run_job, args=arguments, daemon=False)
        process.start()
        return ForkedJob(process)


class ServerJobs(_Forking, ServerProcessJobLauncher):  # type: ignore[misc]
    """At the federation server."""

    def __init__(self) -> None:
        super().__init__(SERVER_MODULES)


class SiteJobs(_Forking, ClientProcessJobLauncher):  # type: ignore[misc]
    """At a party's site."""

    def __init__(self) -> None:
        super().__init__((*SITE_MODULES, *(point.module for point in entry_points(group=GROUP))))


def run_job(module: str, arguments: list[str], credentials: dict[str, str], owner: int) -> None:
    """In the fork: become NVFlare's job process.

    Args:
        module: NVFlare's program.
        arguments: its command line.
        credentials: environment variables through which it gets its token.
        owner: process of the server or site; the job ends with it.
    """
    _release_fork_server()
    threading.Thread(target=_end_with, args=(owner,), name="ftl-owner", daemon=True).start()
    os.environ.update(credentials)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _release_fork_server() -> None:
    """Give up our hold on the process we were forked from: it then ends with its owner, and NVFlare ends the job."""
    held = forkserver._forkserver._forkserver_alive_fd  # type: ignore[attr-defined]  # noqa: SLF001
    if held is not None:
        os.close(held)


def _end_with(owner: int) -> None:
    """Kill this process when its owner is gone and NVFlare has not ended the job."""
    try:
        process = psutil.Process(owner)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(1.0)
    except psutil.NoSuchProcess:
        pass
    time.sleep(KILLED_AFTER)
    os.kill(os.getpid(), signal.SIGKILL)
