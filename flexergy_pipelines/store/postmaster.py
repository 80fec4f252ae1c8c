"""Processes of the embedded PostgreSQL: which one really runs on a data folder, and an end to those left over."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path


def _pid_file(data_dir: Path) -> list[str]:
    try:
        return (data_dir / "postmaster.pid").read_text().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []


def postmaster_pid(data_dir: Path) -> int | None:
    """Process id of the postmaster that really runs on `data_dir`; a reused number of a dead one does not count."""
    lines = _pid_file(data_dir)
    if not lines or not lines[0].strip().isdigit():
        return None
    pid = int(lines[0])
    return pid if _serves(pid, data_dir) else None


def running_socket_dir(data_dir: Path) -> Path | None:
    """Folder of the socket that the server on `data_dir` listens on, as it wrote it down; None when it runs not."""
    lines = _pid_file(data_dir)
    return Path(lines[4]) if len(lines) > 4 and lines[4] else None


def _serves(pid: int, data_dir: Path) -> bool:
    import psutil

    try:
        process = psutil.Process(pid)
        return (
            process.status() != psutil.STATUS_ZOMBIE
            and Path(process.exe()).name == "postgres"
            and Path(process.cwd()) == data_dir
        )
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        return False


def end_orphans(data_dir: Path) -> None:
    """End server processes on `data_dir` whose postmaster was killed; they would hold its shared memory."""
    import psutil

    orphans = [
        process
        for process in psutil.process_iter(["name"])
        if process.info["name"] == "postgres" and _serves(process.pid, data_dir)
    ]
    _, alive = psutil.wait_procs(orphans, timeout=3)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGQUIT)
    _, alive = psutil.wait_procs(alive, timeout=3)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=3)
