"""One running platform a home: a lock that dies with its holder, and the clean-up after one that was killed."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import psutil


class HomeBusyError(RuntimeError):
    """Another `flexergy up` runs on this home; the message says which and since when."""


@dataclass
class HomeLock:
    """A held lock on a home. Released by `release` or by the death of the process."""

    path: Path
    handle: IO[str]

    def release(self) -> None:
        self.handle.close()


def acquire(run_dir: Path) -> HomeLock:
    """Take the lock of a home.

    Parameters
    ----------
    run_dir : Path
        Folder for files that only live as long as the services.

    Raises
    ------
    HomeBusyError
        When another process holds it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / "up.lock"
    handle = path.open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        held = handle.read().strip()
        handle.close()
        raise HomeBusyError(f"Flexergy already runs on {run_dir.parent} ({held or 'just starting'})") from None
    handle.seek(0)
    handle.truncate()
    handle.write(f"pid {os.getpid()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
    handle.flush()
    return HomeLock(path, handle)


def record_services(run_dir: Path, pids: dict[str, int]) -> None:
    """Note which processes belong to this home, so that a later start can end what a kill left running."""
    rows: dict[str, Any] = {}
    for name, pid in pids.items():
        with suppress(psutil.NoSuchProcess):
            rows[name] = {"pid": pid, "created": psutil.Process(pid).create_time()}
    scratch = run_dir / "services.tmp"
    scratch.write_text(json.dumps(rows, indent=1))
    scratch.replace(run_dir / "services.json")


def end_leftovers(run_dir: Path, patience_s: float = 5.0) -> list[str]:
    """End services that an earlier, killed `flexergy up` left behind.

    Only processes whose pid *and* creation time were recorded are touched: a recycled pid is somebody else.

    Returns
    -------
    list of str
        Names of the services that were ended.
    """
    path = run_dir / "services.json"
    try:
        rows = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return []
    ended: list[str] = []
    victims: list[psutil.Process] = []
    for name, row in rows.items():
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(row["pid"])
            if abs(process.create_time() - row["created"]) < 0.01:
                victims += [process, *process.children(recursive=True)]
                ended.append(name)
    for process in victims:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(victims, timeout=patience_s)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    path.unlink(missing_ok=True)
    return ended
