"""The supervisor: services come up, come back, and leave nothing behind."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from flexergy_pipelines.cli import supervisor as supervisor_module
from flexergy_pipelines.cli.home_lock import HomeBusyError, acquire, end_leftovers, record_services
from flexergy_pipelines.cli.ports import is_free, next_free
from flexergy_pipelines.cli.supervisor import ServiceFailedError, ServiceSpec, Supervisor

STUBBORN_TREE = (
    "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); print('up', flush=True); time.sleep(600)"
)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def until(condition: Callable[[], bool], what: str, patience_s: float = 20.0) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        os.sched_yield()


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    mine = Supervisor(run_dir, tmp_path / "logs", {"FLEXERGY_TENANT": "demo"})
    yield mine
    mine.stop_all(patience_s=1.0)


def test_a_service_is_ready_when_its_address_answers(supervisor: Supervisor) -> None:
    port = next_free(18000, set())
    code = f"from http.server import *; HTTPServer(('127.0.0.1', {port}), SimpleHTTPRequestHandler).serve_forever()"
    supervisor.start(ServiceSpec("web", python(code), ready_url=f"http://127.0.0.1:{port}/"))
    supervisor.wait_ready(["web"], 30.0)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    connection.close()
    assert supervisor.memory_mb()["web"] > 1.0


def test_a_service_that_ends_at_once_is_named_with_its_last_words(supervisor: Supervisor) -> None:
    words = "import sys, time; print('no licence for the plant', file=sys.stderr); sys.exit(3)"
    supervisor.start(ServiceSpec("control", python(words), ready_when=lambda: False))
    with pytest.raises(ServiceFailedError, match=r"control ended with code 3: no licence for the plant .*control\.log"):
        supervisor.wait_ready(["control"], 30.0)


@pytest.mark.requirement("com.01.3")
def test_a_killed_service_is_started_again(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "BACKOFF_S", (0.0,))
    supervisor.start(ServiceSpec("worker", python("import time; time.sleep(600)")))
    first = supervisor.pids()["worker"]
    os.kill(first, signal.SIGKILL)
    said: list[str] = []
    until(lambda: bool(said.extend(supervisor.supervise_once()) or len(said) >= 2), "restart")
    assert "worker ended with code -9" in said[0]
    assert said[1] == "worker started again"
    assert supervisor.pids()["worker"] != first


def test_the_delay_between_restarts_grows(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "BACKOFF_S", (0.0, 0.0, 600.0))
    supervisor.start(ServiceSpec("flapping", python("raise SystemExit(1)")))
    said: list[str] = []
    until(lambda: bool(said.extend(supervisor.supervise_once()) or len(said) >= 5), "third failure")
    assert "starting it again in 600 s" in said[4]
    assert supervisor.supervise_once() == []


def test_stopping_leaves_no_process_of_a_stubborn_tree(supervisor: Supervisor) -> None:
    supervisor.start(ServiceSpec("stubborn", python(STUBBORN_TREE)))
    root = psutil.Process(supervisor.pids()["stubborn"])
    until(lambda: len(root.children()) == 1, "child of the service")
    tree = [root, *root.children(recursive=True)]
    supervisor.stop_all(patience_s=0.5)
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in tree)


def killed_supervisor_of(command: list[str], home: Path, path: str) -> int:
    """Pid of the service that a supervisor had started when it was killed."""
    code = (
        "from pathlib import Path; import sys, time\n"
        "from flexergy_pipelines.cli.supervisor import *\n"
        f"home = Path({str(home)!r}); (home / 'run').mkdir()\n"
        "mine = Supervisor(home / 'run', home / 'logs', {})\n"
        f"mine.start(ServiceSpec('worker', {command!r}))\n"
        "print(mine.pids()['worker'], flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "PATH": path}
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
    return worker


needs_setpriv = pytest.mark.skipif(
    shutil.which("setpriv") is None, reason="ending with the parent needs Linux's setpriv"
)


@needs_setpriv
def test_services_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    worker = killed_supervisor_of(python("import time; time.sleep(600)"), tmp_path, os.environ["PATH"])
    until(lambda: has_ended(worker), "end of the worker")


@needs_setpriv
def test_a_service_whose_supervisor_died_before_they_were_tied_does_not_start(tmp_path: Path) -> None:
    late = tmp_path / "bin" / "setpriv"
    late.parent.mkdir()
    late.write_text(f'#!/bin/sh\nwhile kill -0 "$PPID" 2>/dev/null; do :; done\nexec {shutil.which("setpriv")} "$@"\n')
    late.chmod(0o755)
    started = tmp_path / "started"
    worker = killed_supervisor_of(["touch", str(started)], tmp_path, f"{late.parent}:{os.environ['PATH']}")
    until(lambda: has_ended(worker), "end of the worker")
    assert not started.exists()


def test_the_next_start_ends_what_a_kill_left_running(tmp_path: Path) -> None:
    left = subprocess.Popen(python("import time; time.sleep(600)"))
    stranger = subprocess.Popen(python("import time; time.sleep(600)"))
    try:
        record_services(tmp_path, {"control": left.pid, "api": stranger.pid})
        rows = json.loads((tmp_path / "services.json").read_text())
        rows["api"]["created"] -= 3600.0  # its pid was given to another process since
        (tmp_path / "services.json").write_text(json.dumps(rows))
        assert end_leftovers(tmp_path) == ["control"]
        until(lambda: left.poll() is not None, "end of the leftover")
        assert stranger.poll() is None
    finally:
        for process in (left, stranger):
            process.kill()
            process.wait()
    assert end_leftovers(tmp_path) == []


def test_one_platform_a_home(tmp_path: Path) -> None:
    first = acquire(tmp_path / "run")
    with pytest.raises(HomeBusyError, match=rf"already runs on {tmp_path} \(pid {os.getpid()} since .* UTC\)"):
        acquire(tmp_path / "run")
    first.release()
    acquire(tmp_path / "run").release()


def test_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; import time\n"
        "from flexergy_pipelines.cli.home_lock import acquire\n"
        f"held = acquire(Path({str(tmp_path)!r})); print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(HomeBusyError):
            acquire(tmp_path)
        holder.kill()
    acquire(tmp_path).release()


def test_a_taken_port_gives_way_to_the_next_free_one() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        assert not is_free(taken)
        assert next_free(taken, set()) > taken
    assert next_free(18500, {18500}) != 18500
