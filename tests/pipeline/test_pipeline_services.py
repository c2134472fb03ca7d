"""The supervisor over small real processes, and the tables of a service that must survive a broken start."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing
from pathlib import Path

import msgspec
import psutil
import pytest
from ruamel.yaml import YAML

from ftl import consortium
from ftl.errors import ServiceError
from ftl.pipeline import services, supervisor
from ftl.pipeline.databases import bring_up_to_date
from ftl.pipeline.supervisor import (
    MARK,
    Service,
    Started,
    bring_up,
    log_tail,
    main_process,
    start,
    status,
    stop,
    wait_ready,
)


def quiet(_: str) -> None:
    """Say nothing."""


def alive(mark: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def program(home: Path, name: str, code: str, ready=lambda: True, timeout: float = 20.0) -> Service:
    command = (sys.executable, "-c", textwrap.dedent(code))
    return Service(name, command, home, str(home), ready, timeout=timeout)


@pytest.fixture
def home(tmp_path):
    yield tmp_path
    for mark in {f"{tmp_path}:{name}" for name in ("web", "family", "sleeper", "stubborn", "crash", "slow")}:
        for pid in alive(mark):
            os.kill(pid, signal.SIGKILL)


def web(home: Path) -> Service:
    port = free_port()
    command = (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1")
    return Service(
        "web", command, home, str(home), lambda: listens(port), port=port, address=f"http://127.0.0.1:{port}"
    )


def test_a_service_runs_until_it_is_stopped_and_leaves_no_pid_file(home):
    service, said = web(home), []
    start(service)
    wait_ready([service], said.append)
    assert status(service).state == "ready"
    assert status(service).pid == main_process(service).pid
    assert status(service).memory_mb > 0
    assert service.address in said[0]
    stop([service], said.append)
    assert status(service).state == "stopped"
    assert not service.pid_file.exists()
    assert not listens(service.port)
    assert said[-1] == "web stopped"


def test_stopping_reaches_children_that_moved_to_a_session_of_their_own(home):
    service = program(
        home,
        "family",
        """
        import subprocess, sys, time
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        print("started", flush=True)
        time.sleep(600)
        """,
        ready=lambda: "started" in log_tail(service),
    )
    start(service)
    wait_ready([service], quiet)
    assert len(alive(service.mark)) == 2
    stop([service], quiet)
    assert alive(service.mark) == []


def test_children_that_outlive_a_crashed_service_are_stopped_too(home):
    service = program(
        home,
        "family",
        """
        import subprocess, sys
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        """,
    )
    start(service)
    deadline = time.monotonic() + 10
    while main_process(service) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(alive(service.mark)) == 1
    stop([service], quiet)
    assert alive(service.mark) == []


def test_a_service_that_ignores_sigterm_is_killed_after_its_time(home, monkeypatch):
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.5)
    code = """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("deaf", flush=True)
        time.sleep(600)
        """
    service = program(home, "stubborn", code, ready=lambda: "deaf" in log_tail(service))
    start(service)
    wait_ready([service], quiet)
    stop([service], quiet)
    assert alive(service.mark) == []


def test_a_crash_while_starting_names_the_service_and_shows_the_end_of_its_log(home):
    service = program(home, "crash", "raise SystemExit('no such table: rates')", ready=lambda: False)
    start(service)
    with pytest.raises(ServiceError, match=r"crash ended while starting.\n.*no such table: rates") as caught:
        wait_ready([service], quiet)
    assert str(service.log) in caught.value.cure


def test_a_service_that_never_answers_is_named_after_its_timeout(home):
    code = "import time; print('still waiting for a peer', flush=True); time.sleep(600)"
    service = program(home, "slow", code, ready=lambda: False, timeout=1.0)
    start(service)
    with pytest.raises(ServiceError, match=r"slow was not ready within 1 s.\n.*still waiting for a peer"):
        wait_ready([service], quiet)
    stop([service], quiet)
    assert alive(service.mark) == []


def test_a_pid_that_belongs_to_somebody_else_by_now_is_not_taken_for_the_service(home):
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as stranger:
        service = program(home, "sleeper", "pass")
        stale = Started(stranger.pid, psutil.Process(stranger.pid).create_time() - 3600)
        service.pid_file.write_bytes(msgspec.json.encode(stale))
        assert status(service).state == "stopped"
        stop([service], quiet)
        assert stranger.poll() is None
        assert not service.pid_file.exists()
        stranger.kill()


def test_a_damaged_pid_file_counts_as_stopped(home):
    service = program(home, "sleeper", "pass")
    service.pid_file.write_text("not json")
    assert main_process(service) is None


def test_ctrl_c_does_not_interrupt_stopping(home, monkeypatch):
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 1.0)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    service = program(home, "stubborn", code, ready=lambda: "deaf" in log_tail(service))
    start(service)
    wait_ready([service], quiet)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    stop([service], quiet)
    assert alive(service.mark) == []


def test_a_crash_stops_what_was_started_with_it(home):
    sound, crash = web(home), program(home, "crash", "raise SystemExit('no')", ready=lambda: False)
    with pytest.raises(ServiceError, match="crash ended while starting"):
        bring_up([sound, crash], quiet)
    assert alive(sound.mark) == []
    assert not listens(sound.port)


def test_ctrl_c_while_starting_stops_what_was_started(home):
    sound, slow = web(home), program(home, "slow", "import time; time.sleep(600)", ready=lambda: False)
    threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        bring_up([sound, slow], quiet)
    assert alive(sound.mark) == alive(slow.mark) == []


def test_a_taken_port_is_refused_with_its_holder_before_anything_starts(tmp_path):
    consortium.new(tmp_path, "german")
    with closing(socket.socket()) as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        yaml = YAML()
        declared = yaml.load(tmp_path / "consortium.yaml")
        declared.setdefault("coordinator", {})["mlflow_port"] = port
        yaml.dump(declared, tmp_path / "consortium.yaml")
        folder = consortium.load(tmp_path)
        with pytest.raises(ServiceError, match=rf"Port {port} for mlflow is taken by .*process {os.getpid()}"):
            services.up(folder, [services.MLFLOW], quiet)
    assert {entry.state for entry in services.status(folder)} == {"stopped"}


def test_a_migration_that_fails_leaves_the_old_database_as_it_was(tmp_path):
    database = tmp_path / "rates.db"
    make = (sys.executable, "-c", "import sqlite3; sqlite3.connect('{database}').execute('CREATE TABLE rates (x)')")
    bring_up_to_date(database, "1", make, {})
    broken = "import sqlite3; sqlite3.connect('{database}').execute('DROP TABLE rates'); raise SystemExit('half way')"
    with pytest.raises(ServiceError, match=r"rates.db cannot be brought up to date:\nhalf way"):
        bring_up_to_date(database, "2", (sys.executable, "-c", broken), {})
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("rates",)]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_database_of_the_same_version_is_not_migrated_again(tmp_path):
    database = tmp_path / "rates.db"
    count = "import sqlite3; c = sqlite3.connect('{database}'); c.execute('CREATE TABLE IF NOT EXISTS t (x)')"
    count += "; c.execute('INSERT INTO t VALUES (1)'); c.commit()"
    for version in ("1", "1", "2"):
        bring_up_to_date(database, version, (sys.executable, "-c", count), {})
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)


def test_a_migration_that_was_broken_off_is_begun_anew(tmp_path):
    database = tmp_path / "rates.db"
    (tmp_path / "rates.migrating").write_text("half a file")
    make = (sys.executable, "-c", "import sqlite3; sqlite3.connect('{database}').execute('CREATE TABLE rates (x)')")
    bring_up_to_date(database, "1", make, {})
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("rates",)]
