"""Environments of the peers that benchmarks compare with: each apart from ours, from a file of pinned packages.

``benchmarks/peers/<name>.txt`` pins every package of an environment with its hashes and names no index; it is made by
``uv pip compile <names> --python-version 3.11 --generate-hashes --no-emit-index-url --no-header``.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINS = Path(__file__).resolve().parent / "peers"
STAMP = "requirements.sha256"


class PeersError(RuntimeError):
    """An environment of peers could not be made; the message says why and what to do."""


def environment(name: str, *, root: Path = ROOT, pins: Path = PINS) -> Path:
    """Python of the peers' environment `name`, made or re-made where its file of packages changed.

    Parameters
    ----------
    name : str
        Name of a file ``<name>.txt`` in `pins`.
    root : Path
        Folder whose ``.peers/<name>`` holds the environment.
    pins : Path
        Folder with the files of pinned packages.

    Returns
    -------
    Path
        The environment's Python.

    Raises
    ------
    PeersError
        When there is no such file, no ``uv``, or a package could not be installed (no network, say).
    """
    wanted = pins / f"{name}.txt"
    if not wanted.is_file():
        known = ", ".join(sorted(path.stem for path in pins.glob("*.txt"))) or "none"
        raise PeersError(f"no peers '{name}'; known: {known}")
    folder = root / ".peers" / name
    python, stamp = folder / "bin" / "python", folder / STAMP
    state = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if python.exists() and stamp.is_file() and stamp.read_text() == state:
        return python
    if folder.exists():
        shutil.rmtree(folder)
    _uv("venv", "--quiet", "--python", getattr(sys, "_base_executable", sys.executable), str(folder))
    try:
        _uv("pip", "sync", "--quiet", "--require-hashes", "--python", str(python), str(wanted))
    except PeersError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise PeersError(f"peers '{name}' could not be installed: {error}") from error
    stamp.write_text(state)
    return python


def _uv(*arguments: str) -> None:
    beside = Path(sys.prefix) / "bin" / "uv"
    program = str(beside) if beside.exists() else shutil.which("uv")
    if program is None:
        raise PeersError("uv is missing; `make install` brings it")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip(" ×╰├▶─") for line in done.stderr.splitlines() if line.strip()]
        raise PeersError("; ".join(lines[:4]) or f"uv ended with {done.returncode}")
