"""Keeps the services running: start, wait until ready, restart with backoff, stop all."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from flexergy_pipelines.cli.home_lock import record_services

BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
STABLE_AFTER_S = 60.0
LOG_LIMIT_BYTES = 10_000_000


class ServiceFailedError(RuntimeError):
    """A service did not come up; the message names it and its log."""


@dataclass(frozen=True)
class ServiceSpec:
    """How one service is started and how one knows that it is ready.

    Attributes
    ----------
    name : str
        Also the name of its log file.
    command : sequence of str
        Argument list.
    env : mapping
        Added to the platform's environment.
    ready_url : str or None
        An address that answers below HTTP 500 once the service is ready.
    ready_when : callable or None
        Another test of readiness; None means that a started process is a ready one.
    stop_signal : signal
        What asks it to end.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    ready_url: str | None = None
    ready_when: Callable[[], bool] | None = None
    stop_signal: signal.Signals = signal.SIGTERM

    def is_ready(self) -> bool:
        if self.ready_url is not None:
            try:
                return httpx.get(self.ready_url, timeout=2.0, trust_env=False).status_code < 500
            except httpx.HTTPError:
                return False
        return self.ready_when() if self.ready_when is not None else True


@dataclass
class _Running:
    spec: ServiceSpec
    process: subprocess.Popen[bytes]
    started: float
    failures: int = 0
    restart_at: float | None = None


class Supervisor:
    """Runs services as child processes.

    Parameters
    ----------
    run_dir, logs_dir : Path
        Where pids and logs go.
    env : mapping
        Environment that every service gets.
    """

    def __init__(self, run_dir: Path, logs_dir: Path, env: Mapping[str, str]) -> None:
        self._run_dir = run_dir
        self._logs_dir = logs_dir
        self._env = dict(env)
        self._running: dict[str, _Running] = {}
        logs_dir.mkdir(parents=True, exist_ok=True)

    def log_path(self, name: str) -> Path:
        return self._logs_dir / f"{name}.log"

    def start(self, spec: ServiceSpec) -> None:
        """Start a service; does not wait for it."""
        self._running[spec.name] = _Running(spec, self._spawn(spec), time.monotonic())
        self._record()

    def wait_ready(self, names: Sequence[str], timeout_s: float, tick: Callable[[str], None] | None = None) -> None:
        """Wait until the named services are ready.

        Raises
        ------
        ServiceFailedError
            When one has ended or is not ready within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        waiting = list(names)
        while waiting:
            for name in list(waiting):
                running = self._running[name]
                code = running.process.poll()
                if code is not None:
                    raise ServiceFailedError(f"{name} ended with code {code}: {self._last_words(name)}")
                if running.spec.is_ready():
                    waiting.remove(name)
                    if tick is not None:
                        tick(name)
            if waiting and time.monotonic() > deadline:
                raise ServiceFailedError(
                    f"{', '.join(waiting)} not ready after {timeout_s:.0f} s; see {self.log_path(waiting[0])}"
                )
            if waiting:
                time.sleep(0.1)

    def supervise_once(self) -> list[str]:
        """Restart what has ended, each after its own growing delay.

        Returns
        -------
        list of str
            One line for each thing that happened, for the operator.
        """
        said: list[str] = []
        now = time.monotonic()
        for name, running in self._running.items():
            if running.restart_at is not None:
                if now >= running.restart_at:
                    running.process = self._spawn(running.spec)
                    running.started, running.restart_at = now, None
                    said.append(f"{name} started again")
                    self._record()
                continue
            code = running.process.poll()
            if code is None:
                if running.failures and now - running.started > STABLE_AFTER_S:
                    running.failures = 0
                continue
            delay = BACKOFF_S[min(running.failures, len(BACKOFF_S) - 1)]
            running.failures += 1
            running.restart_at = now + delay
            said.append(f"{name} ended with code {code}; starting it again in {delay:.0f} s ({self.log_path(name)})")
        return said

    def stop_all(self, patience_s: float = 10.0) -> None:
        """Ask all services to end, last started first; kill what is left after `patience_s`."""
        mine: list[psutil.Process] = []
        for running in reversed(list(self._running.values())):
            if running.process.poll() is None:
                with suppress(psutil.NoSuchProcess):
                    process = psutil.Process(running.process.pid)
                    mine += [process, *process.children(recursive=True)]
                with suppress(ProcessLookupError):
                    running.process.send_signal(running.spec.stop_signal)
        _, alive = psutil.wait_procs(mine, timeout=patience_s)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=2.0)
        for running in self._running.values():
            running.process.wait()
        self._running.clear()
        (self._run_dir / "services.json").unlink(missing_ok=True)

    def memory_mb(self) -> dict[str, float]:
        """Proportional memory of each service and its children, in MB (resident where PSS is unknown)."""
        return {name: _tree_memory_mb(running.process.pid) for name, running in self._running.items()}

    def pids(self) -> dict[str, int]:
        return {name: running.process.pid for name, running in self._running.items()}

    def _record(self) -> None:
        record_services(self._run_dir, self.pids())

    def _spawn(self, spec: ServiceSpec) -> subprocess.Popen[bytes]:
        path = self.log_path(spec.name)
        if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab") as log:
            return subprocess.Popen(
                [*_tied_to_parent(), *spec.command],
                env={**os.environ, **self._env, **spec.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _last_words(self, name: str) -> str:
        lines = self.log_path(name).read_text(errors="replace").strip().splitlines()
        return f"{lines[-1] if lines else 'nothing in its log'} (log: {self.log_path(name)})"


def _tied_to_parent() -> list[str]:
    """Words in front of a command that make Linux end it when the supervisor dies, even by SIGKILL.

    util-linux's setpriv sets PR_SET_PDEATHSIG, which tells of later deaths only: a supervisor that died before would
    leave the service running. So the shell between looks whose child it is before it becomes the command. Where setpriv
    is missing (macOS), the next start ends what was left running.
    """
    setpriv, shell = shutil.which("setpriv"), shutil.which("sh")
    if setpriv is None or shell is None:
        return []
    still_there = '[ "$PPID" = "$0" ] && exec "$@"'
    return [setpriv, "--pdeathsig", "TERM", "--", shell, "-c", still_there, str(os.getpid())]


def _tree_memory_mb(pid: int) -> float:
    total = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                info = process.memory_full_info()
                total += getattr(info, "pss", info.rss)
    return total / 1e6
