"""Runs over NVFlare: provisioned sites as separate processes with mutual TLS on loopback."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time

import psutil
import pytest
from conftest import make_consortium, simulate

from ftl.errors import EngineUnavailable, FederationError, ProtocolError
from ftl.federation import MemoryEngine, NvflareEngine, Request, processes, provision, read_part, ready
from ftl.federation.kits import EXECUTOR, admin_kit, server_kit, site_kit
from ftl.federation.nvflare_engine import write_job
from ftl.federation.session import admin_session

PARTIES = ("bank", "partner")


def ask(run_id, *, seed=0, max_shared=None, timeout=60.0, **settings):
    return Request(run_id, "clear_logistic", seed, settings, max_shared, timeout)


@contextlib.contextmanager
def running(folder):
    """Start every process of the federation as a supervisor does, and end all of them."""
    provision(folder)
    started = []
    try:
        for process in processes(folder):
            started.append(start(folder, process))
        deadline = time.monotonic() + 120
        while not all(process.ready() for process in processes(folder)):
            assert time.monotonic() < deadline, "the federation did not start"
            time.sleep(0.2)
        yield {process.name: popen for process, popen in zip(processes(folder), started, strict=True)}
    finally:
        for popen in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(popen.pid, signal.SIGTERM)
        for popen in started:
            popen.wait(20)


def start(folder, process):
    with (folder.coordinator / f"{process.name}.log").open("ab") as log:
        return subprocess.Popen(
            process.command,
            cwd=process.directory,
            env={**os.environ, **process.environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    paths = pytest.MonkeyPatch()
    paths.setenv("PYTHONPATH", os.path.join(os.path.dirname(__file__), "plugin"))  # noqa: PTH118, PTH120
    folder = make_consortium(tmp_path_factory.mktemp("federation"), simulate(PARTIES))
    with running(folder) as started:
        ready(folder, 60)
        yield folder, started
    paths.undo()
    assert not left_behind(folder)


def left_behind(folder):
    """Command lines of processes that still work in the folder."""
    deadline = time.monotonic() + 10
    while True:
        mine = [
            process.info["cmdline"]
            for process in psutil.process_iter(["cmdline"])
            if any(str(folder.root) in word for word in process.info["cmdline"] or ())
        ]
        if not mine or time.monotonic() > deadline:
            return mine
        time.sleep(0.3)


def carried(folder, request):
    engine = NvflareEngine(folder)
    engine.submit(request)
    progress = list(engine.watch(request.run_id))
    return engine.result(request.run_id), progress


@pytest.mark.slow
def test_over_nvflare_a_run_has_the_same_result_as_in_memory(federation):
    folder, _ = federation
    options = {"seed": 3, "max_shared": 90, "rounds": 30, "large": 5_000_000}
    over_nvflare, progress = carried(folder, ask("over", **options))
    memory = MemoryEngine(folder)
    memory.submit(ask("memory", **options))
    list(memory.watch("memory"))
    in_memory = memory.result("memory")
    assert over_nvflare.metrics == in_memory.metrics
    assert over_nvflare.gain == in_memory.gain
    assert [part.sha256 for part in over_nvflare.parts] == [part.sha256 for part in in_memory.parts]
    assert over_nvflare.bytes_sent["bank"] == in_memory.bytes_sent["bank"]
    assert over_nvflare.messages == in_memory.messages
    assert [line.number for line in progress] == list(range(1, len(progress) + 1))
    assert max(line.step.round for line in progress if line.step.phase == "train") == 30
    for pointer in over_nvflare.parts:
        assert read_part(folder.node(pointer.party), "over", pointer.sha256).manifest.recipe == "clear_logistic"


@pytest.mark.slow
def test_a_run_submitted_again_is_attached_to_and_not_started_twice(federation):
    folder, _ = federation
    request = ask("twice", rounds=40, pause=0.05)
    callers = [threading.Thread(target=NvflareEngine(folder).submit, args=(request,)) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    NvflareEngine(folder).submit(request)
    lines = list(NvflareEngine(folder).watch("twice"))
    assert [line.step.round for line in lines if line.step.phase == "train"] == list(range(1, 41))
    with admin_session(folder) as session:
        assert len(session.list_jobs(name_prefix="twice")) == 1


@pytest.mark.slow
def test_two_runs_at_once_do_not_mix(federation):
    folder, _ = federation
    engine = NvflareEngine(folder)
    for name, seed in (("x", 1), ("y", 2)):
        engine.submit(ask(name, seed=seed, max_shared=60, rounds=20, pause=0.05))
    for name in ("x", "y"):
        list(engine.watch(name))
    memory = MemoryEngine(folder)
    for name, seed in (("x", 1), ("y", 2)):
        memory.submit(ask(f"memory-{name}", seed=seed, max_shared=60))
        list(memory.watch(f"memory-{name}"))
        assert engine.result(name).metrics == memory.result(f"memory-{name}").metrics


@pytest.mark.slow
def test_a_failing_party_ends_the_run_by_its_name(federation):
    folder, _ = federation
    with pytest.raises(ProtocolError, match=r"^partner: the recipe was told to fail here\. Do not tell it to\."):
        carried(folder, ask("fails", fail_at="partner"))


def disturbed(folder, run_id, disturb):
    """Carry a run over NVFlare, disturb it in its fifth round; its result and what was told after."""
    engine = NvflareEngine(folder)
    engine.submit(in_rounds(run_id))
    lines = engine.watch(run_id)
    until_round(5, lines)
    disturb()
    after = list(lines)
    return engine.result(run_id), after


def in_rounds(run_id):
    return Request(run_id, "clear_rounds", 5, {"rounds": 10, "pause": 0.5}, None, 60.0)


def is_as_undisturbed(folder, result):
    memory = MemoryEngine(folder)
    memory.submit(in_rounds("undisturbed"))
    list(memory.watch("undisturbed"))
    expected = memory.result("undisturbed")
    parts = [[part.sha256 for part in one.parts] for one in (result, expected)]
    return result.metrics == expected.metrics and parts[0] == parts[1]


@pytest.mark.slow
def test_a_run_whose_job_process_was_killed_at_one_site_goes_on_after_the_last_round_of_all(federation):
    folder, started = federation
    result, after = disturbed(folder, "killed", lambda: newest_fork(started["site-partner"].pid).kill())
    assert [line.step.round for line in after if line.step.phase == "resume"] in ([4, 4], [5, 5])
    assert is_as_undisturbed(folder, result)
    failure = json.loads((folder.run("killed") / "error-1.json").read_text())
    assert failure["message"] == "partner: its part of the run has ended without a word."
    assert not any(folder.node(party).run("killed").exists() for party in PARTIES)


@pytest.mark.slow
def test_a_site_that_is_away_for_thirty_seconds_loses_nothing_and_the_run_goes_on(federation):
    folder, started = federation

    def away():
        os.killpg(started["site-partner"].pid, signal.SIGSTOP)
        time.sleep(31)
        os.killpg(started["site-partner"].pid, signal.SIGCONT)

    result, after = disturbed(folder, "away", away)
    assert not [line for line in after if line.step.phase == "resume"]
    assert is_as_undisturbed(folder, result)
    assert not list(folder.run("away").glob("error*.json"))


def until_round(number, lines):
    next(line for line in lines if line.step.phase == "train" and line.step.round == number)


def newest_fork(pid):
    return max(psutil.Process(pid).children(recursive=True), key=lambda child: child.create_time())


@pytest.mark.slow
def test_a_cancelled_run_ends_at_all_parties(federation):
    folder, started = federation
    engine = NvflareEngine(folder)
    engine.submit(ask("cancelled", rounds=500, pause=0.3))
    lines = engine.watch("cancelled")
    until_round(2, lines)
    engine.cancel("cancelled")
    with pytest.raises(FederationError, match="Run cancelled was cancelled"):
        list(lines)
    engine.cancel("cancelled")  # once more does nothing
    deadline = time.monotonic() + 30
    while any(forks(started, party) for party in PARTIES) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert not any(forks(started, party) for party in PARTIES)


def forks(started, party):
    """Job processes of a party: children of the one they are forked from."""
    site = psutil.Process(started[f"site-{party}"].pid)
    return [child for child in site.children(recursive=True) if child.ppid() != site.pid]


@pytest.mark.slow
def test_a_job_that_names_a_class_that_is_not_allowed_is_refused_by_the_site(federation, tmp_path):
    folder, _ = federation
    job = write_job(tmp_path / "stranger", ask("stranger"), PARTIES)
    config = job / "app" / "config" / "config_fed_client.json"
    config.write_text(config.read_text().replace(EXECUTOR, "nvflare.app_common.np.np_trainer.NPTrainer"))
    assert status_of(folder, job) in ("FINISHED:ABNORMAL", "FINISHED:EXECUTION_EXCEPTION")
    assert "ComponentNotAuthorized" in log_of(folder, "site-bank")
    assert "NPTrainer" in log_of(folder, "site-bank")


@pytest.mark.slow
def test_a_job_that_brings_code_is_refused(federation, tmp_path):
    folder, _ = federation
    job = write_job(tmp_path / "intruder", ask("intruder"), PARTIES)
    (job / "app" / "custom").mkdir()
    (job / "app" / "custom" / "mine.py").write_text("class Mine: pass")
    assert status_of(folder, job) != "FINISHED:COMPLETED"
    assert not folder.run("intruder").exists()


@pytest.mark.slow
def test_a_run_survives_the_restart_of_the_federation_server(federation):
    folder, started = federation
    again = []

    def restart():
        os.killpg(started["federation-server"].pid, signal.SIGKILL)
        started["federation-server"].wait(20)
        again.append(start(folder, processes(folder)[0]))

    try:
        result, after = disturbed(folder, "survives", restart)
        resumed = {line.step.round for line in after if line.step.phase == "resume"}
        assert len(resumed) <= 1
        assert resumed <= set(range(4, 10))  # messages between sites may still get through while it is dying
        assert is_as_undisturbed(folder, result)
    finally:
        for popen in again:
            os.killpg(popen.pid, signal.SIGTERM)
            popen.wait(20)


def status_of(folder, job):
    with admin_session(folder) as session:
        return session.wait_for_job(session.submit_job(str(job)), timeout=90)["status"]


def log_of(folder, name):
    return (folder.coordinator / f"{name}.log").read_text()


def test_provisioning_twice_changes_nothing_and_another_party_makes_new_kits(tmp_path):
    folder = make_consortium(tmp_path / "two", simulate(PARTIES, 20))
    assert provision(folder)
    before = {path: path.stat().st_mtime_ns for path in server_kit(folder).rglob("*")}
    assert not provision(folder)
    assert {path: path.stat().st_mtime_ns for path in server_kit(folder).rglob("*")} == before
    wider = make_consortium(tmp_path / "two", simulate((*PARTIES, "shop"), 20))
    assert provision(wider)
    assert (site_kit(wider, "shop") / "startup" / "client.crt").exists()


def test_kits_are_readable_by_their_owner_only_and_permit_our_classes_only(tmp_path):
    folder = make_consortium(tmp_path, simulate(PARTIES, 20))
    provision(folder)
    for kit in (server_kit(folder), admin_kit(folder), site_kit(folder, "bank")):
        assert not [path for path in (kit, *kit.rglob("*")) if path.stat().st_mode & 0o077]
    resources = json.loads((site_kit(folder, "bank") / "local" / "resources.json").read_text())
    assert [name for name in resources["class_allow_list"] if not name.startswith("nvflare.")] == [EXECUTOR]
    assert resources["allow_log_streaming"] is False
    rights = json.loads((site_kit(folder, "bank") / "local" / "authorization.json").read_text())
    assert {rights["permissions"]["project_admin"][right] for right in ("byoc", "shell_commands", "operate")} == {
        "none"
    }
    assert json.loads((site_kit(folder, "bank") / "local" / "node.json").read_text()) == {
        "folder": str(tmp_path),
        "party": "bank",
    }


def test_without_a_server_the_engine_says_so_and_the_run_can_be_submitted_later(tmp_path):
    folder = make_consortium(tmp_path, simulate(PARTIES, 20))
    with pytest.raises(EngineUnavailable, match="has no federation yet"):
        NvflareEngine(folder).submit(ask("r1"))
    provision(folder)
    with pytest.raises(EngineUnavailable, match=r"federation server on port \d+ did not answer"):
        ready(folder, 3)
